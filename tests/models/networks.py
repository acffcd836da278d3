"""Helpers: small networks, and a training step."""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import nn

from segtune.config import RunConfig
from segtune.models.build import build_model
from segtune.vocabulary import Architecture

ARCHITECTURES = get_args(Architecture)
ENCODER = "tu-mobilenetv3_small_050"
VIT = "tu-vit_tiny_patch16_224"


def build(model: str, encoder: str = ENCODER, size: int = 64, channels: int = 4, outputs: int = 1) -> nn.Module:
    config = RunConfig.from_settings({"model": model, "encoder": encoder, "image_size": size})
    torch.manual_seed(0)
    return build_model(config, channels, outputs)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, tiles: int, size: int, channels: int = 4) -> float:
    """Train one step on noise; return its loss."""
    images = torch.randn(tiles, channels, size, size).to(memory_format=torch.channels_last)
    logits = model(images)
    assert logits.shape == (tiles, 1, size, size)
    loss = F.binary_cross_entropy_with_logits(logits, (images[:, :1] > 0).float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.item())
