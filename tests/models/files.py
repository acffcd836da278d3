"""Helpers: files of weights as other libraries write them, and models that start from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.models.build import build_model, check_weights

LITE = "tf_efficientnet_lite0"
SMALL = "mobilenetv3_small_050"


def build_from(encoder: str, weights: object, channels: int = 3, model: str = "unet") -> nn.Module:
    settings = {"model": model, "encoder": encoder, "encoder_weights": str(weights)}
    return build_model(RunConfig.from_settings(settings), channels, 1).eval()


def check(weights: object) -> None:
    check_weights([("unet", "mobilenet_v2", str(weights))])


def mistakes_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as caught:
        call()
    assert all("\n" not in mistake for mistake in caught.value.mistakes)
    return caught.value.mistakes


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def encoder_state(model: nn.Module) -> dict[str, Tensor]:
    return model.get_submodule("encoder").state_dict()


def scrambled(model: nn.Module, seed: int = 1) -> nn.Module:
    """Change all of a model's numbers, BatchNorm's statistics included, as training does."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01)
    return model.eval()


def as_torchvision_saves(name: str, classifier: str, path: Path) -> nn.Module:
    """Write weights as torchvision saves them, and return smp's encoder with the same weights."""
    encoder = scrambled(smp.encoders.get_encoder(name, weights=None))
    state = {key: value for key, value in encoder.state_dict().items() if "num_batches" not in key}
    torch.save({**state, f"{classifier}.weight": torch.zeros(9, 8), f"{classifier}.bias": torch.zeros(9)}, path)
    return encoder
