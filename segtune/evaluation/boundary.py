"""Measure how well outlines fit: boundary IoU, the IoU of the pixels near the edges of each class alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.labels import BACKGROUND, IGNORED, Indices
from segtune.evaluation.overlap import Counts, Overlap, known

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
        self._tiles: list[Counts] = []

    def update(self, predicted: Indices, truth: Indices) -> None:
        """Add the pixels of a tile: two arrays of indices, (H, W), uint8."""
        predicted = np.where(truth == IGNORED, np.uint8(IGNORED), predicted)
        ours, theirs = _near_outline(predicted), _near_outline(truth)
        hits = truth[ours & theirs & (predicted == truth)]
        self._tiles.append(np.stack([self._counted(found) for found in (hits, truth[theirs], predicted[ours])]))

    def _counted(self, indices: Indices) -> Counts:
        return np.bincount(indices, minlength=IGNORED + 1)[: len(self.classes) + 1]

    def numbers(self) -> Counts:
        """Return the numbers of each tile so far, (tiles, 3, K + 1), as in `TileCounts`."""
        return np.array(self._tiles, dtype=np.int64).reshape(-1, 3, len(self.classes) + 1)

    def scores(self) -> BoundaryScores:
        """Return the scores of all tiles so far."""
        return boundary_scores(self.classes, self.numbers())


def boundary_scores(classes: Sequence[int], numbers: Counts) -> BoundaryScores:
    """Return the scores of all tiles together, from the numbers of each, (tiles, 3, K + 1)."""
    values = [known(value) for value in Overlap(*numbers.sum(axis=0)).iou()][BACKGROUND + 1 :]
    occurring = [value for value in values if value is not None]
    by_label = dict(zip(map(str, classes), values, strict=True))
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
