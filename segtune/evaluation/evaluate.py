"""Measure a model on a split: the same function for every epoch of a training and for validate.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from segtune.data.batches import Batches
from segtune.data.labels import Indices
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.predict import OnLogits, predict
from segtune.models.manifest import Manifest

OnTile = Callable[[int, Indices, Indices], None]  # position in the split, predicted indices, true indices


def evaluate(
    model: nn.Module,
    manifest: Manifest,
    batches: Batches,
    device: torch.device,
    on_tile: OnTile | None = None,
    on_batch: Callable[[], None] | None = None,
    on_logits: OnLogits | None = None,
) -> ConfusionMatrix:
    """Count a model's right and wrong pixels on a split's tiles, each at the size of its mask.

    `on_tile` gets each tile's position in the split, its predicted indices and its true ones, (H, W), uint8.
    `on_batch` is called after every batch, and `on_logits` with what the network returns. At most `batches.batch_size`
    tiles, or windows of a tile, go through the network at a time. The model is left in evaluation mode.
    """
    matrix = ConfusionMatrix(manifest.labels.classes)
    for number, predictions in enumerate(predict(model, manifest, batches, device, on_logits)):
        for index, (predicted, truth) in enumerate(predictions, batches.first_tile(number)):
            matrix.update(predicted, truth)
            if on_tile:
                on_tile(index, predicted, truth)
        if on_batch:
            on_batch()
    return matrix
