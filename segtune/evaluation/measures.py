"""All that is measured on the tiles of a split, tile by tile."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segtune.data.labels import Labels
from segtune.evaluation.areas import AreaCounts, AreaSweep
from segtune.evaluation.boundary import BoundaryCounts, BoundaryScores
from segtune.evaluation.calibration import Calibration, CalibrationCounts
from segtune.evaluation.class_scores import ClassScores, class_scores
from segtune.evaluation.metrics import ConfusionMatrix, Scores, found_iou, mean_found_iou
from segtune.evaluation.predict import TilePrediction, probabilities
from segtune.evaluation.thresholds import ThresholdCounts, ThresholdSweep
from segtune.evaluation.worst import Worst, WorstTile
from segtune.models.manifest import Manifest

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """What was measured on a split. The counts are confusion matrices as in `ConfusionMatrix`."""

    labels: Labels
    names: tuple[str, ...]  # of the tiles, in the order of the split
    miou: tuple[float | None, ...]  # of each tile, as of `tile_iou`
    counts: Counts  # of each tile, (tiles, K + 1, K + 1)
    scores: Scores
    classes: ClassScores
    boundary: BoundaryScores
    calibration: Calibration
    worst: tuple[WorstTile, ...]
    thresholds: ThresholdSweep | None
    areas: AreaSweep | None

    @property
    def confusion(self) -> Counts:
        """The confusion matrix of the whole split, (K + 1, K + 1)."""
        total: Counts = self.counts.sum(axis=0)
        return total

    def table(self) -> str:
        """Return metrics.csv: a row per tile, then the total.

        The IoU of a tile is that of the classes which occur in its mask or in its prediction: a class that is only
        predicted counts as 0. In the total, as in every score of a split, only classes that the masks contain count.
        """
        total = self.scores.flat()
        columns = ["tile", *total, "pixels", "wrong_pixels"]
        text = io.StringIO(newline="")
        rows = csv.DictWriter(text, columns, lineterminator="\n")
        rows.writeheader()
        labels = [f"iou/{label}" for label in ("background", *self.labels.classes)]
        for name, miou, counts in zip(self.names, self.miou, self.counts, strict=True):
            iou = dict(zip(labels, found_iou(counts), strict=True))
            row = {"tile": name, "miou": miou} | {column: iou.get(column) for column in total if column in iou}
            rows.writerow(row | _pixels(counts))
        rows.writerow({"tile": "total"} | total | _pixels(self.confusion))
        return text.getvalue()


def _pixels(counts: Counts) -> dict[str, int]:
    pixels = int(counts.sum())
    return {"pixels": pixels, "wrong_pixels": pixels - int(np.trace(counts))}


class Measures:
    """Measures predictions tile by tile; only counts are kept of each.

    Parameters
    ----------
    manifest: the model's.
    worst: how many of the tiles with the most wrong pixels to keep.
    sweep: whether to measure every threshold.
    """

    def __init__(self, manifest: Manifest, worst: int = 0, sweep: bool = False) -> None:
        self._labels = manifest.labels
        self._names: list[str] = []
        self._miou: list[float | None] = []
        self._counts: list[Counts] = []
        self._boundary = BoundaryCounts(self._labels.classes)
        self._calibration = CalibrationCounts(self._labels)
        self._worst = Worst(worst) if worst else None
        self._thresholds = ThresholdCounts(self._labels, manifest.threshold) if sweep else None

    def update(self, name: str, index: int, tile: TilePrediction) -> None:
        """Add a tile: its name, its position in the split and its prediction."""
        predicted, truth = tile.indices, tile.truth
        matrix = ConfusionMatrix(self._labels.classes)
        matrix.update(predicted, truth)
        self._names.append(name)
        self._counts.append(matrix.counts)
        self._miou.append(mean_found_iou(matrix.counts))
        self._boundary.update(predicted, truth)
        likely = probabilities(tile.logits, self._labels).cpu().numpy()
        self._calibration.update(truth, likely)
        if self._thresholds:
            self._thresholds.update(truth, likely)
        if self._worst:
            self._worst.note(index, predicted, truth)

    def sweep(self) -> ThresholdSweep | None:
        """Return the scores over the thresholds of all tiles so far; None if they are not swept."""
        return self._thresholds.result() if self._thresholds else None

    def result(self, areas: AreaCounts | None = None) -> Measured:
        """Return what was measured; raise ValueError if no class occurs in the masks."""
        counts = np.stack(self._counts)
        matrix = ConfusionMatrix(self._labels.classes)
        matrix.counts += counts.sum(axis=0)
        return Measured(
            labels=self._labels,
            names=tuple(self._names),
            miou=tuple(self._miou),
            counts=counts,
            scores=matrix.scores(),
            classes=class_scores(matrix),
            boundary=self._boundary.scores(),
            calibration=self._calibration.result(),
            worst=tuple(self._worst.tiles()) if self._worst else (),
            thresholds=self.sweep(),
            areas=areas.result() if areas else None,
        )


def mean_over(labels: Labels, scores: Scores) -> Sequence[str]:
    """Return the classes that mIoU is the mean of, as people read them."""
    return [labels.text(label) for label, value in scores.iou.items() if value is not None and label != "background"]
