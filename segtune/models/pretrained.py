"""Find the ImageNet weights of encoders: in a folder, in a local cache, or on a server to download them from."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from segtune.errors import InputError, named
from segtune.models.networks import TIMM

WEIGHTS_FOLDER = "SEGTUNE_WEIGHTS"  # environment variable: a folder with a file for each encoder
NO_WEIGHTS = "do not exist"  # why an encoder's weights are not to be had, where neither smp nor timm offers any
_ANSWER_S = 5.0  # seconds to wait for a server; the downloads themselves retry for half a minute
_LOOKUP_S = 0.5  # seconds more, for looking up the server's address, to which no timeout applies


@dataclass(frozen=True)
class _HubSource:
    """Weights in a repository of the model hub."""

    repository: str
    revision: str | None  # None: its main branch
    weights: tuple[str, ...]  # names of the file; one of them is loaded
    others: tuple[str, ...] = ()  # files that are loaded, too

    @property
    def server(self) -> str:
        """The address of the hub."""
        return constants.ENDPOINT

    def cached(self) -> Path | None:
        """Return the file in the hub's local cache; None if it, or another one that is needed, is not there."""
        if not all(self._in_cache(name) for name in self.others):
            return None
        return next(filter(None, map(self._in_cache, self.weights)), None)

    def _in_cache(self, name: str) -> Path | None:
        path = try_to_load_from_cache(self.repository, name, revision=self.revision)
        return Path(path) if isinstance(path, str) else None

    def ask(self) -> None:
        """Send one request, without retries; raise an error of the hub's client if nothing answers."""
        try:
            HfApi().model_info(self.repository, revision=self.revision, timeout=_ANSWER_S)
        except HfHubHTTPError:
            return  # the server answers; the download will tell what is wrong

    def origin(self) -> str:
        """Return the repository, and the commit that is in the cache or is asked for."""
        file = self.cached()
        commit = file.parent.name if file else self.revision
        return f"{self.server}/{self.repository}{f' at {commit}' if commit else ''}"


@dataclass(frozen=True)
class _UrlSource:
    """Weights at an address of their own, which timm downloads with torch.hub."""

    url: str

    @property
    def server(self) -> str:
        """The address of the server."""
        return f"https://{urlsplit(self.url).netloc}"

    def cached(self) -> Path | None:
        """Return the file in torch.hub's local cache; None if it is not there."""
        file = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(self.url).path).name)
        return file if file.is_file() else None

    def ask(self) -> None:
        """Send one request; raise OSError if nothing answers."""
        try:
            urlopen(Request(self.url, method="HEAD"), timeout=_ANSWER_S).close()
        except HTTPError:
            return  # the server answers; the download will tell what is wrong

    def origin(self) -> str:
        """Return the address."""
        return self.url


_Source = _HubSource | _UrlSource


def imagenet_file(encoder: str) -> Path | None:
    """Return the file with an encoder's ImageNet weights in the folder $SEGTUNE_WEIGHTS; None if there is none.

    Raises InputError if the variable names no folder.
    """
    given = os.environ.get(WEIGHTS_FOLDER)
    if not given:
        return None
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise InputError(f"{WEIGHTS_FOLDER}: {given}: no such folder; it is to hold {encoder}.safetensors")
    file = folder / f"{encoder}.safetensors"
    return file if file.exists() else None


def weights_environment() -> dict[str, str]:
    """Return the environment variables with which a process elsewhere looks for weights where this one does."""
    given = os.environ.get(WEIGHTS_FOLDER)
    folder = {WEIGHTS_FOLDER: str(Path(given).absolute())} if given else {}
    caches = {"HF_HUB_CACHE": constants.HF_HUB_CACHE, "TORCH_HOME": str(Path(torch.hub.get_dir()).parent)}
    return folder | caches


def cached_file(encoder: str) -> Path | None:
    """Return the file with an encoder's ImageNet weights in a local cache; None if there is none."""
    source = _source(encoder)
    return source.cached() if source else None


def origin(encoder: str) -> str:
    """Return where an encoder's ImageNet weights come from: a repository and its commit, or an address."""
    source = _source(encoder)
    return source.origin() if source else "nowhere"


def unavailable(encoders: Iterable[str], in_folder: bool = True) -> dict[str, str]:
    """Return the encoders whose ImageNet weights can be neither loaded from here nor downloaded, and why not.

    Nothing is downloaded. Each server is asked once, all of them at the same time, and only if something is needed from
    it. With HF_HUB_OFFLINE=1 none is asked. `in_folder` says whether a file in $SEGTUNE_WEIGHTS counts.
    """
    wanted = {encoder: _source(encoder) for encoder in encoders if not (in_folder and imagenet_file(encoder))}
    needed = [source for source in wanted.values() if source and not source.cached()]
    silent = _silent_servers(needed)
    why = {encoder: _why_unavailable(source, silent) for encoder, source in wanted.items()}
    return {encoder: reason for encoder, reason in why.items() if reason}


def fetch_weights(encoders: Iterable[str]) -> dict[str, str]:
    """Load the encoders' ImageNet weights once, so that they are in a local cache; return which cannot be, and why.

    Weights in $SEGTUNE_WEIGHTS are not looked at. No server is asked for what is cached.
    """
    listed = list(dict.fromkeys(encoders))
    lost = unavailable(listed)
    for encoder in listed:
        if encoder not in lost and not imagenet_file(encoder) and (reason := _loading_error(encoder)):
            lost[encoder] = reason
            lost |= unavailable(other for other in listed if other not in lost)  # the network may be gone
    return lost


def bringing_command(encoders: Iterable[str]) -> str:
    """Return the command that writes the encoders' weights to a folder, to be run where there is a network."""
    return f"python -m segtune.tools weights --encoders {' '.join(encoders)} --to FOLDER"


def how_to_bring(encoders: Iterable[str]) -> str:
    """Return how to bring the encoders' weights to a machine without a network."""
    command = bringing_command(encoders)
    return f"to bring the weights along, run `{command}` where there is a network, and set {WEIGHTS_FOLDER}=FOLDER here"


@contextmanager
def from_cache_alone(encoder: str) -> Iterator[None]:
    """Keep the hub's client from asking its server for weights that are cached; without an answer it would wait.

    The warnings of timm and of the hub's client are not shown: errors that matter are raised.
    """
    before = constants.HF_HUB_OFFLINE
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        constants.HF_HUB_OFFLINE = before or cached_file(encoder) is not None
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _loading_error(encoder: str) -> str | None:
    """Load an encoder's ImageNet weights, from the cache or the server; return why they cannot be, else None."""
    try:
        with from_cache_alone(encoder):
            if encoder.startswith(TIMM):
                # smp's get_encoder does not know plain ViTs.
                timm.create_model(encoder.removeprefix(TIMM), pretrained=True)
            else:
                smp.encoders.get_encoder(encoder, weights="imagenet")
    except Exception as error:
        # smp, timm, the hub's client and safetensors each raise errors of their own.
        return not_loaded(error)
    return None


def not_loaded(error: Exception) -> str:
    """Return that weights cannot be loaded, and why, as in "of resnet18 cannot be loaded (OSError: ...)"."""
    return f"cannot be loaded ({named(error)})"


def _why_unavailable(source: _Source | None, silent: dict[str, str]) -> str | None:
    if source is None:
        return NO_WEIGHTS
    if source.cached() or source.server not in silent:
        return None
    return f"cannot be downloaded: {silent[source.server]}"


def _silent_servers(sources: Iterable[_Source]) -> dict[str, str]:
    """Ask each server once; return those that do not answer within seconds, and why."""
    first = {source.server: source for source in reversed(list(sources))}
    if constants.is_offline_mode():
        return dict.fromkeys(first, "HF_HUB_OFFLINE is set")
    answers: dict[str, str | None] = {}
    # Daemons: a program may end while the address of a server is still looked up.
    threads = [threading.Thread(target=_ask, args=(source, answers), daemon=True) for source in first.values()]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + _ANSWER_S + _LOOKUP_S
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))
    told = dict(answers)
    silent = {server: told.get(server, f"no answer within {_ANSWER_S:g} s") for server in first}
    return {server: f"{server} is out of reach ({reason})" for server, reason in silent.items() if reason}


def _ask(source: _Source, answers: dict[str, str | None]) -> None:
    try:
        source.ask()
    except Exception as error:
        # The hub's client passes on whatever its HTTP library raises.
        answers[source.server] = named(error)
    else:
        answers[source.server] = None


def _source(encoder: str) -> _Source | None:
    """Return where an encoder's ImageNet weights are; None if smp or timm offers none."""
    if not encoder.startswith(TIMM):
        settings = smp.encoders.encoders[encoder]["pretrained_settings"].get("imagenet")
        if not settings:
            return None
        return _HubSource(settings["repo_id"], settings["revision"], ("model.safetensors",), ("config.json",))
    name = encoder.removeprefix(TIMM)
    if not timm.models.is_model_pretrained(name):
        return None
    found = timm.models.get_pretrained_cfg(name)
    if not found.hf_hub_id:
        return _UrlSource(found.url)
    names = (found.hf_hub_filename,) if found.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    return _HubSource(found.hf_hub_id, None, names)
