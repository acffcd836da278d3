"""Architecture + encoder -> model; and which of them go together."""

from __future__ import annotations

import functools
import os
import socket
import warnings
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import product
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants as hub
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from segtune.config import RunConfig
from segtune.errors import InputError, nearest

TIMM = "tu-"
_VIT = (f"{TIMM}vit_*", f"{TIMM}deit*", f"{TIMM}beit*", f"{TIMM}eva*")
_NOT_DILATED = (
    "vgg*",
    "densenet*",
    "xception*",
    "inception*",
    f"{TIMM}swin*",
    f"{TIMM}maxvit*",
    f"{TIMM}hrnet*",
    f"{TIMM}fastvit*",
    f"{TIMM}vgg*",
)
# Pairs that smp 0.6 refuses or fails on, by architecture.
_IMPOSSIBLE = {
    "unetplusplus": ("mit_*",),
    "linknet": ("mit_*",),
    "deeplabv3": _NOT_DILATED,
    "deeplabv3plus": _NOT_DILATED,
    "pan": _NOT_DILATED,
}
# Sides of the input that an architecture takes: a multiple of this, from this on; others: multiples of 32.
_STRIDES = {"unet": 1, "pspnet": 8, "deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}
_SMALLEST = {"pan": 128}
_DEFAULT_STRIDE = 32
_PROBE_S = 5.0  # seconds to wait for the model hub before it counts as out of reach


def unknown_encoder(name: str) -> str | None:
    """Why there is no such encoder, with the nearest name; None if there is one."""
    native, from_timm = _encoder_names()
    if name in native or (name.startswith(TIMM) and name.removeprefix(TIMM).split(".")[0] in from_timm):
        return None
    known = native | {TIMM + other for other in from_timm}
    return f"unknown encoder {name!r} (smp's, or tu-NAME for one of timm's){nearest(name, known)}"


def impossible(model: str, encoder: str, image_size: int | None) -> str | None:
    """Why an architecture, an encoder and an image size do not go together; None if they do."""
    vit = any(fnmatch(encoder, pattern) for pattern in _VIT)
    if model == "dpt" and not vit:
        return f"model dpt needs a ViT encoder of timm's (tu-vit_...), not {encoder}"
    if vit and model != "dpt":
        return f"encoder {encoder} is a plain ViT, which works only with model dpt, not {model}"
    if any(fnmatch(encoder, pattern) for pattern in _IMPOSSIBLE.get(model, ())):
        return f"model {model} does not work with encoder {encoder}"
    if image_size is None:
        return None
    stride, smallest = _STRIDES.get(model, _DEFAULT_STRIDE), _SMALLEST.get(model, 0)
    if image_size % stride:
        return f"image_size {image_size} is not a multiple of {stride}, which model {model} needs"
    if image_size < smallest:
        return f"image_size {image_size} is below {smallest}, which model {model} needs"
    return None


def check_models(models: Sequence[str], encoders: Sequence[str], sizes: Sequence[int | None]) -> list[str]:
    """What cannot work among all combinations of these, one message each."""
    found = [impossible(*combination) for combination in product(models, encoders, sizes)]
    return list(dict.fromkeys(message for message in found if message))


def fetch_weights(encoder: str) -> None:
    """Have an encoder's ImageNet weights in the hub's local cache; InputError where they cannot be had."""
    where = f"encoder_weights: imagenet weights of {encoder}"
    if not _in_cache(encoder) and not _hub_in_reach():
        raise InputError(
            f"{where} cannot be downloaded: {hub.ENDPOINT} is out of reach; "
            f"encoder_weights none starts from random weights"
        )
    try:
        smp.encoders.get_encoder(encoder, weights=_weights(encoder, "imagenet"))
    except Exception as error:
        # The hub's client raises whatever its HTTP library does; for the user they are all one thing.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where} cannot be had ({type(error).__name__}: {reason})") from None


def build_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """The network of a run, in channels_last memory format: (B, in_channels, S, S) -> (B, outputs, S, S)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (UserWarning, FutureWarning))  # of timm and smp, about themselves
        model = smp.create_model(
            config.model,
            encoder_name=config.encoder,
            encoder_weights=_weights(config.encoder, config.encoder_weights),
            in_channels=in_channels,
            classes=outputs,
        )
    return prepare_model(model)


def prepare_model(model: nn.Module) -> nn.Module:
    """Channels-last memory, and batch normalisation that survives a batch of one."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_running_statistics)
            module.register_forward_hook(_batch_statistics)
    return model.to(memory_format=torch.channels_last)


def parameter_count(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in model.parameters())


def _running_statistics(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    # One value per channel (a 1x1 feature map of the last batch's only tile) has no variance, and torch refuses
    # it in training: such a step normalises with the running statistics, as evaluation does.
    values = inputs[0]
    if module.training and values.numel() == values.shape[1]:
        module.training = False
        module._segtune_borrowed = True  # type: ignore[assignment]


def _batch_statistics(module: nn.Module, inputs: Any, output: Any) -> None:
    if getattr(module, "_segtune_borrowed", False):
        module.training = True
        del module._segtune_borrowed


def _weights(encoder: str, setting: str) -> str | bool | None:
    if setting == "none":
        return None
    return True if encoder.startswith(TIMM) else setting


@functools.cache
def _encoder_names() -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(smp.encoders.get_encoder_names()), frozenset(timm.list_models())


def _in_cache(encoder: str) -> bool:
    """Whether the hub's cache holds anything of this encoder; whether it is all, only loading it shows."""
    if encoder.startswith(TIMM):
        repo = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM)).hf_hub_id or ""
    else:
        repo = smp.encoders.encoders[encoder]["pretrained_settings"].get("imagenet", {}).get("repo_id", "")
    return bool(repo) and os.path.isdir(os.path.join(hub.HF_HUB_CACHE, "models--" + repo.replace("/", "--")))


def _hub_in_reach() -> bool:
    # The hub's client retries for half a minute before it gives up. A proxy resolves names by itself.
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    host = hub.ENDPOINT.split("://")[-1].split("/")[0]
    name, _, port = host.partition(":")
    try:
        socket.create_connection((name, int(port or 443)), timeout=_PROBE_S).close()
    except OSError:
        return False
    return True
