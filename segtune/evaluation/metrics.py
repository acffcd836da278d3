"""Count pixels in a confusion matrix and compute IoU from it; the only place where mIoU is defined.

One matrix counts a whole split and is scored once, so no score depends on the batch size. The indices are those of
`segtune.data.labels`: 0 is background, 1 to K are the classes in their order, 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segtune.data.labels import BACKGROUND, IGNORED, Indices
from segtune.evaluation.overlap import Floats, Overlap, known

_IOU = "iou/"  # prefix of a label in a column's name


@dataclass(frozen=True)
class Scores:
    """IoU per class and its means. A class that no mask contains has no IoU (None)."""

    miou: float
    iou: dict[str, float | None]  # by label, as text; also "background" if any pixel is background
    miou_with_background: float | None

    def flat(self) -> dict[str, float | None]:
        """Return the scores as columns: miou, miou_with_background, iou/<label>."""
        columns = {"miou": self.miou, "miou_with_background": self.miou_with_background}
        return columns | {f"{_IOU}{label}": value for label, value in self.iou.items()}

    @classmethod
    def from_flat(cls, columns: Mapping[str, float | None]) -> Scores | None:
        """Return the scores from the columns of `flat`, among which may be others; None if there is no score."""
        miou = columns.get("miou")
        if miou is None:
            return None
        iou = {name.removeprefix(_IOU): value for name, value in columns.items() if name.startswith(_IOU)}
        return cls(miou, iou, columns.get("miou_with_background"))


class ConfusionMatrix:
    """Numbers of pixels by true index (rows) and predicted index (columns), background first."""

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes = tuple(classes)
        self.counts = np.zeros((len(classes) + 1,) * 2, dtype=np.int64)

    def update(self, predicted: Indices, truth: Indices) -> None:
        """Add the pixels of a tile or a batch: two uint8 arrays of indices of the same shape."""
        if predicted.shape != truth.shape:
            raise ValueError(f"shapes must match, but got {predicted.shape} and {truth.shape}")
        side = len(self.counts)
        # Ignored pixels are counted beyond the last row and dropped, which is faster than masking them first.
        cells = truth.astype(np.uint16) * np.uint16(side) + predicted
        found = np.bincount(cells.ravel(), minlength=(IGNORED + 1) * side)
        self.counts += found[: side * side].reshape(side, side)

    def add(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix of the same classes."""
        self.counts += other.counts

    @property
    def measurable(self) -> bool:
        """Whether any class occurs in the masks, so that there is a score."""
        return bool(self.counts[BACKGROUND + 1 :].any())

    @property
    def collapsed(self) -> bool:
        """Whether all predictions have one index although the masks have several."""
        return np.count_nonzero(self.counts.any(axis=0)) == 1 < np.count_nonzero(self.counts.any(axis=1))

    def scores(self) -> Scores:
        """Return the scores of all pixels counted so far; raise ValueError if no class occurs in the masks.

        A class without any true pixel is not part of the means, whatever the model predicts. The same applies to
        background in `miou_with_background`.
        """
        values = [known(value) for value in Overlap.of(self.counts).iou()]
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


def mean_iou(overlap: Overlap) -> float | None:
    """Return the mean IoU of the classes that occur, as `Scores.miou`, from the numbers of each index, (K + 1).

    Returns None if no class occurs.
    """
    return _mean_of_known(overlap.iou()[BACKGROUND + 1 :])


def tile_iou(predicted: Indices, truth: Indices, classes: int) -> float | None:
    """Return the mean IoU over the classes that occur in one tile, in its mask or in its prediction.

    `predicted` and `truth` are (H, W), with indices up to `classes`; ignored pixels do not count. Unlike in the score
    of a split, a class that is predicted but not in the mask counts as 0, because false alarms are worth looking at.
    Returns None if mask and prediction contain nothing but background.
    """
    matrix = ConfusionMatrix(range(1, classes + 1))
    matrix.update(predicted, truth)
    return mean_found_iou(found_iou(Overlap.of(matrix.counts)))


def found_iou(overlap: Overlap) -> Floats:
    """Return the IoU of each index that occurs in the mask or in the prediction of a tile; NaN for the others."""
    union = overlap.truth + overlap.predicted - overlap.hits
    return np.where(union > 0, overlap.hits / np.maximum(union, 1), np.nan)


def mean_found_iou(iou: Floats) -> float | None:
    """Return the mean over the classes of a tile's `found_iou`, as of `tile_iou`; None if none of them occurs."""
    return _mean_of_known(iou[BACKGROUND + 1 :])


def _mean_of_known(values: Floats) -> float | None:
    occurring = values[~np.isnan(values)]
    return float(occurring.mean()) if len(occurring) else None
