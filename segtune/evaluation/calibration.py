"""Measure whether a model is right as often as its probabilities say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.data.labels import IGNORED, Indices, Labels

BINS = 15


@dataclass(frozen=True)
class CalibrationBin:
    """The pixels whose confidence lies between two limits; the upper one belongs to the next bin, but for the last."""

    low: float
    high: float
    share: float  # of all pixels
    confidence: float | None  # mean; None if the bin is empty
    accuracy: float | None  # share of the bin's pixels that are right; None if the bin is empty

    def plain(self) -> dict[str, float | None]:
        """Return the bin as it stands in metrics.json."""
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error, 0 to 1, and the bins that it comes from."""

    ece: float
    bins: tuple[CalibrationBin, ...]

    def plain(self) -> dict[str, Any]:
        """Return the error and the bins as they stand in metrics.json."""
        return {"ece": self.ece, "bins": [part.plain() for part in self.bins]}


class CalibrationCounts:
    """Numbers of pixels, and how many of them are right, by confidence: the probability of the most likely output.

    With one class, that is the probability of the more likely side, whatever the model's threshold is. The error is
    that of Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), with 15 bins: the mean over
    all pixels of how far accuracy and confidence of their bin are apart.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._pixels, self._right = np.zeros((2, BINS), dtype=np.int64)
        self._confidence = np.zeros(BINS)

    def update(self, truth: Indices, probabilities: npt.NDArray[np.float32]) -> None:
        """Add a tile: true indices, (H, W), uint8, and the probabilities of the outputs, (outputs, H, W)."""
        if self._labels.binary:
            likely = probabilities[0]
            confidence, predicted = np.maximum(likely, 1 - likely), likely > 0.5
        else:
            confidence, predicted = probabilities.max(axis=0), probabilities.argmax(axis=0) + self._labels.first
        counted = truth != IGNORED
        confidence, right = confidence[counted], (predicted == truth)[counted]
        bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        self._pixels += np.bincount(bins, minlength=BINS)
        self._right += np.bincount(bins[right], minlength=BINS)
        self._confidence += np.bincount(bins, confidence, minlength=BINS)

    def result(self) -> Calibration:
        """Return the error of all tiles so far; raise ValueError if all pixels are ignored."""
        total = self._pixels.sum()
        if not total:
            raise ValueError("no pixel was counted: all are ignored")
        error = float(np.abs(self._right - self._confidence).sum() / total)
        return Calibration(error, tuple(map(self._bin, range(BINS))))

    def _bin(self, number: int) -> CalibrationBin:
        pixels = int(self._pixels[number])
        share = pixels / int(self._pixels.sum())
        confidence, accuracy = (
            float(column[number] / pixels) if pixels else None for column in (self._confidence, self._right)
        )
        return CalibrationBin(number / BINS, (number + 1) / BINS, share, confidence, accuracy)
