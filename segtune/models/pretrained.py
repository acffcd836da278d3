"""Download the ImageNet weights of encoders to a local cache, before anything is trained."""

from __future__ import annotations

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

from segtune.errors import InputError, one_line
from segtune.models.networks import TIMM

_ANSWER_S = 5.0  # seconds to wait for a server; the downloads themselves retry for half a minute
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # smp and timm load one of these from a repository


@dataclass(frozen=True)
class _HubSource:
    """Weights in a repository of the model hub."""

    repository: str
    revision: str | None  # None: its main branch

    @property
    def server(self) -> str:
        """The address of the hub."""
        return constants.ENDPOINT

    def cached(self) -> bool:
        """Return whether the weights are in the hub's local cache."""
        found = (try_to_load_from_cache(self.repository, name, revision=self.revision) for name in _HUB_FILES)
        return any(isinstance(path, str) for path in found)

    def ask(self) -> None:
        """Send one request, without retries; raise an error of the hub's client if nothing answers."""
        try:
            HfApi().model_info(self.repository, revision=self.revision, timeout=_ANSWER_S)
        except HfHubHTTPError:
            return  # the server answers; the download will tell what is wrong


@dataclass(frozen=True)
class _UrlSource:
    """Weights at an address of their own, which timm downloads with torch.hub."""

    url: str

    @property
    def server(self) -> str:
        """The address of the server."""
        return f"https://{urlsplit(self.url).netloc}"

    def cached(self) -> bool:
        """Return whether the weights are in torch.hub's local cache."""
        return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(self.url).path).name).is_file()

    def ask(self) -> None:
        """Send one request; raise OSError if nothing answers."""
        try:
            urlopen(Request(self.url, method="HEAD"), timeout=_ANSWER_S).close()
        except HTTPError:
            return  # the server answers; the download will tell what is wrong


def fetch_weights(encoder: str) -> None:
    """Load an encoder's ImageNet weights once, so that they are in the local cache.

    If they are cached already, no server is asked whether it answers. Raises InputError if there are no such weights,
    if their server does not answer within seconds, or if they cannot be loaded.
    """
    where = f"encoder_weights: imagenet weights of {encoder}"
    source = _source(encoder)
    if source is None:
        raise InputError(f"{where} do not exist; with encoder_weights none the encoder starts with random weights")
    if not source.cached():
        try:
            source.ask()
        except Exception as error:
            # The hub's client passes on whatever its HTTP library raises.
            raise InputError(
                f"{where} cannot be downloaded: {source.server} is out of reach ({_named(error)}); with "
                f"encoder_weights none the encoder starts with random weights"
            ) from None
    try:
        if encoder.startswith(TIMM):
            # smp's get_encoder does not know plain ViTs.
            timm.create_model(encoder.removeprefix(TIMM), pretrained=True)
        else:
            smp.encoders.get_encoder(encoder, weights="imagenet")
    except Exception as error:
        # smp, timm, the hub's client and safetensors each raise errors of their own.
        raise InputError(f"{where} cannot be loaded ({_named(error)})") from None


def _source(encoder: str) -> _HubSource | _UrlSource | None:
    """Return where an encoder's ImageNet weights are; None if smp or timm offers none."""
    if not encoder.startswith(TIMM):
        settings = smp.encoders.encoders[encoder]["pretrained_settings"].get("imagenet")
        return _HubSource(settings["repo_id"], settings["revision"]) if settings else None
    name = encoder.removeprefix(TIMM)
    if not timm.models.is_model_pretrained(name):
        return None
    found = timm.models.get_pretrained_cfg(name)
    return _HubSource(found.hf_hub_id, None) if found.hf_hub_id else _UrlSource(found.url)


def _named(error: Exception) -> str:
    """Return an error's type and text; the text alone can say little, such as that of a KeyError."""
    return f"{type(error).__name__}: {one_line(error)}"
