"""ImageNet weights of encoders, from smp's and timm's hubs."""

from __future__ import annotations

import socket
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants as hub

from segtune.errors import InputError, one_line
from segtune.models.compatibility import TIMM

_PROBE_S = 5.0  # seconds to wait for a server before it counts as out of reach
_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


def fetch_weights(encoder: str) -> None:
    """Have an encoder's ImageNet weights in a local cache; InputError where they cannot be had."""
    where = f"encoder_weights: imagenet weights of {encoder}"
    if not _pretrained(encoder):
        raise InputError(f"{where} do not exist; encoder_weights none starts from random weights")
    repository, url = _source(encoder)
    server = hub.ENDPOINT if repository else f"https://{urlsplit(url).netloc}"
    if not (_in_hub_cache(repository) if repository else _in_torch_cache(url)) and not _in_reach(server):
        raise InputError(
            f"{where} cannot be downloaded: {server} is out of reach; encoder_weights none starts from random weights"
        )
    try:
        if encoder.startswith(TIMM):
            # Not by smp, whose get_encoder knows no plain ViT.
            timm.create_model(encoder.removeprefix(TIMM), pretrained=True)
        else:
            smp.encoders.get_encoder(encoder, weights="imagenet")
    except Exception as error:
        # The hub's client raises whatever its HTTP library does; for the user they are all one thing. Some texts alone
        # say little, such as that of a KeyError.
        raise InputError(f"{where} cannot be had ({type(error).__name__}: {one_line(error)})") from None


def _pretrained(encoder: str) -> bool:
    """Whether smp or timm offers ImageNet weights of an encoder; of some smp has only others' weights."""
    if encoder.startswith(TIMM):
        return bool(timm.models.is_model_pretrained(encoder.removeprefix(TIMM)))
    return "imagenet" in smp.encoders.encoders[encoder]["pretrained_settings"]


def _source(encoder: str) -> tuple[str, str]:
    """Where an encoder's ImageNet weights lie: a repository of the model hub, or, where that is empty, a URL."""
    if encoder.startswith(TIMM):
        settings = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM))
        return settings.hf_hub_id or "", settings.url or ""
    return smp.encoders.encoders[encoder]["pretrained_settings"].get("imagenet", {}).get("repo_id", ""), ""


def _in_hub_cache(repository: str) -> bool:
    """Whether the hub's cache holds weights of a repository, and not only what a broken download left behind."""
    files = Path(hub.HF_HUB_CACHE, "models--" + repository.replace("/", "--")).glob("snapshots/*/*")
    return any(file.suffix in _WEIGHTS_SUFFIXES and file.exists() for file in files)


def _in_torch_cache(url: str) -> bool:
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(url).path).name).is_file()


def _in_reach(server: str) -> bool:
    """Whether a server, or the proxy before it, answers: those who download try for half a minute."""
    place = urlsplit(server)
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(place.netloc):
        place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        socket.create_connection((place.hostname or "", port), timeout=_PROBE_S).close()
    except (OSError, ValueError):  # ValueError: a proxy whose port is no number
        return False
    return True
