"""Measure how well outlines fit: boundary IoU, the IoU of the pixels near the edges of each class alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.labels import BACKGROUND, IGNORED, Indices
from segtune.evaluation.overlap import Overlap, known

_REACH = 0.02  # width of the band, as a share of a tile's diagonal


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary IoU of each class, and its mean over the classes that occur. A class that no mask contains has none."""

    mean: float | None
    iou: dict[str, float | None]  # by label, as text

    def plain(self) -> dict[str, Any]:
        """Return the scores as they stand in metrics.json."""
        return {"boundary_miou": self.mean, "boundary_iou": self.iou}


class BoundaryCounts:
    """Numbers of pixels of each index that lie near the outline of a region, over all tiles, background first.

    As in Cheng et al. 2021, "Boundary IoU" (arXiv:2103.16562) and its code, a pixel is near the outline if a pixel of
    another class is at most 2% of the tile's diagonal away, in rows and in columns, but at least one pixel. There, the
    edge of the tile is an outline too. Here, so is the edge of ignored areas, which count nowhere themselves.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes = tuple(classes)
        self.hits, self.truth, self.predicted = np.zeros((3, len(classes) + 1), dtype=np.int64)

    def update(self, predicted: Indices, truth: Indices) -> None:
        """Add the pixels of a tile: two arrays of indices, (H, W), uint8."""
        predicted = np.where(truth == IGNORED, np.uint8(IGNORED), predicted)
        ours, theirs = _near_outline(predicted), _near_outline(truth)
        self.truth += self._counted(truth[theirs])
        self.predicted += self._counted(predicted[ours])
        self.hits += self._counted(truth[ours & theirs & (predicted == truth)])

    def _counted(self, indices: Indices) -> npt.NDArray[np.int64]:
        return np.bincount(indices, minlength=IGNORED + 1)[: len(self.classes) + 1]

    def scores(self) -> BoundaryScores:
        """Return the scores of all tiles so far."""
        values = [known(value) for value in Overlap(self.hits, self.truth, self.predicted).iou()][BACKGROUND + 1 :]
        occurring = [value for value in values if value is not None]
        by_label = dict(zip(map(str, self.classes), values, strict=True))
        return BoundaryScores(float(np.mean(occurring)) if occurring else None, by_label)


def _near_outline(indices: Indices) -> npt.NDArray[np.bool_]:
    """Return the pixels around which not all have one index: those that erosion takes from some class."""
    reach = max(1, round(_REACH * float(np.hypot(*indices.shape))))
    around = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    # Dilation is the largest index around a pixel, erosion the smallest. Beyond the edge lies an index of its own.
    gradient = cv2.morphologyEx(
        indices, cv2.MORPH_GRADIENT, around, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORED
    )
    return gradient > 0
