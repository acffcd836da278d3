"""Measure a model on a split: the same function for every epoch of a training and for validate.py."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segtune.data.batches import Batches
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.predict import OnLogits, TilePrediction, predict
from segtune.evaluation.predictor import Predictor
from segtune.values import OVERLAP

OnTile = Callable[[int, TilePrediction], None]  # position in the split, and what was predicted


@torch.no_grad()
def evaluate(
    predictor: Predictor,
    batches: Batches,
    on_tile: OnTile | None = None,
    on_batch: Callable[[], None] | None = None,
    on_logits: OnLogits | None = None,
    overlap: float = OVERLAP,
) -> ConfusionMatrix:
    """Count a model's right and wrong pixels on a split's tiles, each at the size of its mask.

    `on_tile` gets each tile's position in the split and its prediction. `on_batch` is called after every batch, and
    `on_logits` with what the network returns. At most `batches.batch_size` tiles, or windows of a tile, go through the
    network at a time; windows overlap by this share of their side.
    """
    matrix = ConfusionMatrix(predictor.manifest.labels.classes)
    for number, predictions in enumerate(predict(predictor, batches, overlap, on_logits)):
        for index, prediction in enumerate(predictions, batches.first_tile(number)):
            matrix.update(prediction.indices, prediction.truth)
            if on_tile:
                on_tile(index, prediction)
        if on_batch:
            on_batch()
    return matrix
