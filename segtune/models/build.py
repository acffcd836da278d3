"""Build networks: an architecture of smp around an encoder, with its initial weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from segtune.config import RunConfig
from segtune.decoders import Decoder
from segtune.errors import InputError
from segtune.models.batchnorm import allow_single_values
from segtune.models.compatibility import incompatibility
from segtune.models.networks import Network, made_for_one_size
from segtune.models.pretrained import (
    NO_WEIGHTS,
    fetch_weights,
    from_cache_alone,
    how_to_bring,
    imagenet_file,
    unavailable,
)
from segtune.models.weights import COLOURS, fitting_weights, load_weights, read_weights, weights_file


def check_weights(
    starts: Iterable[tuple[str, str, str]], in_channels: int | None = None, image_size: int | None = None
) -> None:
    """Raise InputError, before anything is trained, if initial weights are missing or do not fit.

    Every mistake is in the error, each one once. ImageNet weights come from $SEGTUNE_WEIGHTS, or are downloaded to the
    local cache; nothing else is kept.

    Parameters
    ----------
    starts: (model, encoder, encoder_weights) of each run. A file is compared with the encoder as this architecture
        uses it, unless the two are incompatible.
    in_channels: number of input bands; None if it is not known yet. Then a file whose first convolution takes a
        number of channels other than 3 passes this check, and only `build_model` can refuse it.
    image_size: side of the input; None if it is not known yet. Then encoders that are made for one size, whose tensors
        can depend on it, pass this check.
    """
    networks: dict[Path, dict[tuple[str, str], None]] = {}  # by file; a dict drops duplicates and keeps the order
    imagenet: dict[str, None] = {}
    for model, encoder, weights in starts:
        file = initial_file(encoder, weights)
        if file and not incompatibility(model, encoder, None):
            networks.setdefault(file, {})[model, encoder] = None
        elif weights == "imagenet":
            imagenet[encoder] = None
    mistakes = dict.fromkeys(
        line for file in networks for line in _misfits(file, networks[file], in_channels, image_size)
    )
    lost = (unavailable if mistakes else fetch_weights)(imagenet) if imagenet else {}
    mistakes |= dict.fromkeys(_lost_line(encoder, reason) for encoder, reason in lost.items())
    if mistakes:
        raise InputError(mistakes)


def _misfits(
    file: Path, networks: Iterable[tuple[str, str]], in_channels: int | None, image_size: int | None
) -> Iterator[str]:
    """Yield what is wrong with a file of weights for these networks, (model, encoder)."""
    try:
        tensors = read_weights(file)
    except InputError as error:
        yield from error.mistakes
        return
    for model, encoder in networks:
        of_one_size = made_for_one_size(encoder)
        if of_one_size and image_size is None:
            continue  # the shapes that the run needs are not known yet
        try:
            outline = _outline(_bare(model, encoder, image_size), in_channels)
            fitting_weights(tensors, outline, encoder, in_channels, file)
        except InputError as error:
            hint = f"; its tensors depend on image_size, which is {image_size} here" if of_one_size else ""
            yield from (f"{mistake}{hint}" for mistake in error.mistakes)


def initial_file(encoder: str, weights: str) -> Path | None:
    """Return the file that an encoder starts from; None if it starts from a library's cache, or from random weights."""
    return imagenet_file(encoder) if weights == "imagenet" else weights_file(weights)


def _lost_line(encoder: str, reason: str) -> str:
    bring = "" if reason == NO_WEIGHTS else f"; {how_to_bring([encoder])}"
    return f"encoder_weights: imagenet weights of {encoder} {reason}; with none, it starts with random weights{bring}"


def build_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """Build the network of a run, in channels_last memory format: (B, in_channels, S, S) -> (B, outputs, S, S).

    The encoder starts with the weights that `encoder_weights` names. If they are for 3 channels and the input has
    another number, a single channel gets the sum of the three, and n channels get them in turn, times 3/n. (smp does
    this with downloaded weights; here it applies to files too.) A file whose first convolution already takes
    `in_channels` is used unchanged. Raises InputError if the file does not fit.
    """
    file = initial_file(config.encoder, config.encoder_weights)
    imagenet = config.encoder_weights == "imagenet" and not file
    with from_cache_alone(config.encoder) if imagenet else nullcontext():
        model = Network.of(config).create(in_channels, outputs, imagenet)
    if file:
        encoder = model.get_submodule("encoder")
        load_weights(encoder, fitting_weights(read_weights(file), encoder, config.encoder, in_channels, file))
    allow_single_values(model)
    return model.to(memory_format=torch.channels_last)


def blank_model(config: RunConfig, in_channels: int, outputs: int) -> nn.Module:
    """Build the network of a run with random weights, to load saved ones into; nothing is downloaded."""
    return Network.of(config).create(in_channels, outputs)


def imagenet_encoder(encoder: str) -> nn.Module:
    """Build an encoder for 3 channels with its ImageNet weights, from the cache or the server."""
    model = "dpt" if incompatibility("unet", encoder, None) else "unet"  # plain ViTs work only in dpt
    with from_cache_alone(encoder):
        return _bare(model, encoder).create(COLOURS, 1, pretrained=True).get_submodule("encoder")


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


def _outline(network: Network, in_channels: int | None) -> nn.Module:
    """Return a network's encoder (pspnet's is shallower than others'), for its tensors' shapes.

    It is built on the meta device, where tensors take no memory, if the encoder allows that.
    """
    try:
        with torch.device("meta"):
            built = network.create(in_channels or COLOURS, 1)
    except RuntimeError:  # mit_* read numbers while they are built, and meta tensors have none
        built = network.create(in_channels or COLOURS, 1)
    return built.get_submodule("encoder")


def _bare(model: str, encoder: str, image_size: int | None = None) -> Network:
    """Return a network with the architecture's own decoder, for the sake of its encoder."""
    return Network(Decoder(model, None, "none", None), encoder, image_size)
