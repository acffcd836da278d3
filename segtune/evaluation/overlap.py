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
    outlines: Counts | None = None  # the same of pixels near outlines alone; None where they were not counted

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
        places = [positions[group] for group in groups]

        def summed(numbers: Counts) -> Counts:
            sums = np.zeros((len(positions), *numbers.shape[1:]), dtype=np.int64)
            np.add.at(sums, places, numbers)
            return sums

        return TileCounts(summed(self.numbers), None if self.outlines is None else summed(self.outlines))

    @classmethod
    def joined(cls, parts: Sequence[TileCounts]) -> TileCounts:
        """Return the numbers of several lists of tiles as one list; outlines where all of them have these."""
        outlines = [part.outlines for part in parts if part.outlines is not None]
        together = np.concatenate(outlines) if len(outlines) == len(parts) else None
        return cls(np.concatenate([part.numbers for part in parts]), together)

    def at(self, positions: npt.NDArray[np.int64]) -> TileCounts:
        """Return the numbers of the tiles at these positions, in their order."""
        return TileCounts(self.numbers[positions], None if self.outlines is None else self.outlines[positions])

    def __len__(self) -> int:
        return len(self.numbers)


def known(value: float) -> float | None:
    """Return a score, or None for NaN."""
    return None if np.isnan(value) else float(value)
