"""Helpers: models with random weights, and scenes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
import torch
from affine import Affine
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.evaluation.predictor import Predictor
from segtune.models.build import build_model
from segtune.models.checkpoint import save_model
from segtune.models.manifest import Manifest
from tests.manifests import untrained

CPU = torch.device("cpu")
PLACE = {"crs": "EPSG:32632", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
BINARY = Labels((255,), (), True, 0)
SEVERAL = Labels((300, 1), (7,), True, 0, ("forest", "water"))


def manifest(labels: Labels = BINARY, bands: int = 3, channels: tuple[str, ...] = (), **others: Any) -> Manifest:
    """Return the manifest of a model for 8-bit images."""
    names = [*(f"image:{number}" for number in range(1, bands + 1)), *channels]
    settings = {
        "dataset": others.pop("dataset", "tiles"),
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "decoder_channels": 64,
        "image_size": 64,
        "classes": list(labels.classes),
        "class_names": list(labels.names),
        "ignore": list(labels.ignore),
        "channels": list(channels),
        "fit": others.pop("fit", "crop"),
        "nodata": others.pop("nodata", None),
        "masks_dir": others.pop("masks_dir", "gt"),
    }
    fields = {"threads": 1, "tile_size": 64} | others
    bands = [Band(name, 120.0, 30.0, 0.0, 255.0) for name in names]
    return untrained(RunConfig.from_settings(settings), labels, bands, **fields)


def network(found: Manifest) -> nn.Module:
    """Return a network with random weights, whose predictions hold every class."""
    torch.manual_seed(1)
    model = build_model(found.config, len(found.bands), found.labels.outputs).eval()
    sample = torch.from_numpy(picture(256, 256, len(found.bands))).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        # Random layers shrink differences: widen them, and let each output be as large as the others.
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.5
        model.train()
        for _ in range(4):
            model((sample - 120) / 30)
        model.eval()
        logits = model((sample - 120) / 30)
        head = model.segmentation_head[0]
        scale = 2 / logits.std(dim=(0, 2, 3))
        head.weight *= scale[:, None, None, None]
        head.bias.copy_((head.bias - logits.median(dim=3).values.median(dim=2).values[0]) * scale)
    return model


def predictor(found: Manifest) -> Predictor:
    return Predictor(network(found), found, CPU)


def saved_model(folder: Path, labels: Labels = BINARY, **fields: Any) -> Path:
    """Write a model with random weights as a run does, and return its folder."""
    found = manifest(labels, **fields)
    save_model(folder, network(found), found)
    return folder


class Pointwise(nn.Module):
    """A network that sees a pixel alone: the logit of an output is that band."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        return images[:, : self._outputs]


class Neighbourhood(nn.Module):
    """A network that sees six pixels in each direction."""

    REACH = 6

    def __init__(self, outputs: int, bands: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(bands, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()]
        self._layers = nn.Sequential(*layers, nn.Conv2d(8, outputs, 5, padding=2))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self._layers(images)
        return found


def picture(height: int, width: int, bands: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return smooth noise, (H, W, bands)."""
    noise = np.random.default_rng(seed).random((height, width, bands), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).reshape(height, width, bands)
    return np.clip(120 + (smooth - 0.5) * 900, 1, 254).astype(np.uint8)


def write_scene(path: Path, image: npt.NDArray[Any], **profile: Any) -> Path:
    height, width, bands = image.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": image.dtype, **PLACE}
    with rasterio.open(path, "w", **(settings | profile)) as file:
        file.write(image.transpose(2, 0, 1))
    return path
