"""Architecture + encoder -> model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import nn

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.models.batchnorm import allow_single_values
from segtune.models.compatibility import TIMM, incompatibility
from segtune.models.pretrained import fetch_weights
from segtune.models.weights import COLOURS, fitting_weights, load_weights, read_weights, weights_file


def check_weights(starts: Iterable[tuple[str, str, str]], in_channels: int | None = None) -> None:
    """Refuse initial weights that cannot be had or do not fit, before anything is trained; nothing is kept.

    Parameters
    ----------
    starts: (model, encoder, encoder_weights) of each run. ImageNet weights are fetched into the hub's local cache;
        a file is read and held against the encoder as this architecture uses it.
    in_channels: bands of the input where they are known, else None: then a file whose first convolution takes other
        than 3 channels passes, and is refused only by `build_model`.

    Raises InputError with every mistake. A file is not compared with a pair that is incompatible.
    """
    read = functools.cache(read_weights)

    def check_file(model: str, encoder: str, file: Path) -> None:
        fitting_weights(read(file), _outline(model, encoder, in_channels), encoder, in_channels, file)

    checks: dict[tuple[str, ...], Callable[[], None]] = {}
    for model, encoder, weights in starts:
        file = weights_file(weights)
        if weights == "imagenet":
            checks[encoder, weights] = partial(fetch_weights, encoder)
        elif file and not incompatibility(model, encoder, None):
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
    allow_single_values(model)
    return model.to(memory_format=torch.channels_last)


def blank_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """The network of a run with random weights, for others to be loaded; nothing is downloaded."""
    return _create(config.model, config.encoder, in_channels, outputs)


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
