"""Create networks: an architecture of smp with an encoder of smp or timm, and the arguments that both take."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from segtune.config import RunConfig
from segtune.decoders import Decoder

TIMM = "tu-"  # smp's prefix for the name of a timm encoder
# smp's own encoders with stochastic depth; for timm's, `has_drop_path` says it of a network.
_DROP_PATH = ("efficientnet-*", "timm-efficientnet-*", "timm-tf_efficientnet_lite*", "mit_*")


@dataclass(frozen=True)
class Network:
    """What decides the layers of a network, besides the numbers of its inputs and outputs."""

    decoder: Decoder
    encoder: str
    image_size: int | None
    drop_path: float | None = None

    @classmethod
    def of(cls, config: RunConfig) -> Network:
        """Return the network of a run."""
        return cls(config.decoder, config.encoder, config.image_size, config.drop_path)

    def create(self, in_channels: int, outputs: int, pretrained: bool = False) -> nn.Module:
        """Create the network, `pretrained` with the encoder's ImageNet weights.

        What is passed to smp stands in the network's config.json. `drop_path` of smp's own encoders is not passed: it
        changes no layer, and nothing outside of training.
        """
        from_timm = self.encoder.startswith(TIMM)
        weights = (True if from_timm else "imagenet") if pretrained else None
        arguments = self.decoder.arguments() | (self._of_timm() if from_timm else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (UserWarning, FutureWarning))  # timm and smp warn about their own code
            network: nn.Module = smp.create_model(
                self.decoder.model,
                encoder_name=self.encoder,
                encoder_weights=weights,
                in_channels=in_channels,
                classes=outputs,
                **arguments,
            )
        if self.drop_path is not None and not from_timm:
            _set_drop_path(network.get_submodule("encoder"), self.drop_path)
        return network

    def _of_timm(self) -> dict[str, Any]:
        """Return the arguments of an encoder of timm."""
        arguments: dict[str, Any] = {}
        if self.drop_path is not None:
            arguments["drop_path_rate"] = self.drop_path
        if self.decoder.model == "dpt":
            arguments["dynamic_img_size"] = True  # without it, a ViT takes images of a single size
        elif self.image_size and _needs_size(self.encoder, self.image_size):
            arguments["img_size"] = self.image_size
        return arguments


def made_for_one_size(encoder: str) -> bool:
    """Return whether timm marks an encoder as made for one size, on which shapes of its tensors may depend."""
    if not encoder.startswith(TIMM):
        return False
    marked = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM))
    return marked is not None and bool(marked.fixed_input_size)


@functools.cache
def _needs_size(encoder: str, image_size: int) -> bool:
    """Return whether an encoder of timm takes square images of this size only if it is told the size.

    Some of those that timm marks as made for one size take others, too; they are left as they are.
    """
    if not made_for_one_size(encoder):
        return False
    try:
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timm.create_model(encoder.removeprefix(TIMM), features_only=True).eval()(
                torch.zeros(1, 3, image_size, image_size)
            )
    except Exception:
        return True  # timm has no error of its own for this
    return False


def takes_drop_path(encoder: str) -> bool:
    """Return whether one of smp's own encoders has stochastic depth."""
    return any(fnmatch(encoder, pattern) for pattern in _DROP_PATH)


def has_drop_path(encoder: nn.Module) -> bool:
    """Return whether an encoder that was created with `drop_path` above zero skips blocks in training."""
    return any(_droppers(encoder)) or hasattr(encoder, "_drop_connect_rate")


def _set_drop_path(encoder: nn.Module, rate: float) -> None:
    """Set the largest rate of stochastic depth; the blocks before have their share of it, as before."""
    if hasattr(encoder, "_drop_connect_rate"):  # smp's efficientnet-b0 and so on
        encoder._drop_connect_rate = rate  # type: ignore[assignment]
        return
    droppers = list(_droppers(encoder))
    largest = max((dropper.drop_prob for dropper in droppers), default=1.0)
    for dropper in droppers:
        dropper.drop_prob *= rate / largest


def _droppers(encoder: nn.Module) -> Iterator[Any]:
    return (module for module in encoder.modules() if getattr(module, "drop_prob", 0))
