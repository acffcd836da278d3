"""Architecture + encoder -> model; and which of them go together."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from segtune.config import RunConfig
from segtune.errors import InputError, nearest
from segtune.models.pretrained import (
    COLOURS,
    TIMM,
    fetch_weights,
    fitting_weights,
    load_weights,
    read_weights,
    weights_file,
)

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


def unknown_encoder(name: str) -> str | None:
    """Why there is no such encoder, with the nearest name; None if there is one."""
    native, from_timm = _encoder_names()
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    if name.startswith(TIMM) and architecture in from_timm:
        tagged = {TIMM + full for full in timm.models.get_arch_pretrained_cfgs(architecture)}
        return None if not tag or name in tagged else f"timm has no weights {name!r}{nearest(name, tagged)}"
    if name in native:
        return None
    known = native | {TIMM + other for other in from_timm}
    of_timm = TIMM + name.removeprefix("timm-")
    meant = f"; did you mean {of_timm!r}?" if name.startswith("timm-") and of_timm in known else nearest(name, known)
    return f"unknown encoder {name!r} (smp's, or tu-NAME for one of timm's){meant}"


def impossible(model: str, encoder: str, image_size: int | None) -> str | None:
    """Why an architecture, an encoder and an image size do not go together; None if they do."""
    vit = any(fnmatch(encoder, pattern) for pattern in _VIT)
    if model == "dpt" and not vit:
        return f"model dpt needs a ViT encoder of timm's (tu-vit_...), not {encoder}"
    if vit and model != "dpt":
        return f"encoder {encoder} is a plain ViT, which works only with model dpt, not {model}"
    if model == "dpt" and "patch14" in encoder:
        return f"model dpt does not work with encoder {encoder}: its patches of 14 pixels do not go into 32"
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


def check_weights(starts: Iterable[tuple[str, str, str]], in_channels: int | None = None) -> None:
    """Refuse initial weights that cannot be had or do not fit, before anything is trained; nothing is kept.

    Parameters
    ----------
    starts: (model, encoder, encoder_weights) of each run. ImageNet weights are fetched into the hub's local cache;
        a file is read and held against the encoder as this architecture uses it.
    in_channels: bands of the input where they are known, else None: then a file whose first convolution takes other
        than 3 channels passes, and is refused only by `build_model`.

    Raises InputError with every mistake. A file is not held against a pair that is `impossible`.
    """
    read = functools.cache(read_weights)

    def check_file(model: str, encoder: str, file: Path) -> None:
        fitting_weights(read(file), _outline(model, encoder, in_channels), encoder, in_channels, file)

    checks: dict[tuple[str, ...], Callable[[], None]] = {}
    for model, encoder, weights in starts:
        file = weights_file(weights)
        if weights == "imagenet":
            checks[encoder, weights] = partial(fetch_weights, encoder)
        elif file and not impossible(model, encoder, None):
            checks[model, encoder, weights] = partial(check_file, model, encoder, file)
    mistakes: dict[str, None] = {}  # one that several runs share is told once
    for check in checks.values():
        try:
            check()
        except InputError as error:
            mistakes.update(dict.fromkeys(error.mistakes))
    if mistakes:
        raise InputError(mistakes)


def build_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """The network of a run, in channels_last memory format: (B, in_channels, S, S) -> (B, outputs, S, S).

    The encoder starts as `encoder_weights` says. From weights of 3 channels, one channel gets their sum, and n get
    them in turn, times 3/n: what smp does with weights that it downloads, and now with a file's too. A file whose
    first convolution takes `in_channels` is used as it is. Raises InputError where the file does not fit.
    """
    model = _create(config.model, config.encoder, in_channels, outputs, config.encoder_weights == "imagenet")
    if file := weights_file(config.encoder_weights):
        encoder = model.get_submodule("encoder")
        load_weights(encoder, fitting_weights(read_weights(file), encoder, config.encoder, in_channels, file))
    return prepare_model(model)


def blank_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """The network of a run with random weights, for others to be loaded; nothing is downloaded."""
    return _create(config.model, config.encoder, in_channels, outputs)


def prepare_model(model: nn.Module) -> nn.Module:
    """Channels-last memory, and batch normalisation that survives a batch of one."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_running_statistics)
            module.register_forward_hook(_batch_statistics)
    return model.to(memory_format=torch.channels_last)


def freeze_encoder(model: nn.Module, frozen: bool) -> None:
    """Keep the encoder as it is, or let it train; call it after every `model.train()`, which knows of no freezing.

    A frozen encoder gets no gradients and runs in evaluation mode, so that BatchNorm's running statistics stay and
    nothing is dropped. (smp's own `freeze_encoder` leaves dropout and stochastic depth on, in evaluation too.)
    """
    encoder = model.get_submodule("encoder")
    encoder.requires_grad_(not frozen)
    if frozen:
        encoder.eval()


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


def _create(model: str, encoder: str, in_channels: int, outputs: int, imagenet: bool = False) -> nn.Module:
    weights = (True if encoder.startswith(TIMM) else "imagenet") if imagenet else None
    # Without it a ViT takes images of the one size that it was made for.
    more = {"dynamic_img_size": True} if model == "dpt" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (UserWarning, FutureWarning))  # of timm and smp, about themselves
        network: nn.Module = smp.create_model(
            model, encoder_name=encoder, encoder_weights=weights, in_channels=in_channels, classes=outputs, **more
        )
    return network


def _outline(model: str, encoder: str, in_channels: int | None) -> nn.Module:
    """The encoder as an architecture uses it (pspnet's is shallower than others'), where possible without memory."""
    try:
        with torch.device("meta"):
            network = _create(model, encoder, in_channels or COLOURS, 1)
    except RuntimeError:  # mit_* look at numbers while they are built, which nothing on meta has
        network = _create(model, encoder, in_channels or COLOURS, 1)
    return network.get_submodule("encoder")


@functools.cache
def _encoder_names() -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(smp.encoders.get_encoder_names()), frozenset(timm.list_models())
