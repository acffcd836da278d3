"""Build networks: an architecture of smp around an encoder, with its initial weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from segtune.config import RunConfig
from segtune.decoders import Decoder
from segtune.errors import InputError
from segtune.models.batchnorm import allow_single_values
from segtune.models.compatibility import incompatibility
from segtune.models.networks import Network
from segtune.models.pretrained import fetch_weights
from segtune.models.weights import COLOURS, fitting_weights, load_weights, read_weights, weights_file


def check_weights(starts: Iterable[tuple[str, str, str]], in_channels: int | None = None) -> None:
    """Raise InputError, before anything is trained, if initial weights are missing or do not fit.

    Every mistake is in the error, each one once. ImageNet weights are downloaded to the local cache; nothing else is
    kept.

    Parameters
    ----------
    starts: (model, encoder, encoder_weights) of each run. A file is compared with the encoder as this architecture
        uses it, unless the two are incompatible.
    in_channels: number of input bands; None if it is not known yet. Then a file whose first convolution takes a
        number of channels other than 3 passes this check, and only `build_model` can refuse it.
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
    mistakes: dict[str, None] = {}  # a dict drops duplicates and keeps the order
    for check in checks.values():
        try:
            check()
        except InputError as error:
            mistakes.update(dict.fromkeys(error.mistakes))
    if mistakes:
        raise InputError(mistakes)


def build_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """Build the network of a run, in channels_last memory format: (B, in_channels, S, S) -> (B, outputs, S, S).

    The encoder starts with the weights that `encoder_weights` names. If they are for 3 channels and the input has
    another number, a single channel gets the sum of the three, and n channels get them in turn, times 3/n. (smp does
    this with downloaded weights; here it applies to files too.) A file whose first convolution already takes
    `in_channels` is used unchanged. Raises InputError if the file does not fit.
    """
    model = Network.of(config).create(in_channels, outputs, config.encoder_weights == "imagenet")
    if file := weights_file(config.encoder_weights):
        encoder = model.get_submodule("encoder")
        load_weights(encoder, fitting_weights(read_weights(file), encoder, config.encoder, in_channels, file))
    allow_single_values(model)
    return model.to(memory_format=torch.channels_last)


def blank_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """Build the network of a run with random weights, to load saved ones into; nothing is downloaded."""
    return Network.of(config).create(in_channels, outputs)


def freeze_encoder(model: nn.Module, frozen: bool) -> None:
    """Freeze the encoder, or let it train. Call this after every `model.train()`, which undoes it.

    A frozen encoder gets no gradients and runs in evaluation mode: BatchNorm's running statistics do not change, and
    there is no dropout. (smp's own `freeze_encoder` leaves dropout and stochastic depth on, in evaluation too.)
    """
    encoder = model.get_submodule("encoder")
    encoder.requires_grad_(not frozen)
    if frozen:
        encoder.eval()


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def _outline(model: str, encoder: str, in_channels: int | None) -> nn.Module:
    """Return the encoder as this architecture uses it (pspnet's is shallower than others'), for its tensors' shapes.

    It is built on the meta device, where tensors take no memory, if the encoder allows that.
    """
    network = Network(Decoder(model, None, "none", None), encoder, None)
    try:
        with torch.device("meta"):
            built = network.create(in_channels or COLOURS, 1)
    except RuntimeError:  # mit_* read numbers while they are built, and meta tensors have none
        built = network.create(in_channels or COLOURS, 1)
    return built.get_submodule("encoder")
