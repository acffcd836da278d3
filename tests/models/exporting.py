"""Helpers: a model of one layer, which exports fast, its manifest, and the pixels that it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.evaluation.predict import most_likely, probabilities
from segtune.evaluation.predictor import Predictor
from segtune.models.export import Images
from segtune.models.manifest import Manifest
from tests.manifests import untrained
from tests.models.saved import CPU

SIZE = 32
BANDS = (Band("image:1", 90.0, 40.0, 0.0, 255.0), Band("image:2", 30.0, 10.0, 0.0, 80.0))


def manifest_of(classes: tuple[int, ...] = (3,), background: bool = True, **changes: Any) -> Manifest:
    """Return the manifest of a model with two bands; `changes` are its fields, or settings of its run."""
    fields = {name: changes.pop(name) for name in list(changes) if name in Manifest.__dataclass_fields__}
    settings = {"model": "unet", "encoder": "resnet18", "image_size": SIZE, "encoder_weights": "none", **changes}
    config = RunConfig.from_settings({"dataset": "tiles", "classes": list(classes), **settings})
    found = [0, *classes] if background else classes
    labels = Labels.from_masks(config.classes, config.ignore, found, config.class_names)
    return untrained(config, labels, **{"bands": BANDS, **fields})


def layer(manifest: Manifest, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv2d(len(manifest.bands), manifest.labels.outputs, 3, padding=1).eval()


def pixels(number: int = 3) -> Images:
    """Return tiles, (B, S, S, bands), that differ from each other."""
    random = np.random.default_rng(1)
    return random.integers(0, 255, (number, SIZE, SIZE, len(BANDS))).astype(np.float32)


def expected(model: nn.Module, manifest: Manifest, images: Images) -> tuple[Tensor, Tensor]:
    """Return the probabilities and the data set's labels that validate.py would write."""
    logits = Predictor(model, manifest, CPU).logits(torch.from_numpy(images))
    indices = most_likely(logits, manifest.labels, manifest.threshold)
    labels = manifest.labels.to_labels(indices.numpy())
    return probabilities(logits, manifest.labels), torch.from_numpy(labels)


def to_input(images: Images) -> Images:
    """Return images as exported files take them, (B, bands, S, S)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
