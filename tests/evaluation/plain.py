"""Helpers: models as smp's save_pretrained writes them, without run.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from tests.evaluation.scenes import picture

ENCODER = "tu-mobilenetv3_small_050"
MEAN, STD = [120.0, 110.0, 100.0, 90.0], [30.0, 31.0, 32.0, 33.0]


def plain_model(folder: Path, classes: int = 3, bands: int = 3, kind: str = "Unet", **others: Any) -> nn.Module:
    """Save a network with random weights whose predictions hold every class, and return it as it is without flags."""
    torch.manual_seed(1)
    settings = {"encoder_weights": None, "in_channels": bands, "classes": classes} | others
    model = getattr(smp, kind)(settings.pop("encoder_name", ENCODER), **settings).eval()
    sample = normalized(torch.from_numpy(picture(128, 128, bands)).float().permute(2, 0, 1)[None])
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.5
        model.train()
        for _ in range(3):
            model(torch.cat([sample, sample.flip(3)]))
        model.eval()
        if kind != "DPT":  # whose head is a module of its own
            _widen(model, sample)
    model.save_pretrained(folder)
    return model


def _widen(model: nn.Module, sample: Tensor) -> None:
    """Widen the differences that random layers shrink, and let each output be as large as the others."""
    head = model.segmentation_head[0]
    features = model.encoder(sample)
    logits = head(model.decoder(features))
    scale = 2 / logits.std(dim=(0, 2, 3))
    head.weight *= scale[:, None, None, None]
    head.bias.copy_((head.bias - logits.flatten(2).median(dim=2).values[0]) * scale)


def normalized(images: Tensor) -> Tensor:
    """Normalize (B, bands, H, W)."""
    mean, std = (torch.tensor(values[: images.shape[1]])[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def flags(bands: int = 3) -> list[str]:
    """Return the flags with mean and standard deviation."""
    return ["--mean", ",".join(map(str, MEAN[:bands])), "--std", ",".join(map(str, STD[:bands]))]
