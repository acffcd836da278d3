"""Helpers: the settings of a saved model, its outputs, and the message of a refused load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.errors import InputError
from segtune.models.checkpoint import load_model

CPU = torch.device("cpu")
CONFIG = RunConfig(
    dataset="tiles",
    model="unet",
    encoder="tu-mobilenetv3_small_050",
    image_size=32,
    classes=[3, 300],
    ignore=[7],
    channels=["höhe"],
    lr=1e-5,
)
BANDS = tuple(Band(name, 0.1 + 1 / 3, 1e-7, -1.5, 3e4) for name in ("image:1", "image:2", "image:3", "höhe"))


def outputs(model: nn.Module) -> torch.Tensor:
    images = torch.linspace(-2, 2, 2 * 4 * 32 * 32).reshape(2, 4, 32, 32).to(memory_format=torch.channels_last)
    with torch.no_grad():
        return model(images)


def refused(folder: Path) -> str:
    """Return the one line with which load_model refuses a folder."""
    with pytest.raises(InputError) as caught:
        load_model(folder, CPU)
    (message,) = caught.value.mistakes
    assert "\n" not in message
    return message
