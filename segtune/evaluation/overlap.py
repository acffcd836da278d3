"""Compute the scores of classes from numbers of pixels: the only place where IoU, precision and recall are defined."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """Numbers of pixels, in arrays of one shape: true and predicted at once, true, and predicted.

    Each score is an array of that shape. It is NaN where there is no true pixel. It is 0 where nothing is predicted, as
    in scikit-learn.
    """

    hits: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    predicted: npt.NDArray[Any]

    @classmethod
    def of(cls, counts: Counts) -> Overlap:
        """Return the numbers of each index, (..., indices), from confusion matrices, (..., indices, indices)."""
        return cls(counts.diagonal(axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2))

    def iou(self) -> Floats:
        """Return the intersection over union."""
        return self._hits_of(self.truth + self.predicted - self.hits)

    def precision(self) -> Floats:
        """Return the share of predicted pixels that are right."""
        return self._hits_of(self.predicted)

    def recall(self) -> Floats:
        """Return the share of true pixels that are found."""
        return self._hits_of(self.truth)

    def f1(self) -> Floats:
        """Return the harmonic mean of precision and recall, which is also called Dice."""
        return self._hits_of((self.truth + self.predicted) / 2)

    def _hits_of(self, whole: npt.NDArray[Any]) -> Floats:
        return np.where(self.truth > 0, self.hits / np.maximum(whole, 1), np.nan)


@dataclass(frozen=True)
class TileCounts:
    """Numbers of pixels of each tile: all that intervals and tables need, and less than a confusion matrix of each."""

    numbers: Counts  # (tiles, 3, K + 1): true and predicted at once, true, predicted; by index, background first

    @classmethod
    def of(cls, matrices: Counts) -> TileCounts:
        """Return the numbers of tiles, or of one, from confusion matrices, (tiles, K + 1, K + 1)."""
        overlap = Overlap.of(matrices)
        return cls(np.stack([overlap.hits, overlap.truth, overlap.predicted], axis=-2))

    @property
    def overlap(self) -> Overlap:
        """The numbers as arrays, (tiles, K + 1)."""
        return Overlap(*self.numbers.swapaxes(0, 1))

    def total(self) -> Overlap:
        """Return the numbers of all tiles together, (K + 1)."""
        return Overlap(*self.numbers.sum(axis=0))

    def grouped(self, groups: Sequence[Hashable]) -> TileCounts:
        """Return the sums of groups, in the order of their first tiles; `groups` names the group of each tile."""
        positions: dict[Hashable, int] = {}
        for group in groups:
            positions.setdefault(group, len(positions))
        sums = np.zeros((len(positions), *self.numbers.shape[1:]), dtype=np.int64)
        np.add.at(sums, [positions[group] for group in groups], self.numbers)
        return TileCounts(sums)

    def __len__(self) -> int:
        return len(self.numbers)


def known(value: float) -> float | None:
    """Return a score, or None for NaN."""
    return None if np.isnan(value) else float(value)
