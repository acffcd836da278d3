"""Confusion matrix -> IoU: the one place where mIoU is defined.

One matrix is summed over a whole split and scored once, so that no figure depends on the batch size. Indices are
those of `segtune.data.labels`: 0 is background, 1 to K are the classes in their order, 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segtune.data.labels import BACKGROUND, IGNORED, Indices

_IOU = "iou/"  # before a label, in the name of a column


@dataclass(frozen=True)
class Scores:
    """IoU per class and their means; a class that occurs in no mask has none (None)."""

    miou: float
    iou: dict[str, float | None]  # by label, as strings, and "background" where some pixel is background
    miou_with_background: float | None

    def flat(self) -> dict[str, float | None]:
        """The scores as columns: miou, miou_with_background, iou/<label>."""
        columns = {"miou": self.miou, "miou_with_background": self.miou_with_background}
        return columns | {f"{_IOU}{label}": value for label, value in self.iou.items()}

    @classmethod
    def from_flat(cls, columns: Mapping[str, float | None]) -> Scores | None:
        """Read what `flat` made, among other columns or not; None where nothing was scored."""
        miou = columns.get("miou")
        if miou is None:
            return None
        iou = {name.removeprefix(_IOU): value for name, value in columns.items() if name.startswith(_IOU)}
        return cls(miou, iou, columns.get("miou_with_background"))


class ConfusionMatrix:
    """Pixel counts by true index (rows) and predicted index (columns), background first."""

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes = tuple(classes)
        self.counts = np.zeros((len(classes) + 1,) * 2, dtype=np.int64)

    def update(self, predicted: Indices, truth: Indices) -> None:
        """Add the pixels of a tile or a batch: two uint8 arrays of indices of the same shape."""
        if predicted.shape != truth.shape:
            raise ValueError(f"shapes must match, but got {predicted.shape} and {truth.shape}")
        side = len(self.counts)
        # Ignored pixels fall into a row beyond the last one: cheaper than to pick out the others.
        cells = truth.astype(np.uint16) * np.uint16(side) + predicted
        found = np.bincount(cells.ravel(), minlength=(IGNORED + 1) * side)
        self.counts += found[: side * side].reshape(side, side)

    def add(self, other: ConfusionMatrix) -> None:
        """Add the pixels that another matrix of the same classes counted."""
        self.counts += other.counts

    @property
    def measurable(self) -> bool:
        """Whether any of the classes occurs, so that there is a score."""
        return bool(self.counts[BACKGROUND + 1 :].any())

    @property
    def collapsed(self) -> bool:
        """Whether all predictions are one class, or background, where the truth is more than that."""
        return np.count_nonzero(self.counts.any(axis=0)) == 1 < np.count_nonzero(self.counts.any(axis=1))

    def scores(self) -> Scores:
        """Score everything counted so far.

        A class without a single true pixel is left out of the means for every model alike; so is background.
        """
        hits = np.diag(self.counts)
        truth = self.counts.sum(axis=1)
        union = truth + self.counts.sum(axis=0) - hits
        values = [float(h / u) if t else None for h, t, u in zip(hits, truth, union, strict=True)]
        listed = {str(label): value for label, value in zip(self.classes, values[1:], strict=True)}
        occurring = [value for value in listed.values() if value is not None]
        if not occurring:
            raise ValueError("none of the classes occurs in the masks")
        background = values[BACKGROUND]
        return Scores(
            miou=float(np.mean(occurring)),
            iou=listed if background is None else {**listed, "background": background},
            miou_with_background=None if background is None else float(np.mean([*occurring, background])),
        )


def tile_iou(predicted: Indices, truth: Indices, classes: int) -> float | None:
    """Mean IoU over the classes that occur in one tile, in its truth or in what was predicted.

    Both are (H, W), with indices up to `classes`; pixels whose truth is ignored do not count. A class that was
    predicted where it does not occur counts 0 here, unlike in the score of a split: false alarms are mistakes worth
    looking at. None where there is nothing but background in both.
    """
    matrix = ConfusionMatrix(range(1, classes + 1))
    matrix.update(predicted, truth)
    hits = np.diag(matrix.counts)
    union = matrix.counts.sum(axis=0) + matrix.counts.sum(axis=1) - hits
    occurring = np.flatnonzero(union[1:]) + 1  # without background
    return float(np.mean(hits[occurring] / union[occurring])) if len(occurring) else None
