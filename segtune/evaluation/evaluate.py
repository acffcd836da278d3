"""Measure a model on a split: the same function for every epoch of a training and for validate.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segtune.data.batches import Batches
from segtune.evaluation.boundary import BoundaryCounts
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.predict import OnLogits, TilePrediction, predict
from segtune.evaluation.predictor import Predictor
from segtune.values import OVERLAP

OnTile = Callable[[int, TilePrediction], None]  # position in the split, and what was predicted


@dataclass(frozen=True)
class Evaluated:
    """What was counted on tiles of a split, each at the size of its mask."""

    matrix: ConfusionMatrix  # of all of them
    positions: tuple[int, ...]  # of the tiles in the split
    tiles: TileCounts  # in the order of `positions`

    @classmethod
    def joined(cls, parts: Sequence[Evaluated]) -> Evaluated:
        """Return what several processes counted as one, in the order of the split."""
        matrix = ConfusionMatrix(parts[0].matrix.classes)
        for part in parts:
            matrix.add(part.matrix)
        positions = np.concatenate([np.array(part.positions, dtype=np.int64) for part in parts])
        order = positions.argsort()
        tiles = TileCounts.joined([part.tiles for part in parts])
        return cls(matrix, tuple(positions[order].tolist()), tiles.at(order))


@torch.no_grad()
def evaluate(
    predictor: Predictor,
    batches: Batches,
    on_tile: OnTile | None = None,
    on_batch: Callable[[], None] | None = None,
    on_logits: OnLogits | None = None,
    overlap: float = OVERLAP,
    outlines: bool = False,
) -> Evaluated:
    """Count a model's right and wrong pixels on a split's tiles, each at the size of its mask.

    `on_tile` gets each tile's position in the split and its prediction. `on_batch` is called after every batch, and
    `on_logits` with what the network returns. At most `batches.batch_size` tiles, or windows of a tile, go through the
    network at a time; windows overlap by this share of their side. `outlines`: also count the pixels near outlines.
    """
    classes = predictor.manifest.labels.classes
    matrix = ConfusionMatrix(classes)
    positions: list[int] = []
    numbers = [np.zeros((0, 3, len(classes) + 1), dtype=np.int64)]
    boundary = BoundaryCounts(classes) if outlines else None
    for number, predictions in enumerate(predict(predictor, batches, overlap, on_logits)):
        for index, prediction in enumerate(predictions, batches.first_tile(number)):
            own = ConfusionMatrix(classes)
            own.update(prediction.indices, prediction.truth)
            matrix.add(own)
            positions.append(index)
            numbers.append(TileCounts.of(own.counts[None]).numbers)
            if boundary:
                boundary.update(prediction.indices, prediction.truth)
            if on_tile:
                on_tile(index, prediction)
        if on_batch:
            on_batch()
    tiles = TileCounts(np.concatenate(numbers), boundary.numbers() if boundary else None)
    return Evaluated(matrix, tuple(positions), tiles)
