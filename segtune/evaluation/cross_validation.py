"""What folds showed: the scores of their models, and the score of all tiles together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segtune.evaluation.grouping import Grouping, grouped_intervals
from segtune.evaluation.intervals import Intervals
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import TileCounts


@dataclass(frozen=True)
class CrossValidated:
    """The mIoU of each fold, and of all tiles together.

    The mean is that of the folds, as people report it. The deviation from fold to fold holds the chance of tiles and
    of trainings. It does not divide into the error of the mean, since folds share their training tiles (Bengio and
    Grandvalet 2004); the interval is therefore that of all tiles together.
    """

    scores: tuple[float, ...]  # by fold
    pooled: float  # mIoU of all tiles together
    intervals: Intervals  # of that
    drawn: str | None  # a line about what was drawn for them, where that matters

    @property
    def mean(self) -> float:
        """The mean mIoU of the folds."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """The standard deviation of mIoU from fold to fold."""
        return statistics.stdev(self.scores)

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        own = {"scores": list(self.scores), "mean": self.mean, "deviation": self.deviation, "miou": self.pooled}
        return own | {"intervals": self.intervals.plain()}


def cross_validated(
    folds: Sequence[int], counts: Sequence[TileCounts], classes: Sequence[int], grouping: Grouping
) -> CrossValidated:
    """Return what folds showed.

    Parameters
    ----------
    folds: the fold of each tile, from 0.
    counts: what the model of each fold counted on the fold's tiles, in the order of the tiles.
    classes: the labels of the classes.
    grouping: which of the tiles are drawn together.

    Raises ValueError where no class occurs in the masks of a fold.
    """
    scores = [mean_iou(own.total()) for own in counts]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        raise ValueError("none of the classes occurs in the masks of a fold")
    numbers = np.zeros((len(folds), *counts[0].numbers.shape[1:]), dtype=np.int64)
    for fold, own in enumerate(counts):
        numbers[np.flatnonzero(np.array(folds) == fold)] = own.numbers
    every = TileCounts(numbers)
    intervals, drawn = grouped_intervals(every, classes, grouping)
    assert intervals  # at least two folds, each with a tile
    return CrossValidated(tuple(known), intervals.miou.value, intervals, drawn)
