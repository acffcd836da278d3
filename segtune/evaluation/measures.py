"""All that is measured on the tiles of a split, tile by tile."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from segtune.data.labels import Labels
from segtune.evaluation.areas import AreaCounts, AreaSweep
from segtune.evaluation.boundary import BoundaryScores, boundary_scores
from segtune.evaluation.calibration import Calibration, CalibrationCounts
from segtune.evaluation.class_scores import ClassScores, class_scores
from segtune.evaluation.evaluate import Evaluated
from segtune.evaluation.metrics import Scores, found_iou, mean_found_iou
from segtune.evaluation.overlap import Counts, Overlap, TileCounts, known
from segtune.evaluation.predict import TilePrediction, probabilities
from segtune.evaluation.thresholds import ThresholdCounts, ThresholdSweep
from segtune.evaluation.worst import Worst, WorstTile
from segtune.models.manifest import Manifest


@dataclass(frozen=True)
class Measured:
    """What was measured on a split."""

    labels: Labels
    names: tuple[str, ...]  # of the tiles, in the order of the split
    tiles: TileCounts  # in the same order
    confusion: Counts  # of the whole split, as in `ConfusionMatrix`: (K + 1, K + 1)
    scores: Scores
    classes: ClassScores
    boundary: BoundaryScores
    calibration: Calibration
    worst: tuple[WorstTile, ...]
    thresholds: ThresholdSweep | None
    areas: AreaSweep | None

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
        for name, counts in zip(self.names, self.tiles.numbers, strict=True):
            found = found_iou(Overlap(*counts))
            iou = {label: known(value) for label, value in zip(labels, found, strict=True) if label in total}
            rows.writerow({"tile": name, "miou": mean_found_iou(found)} | iou | _pixels(Overlap(*counts)))
        rows.writerow({"tile": "total"} | total | _pixels(self.tiles.total()))
        return text.getvalue()


def _pixels(overlap: Overlap) -> dict[str, int]:
    pixels = int(overlap.truth.sum())
    return {"pixels": pixels, "wrong_pixels": pixels - int(overlap.hits.sum())}


class Measures:
    """Measures predictions tile by tile, beside what `evaluate` counts; only numbers are kept.

    Parameters
    ----------
    manifest: the model's.
    worst: how many of the tiles with the most wrong pixels to keep.
    sweep: whether to measure every threshold.
    """

    def __init__(self, manifest: Manifest, worst: int = 0, sweep: bool = False) -> None:
        self._labels = manifest.labels
        self._calibration = CalibrationCounts(self._labels)
        self._worst = Worst(worst) if worst else None
        self._thresholds = ThresholdCounts(self._labels, manifest.threshold) if sweep else None

    def update(self, index: int, tile: TilePrediction) -> None:
        """Add a tile: its position in the split and its prediction."""
        predicted, truth = tile.indices, tile.truth
        likely = probabilities(tile.logits, self._labels).cpu().numpy()
        self._calibration.update(truth, likely)
        if self._thresholds:
            self._thresholds.update(truth, likely)
        if self._worst:
            self._worst.note(index, predicted, truth)

    def sweep(self) -> ThresholdSweep | None:
        """Return the scores over the thresholds of all tiles so far; None if they are not swept."""
        return self._thresholds.result() if self._thresholds else None

    def result(self, names: Sequence[str], counted: Evaluated, areas: AreaCounts | None = None) -> Measured:
        """Return what was measured on tiles of these names, whose outlines were counted, too.

        Raises ValueError if no class occurs in the masks.
        """
        assert counted.tiles.outlines is not None
        return Measured(
            labels=self._labels,
            names=tuple(names),
            tiles=counted.tiles,
            confusion=counted.matrix.counts,
            scores=counted.matrix.scores(),
            classes=class_scores(counted.matrix),
            boundary=boundary_scores(self._labels.classes, counted.tiles.outlines),
            calibration=self._calibration.result(),
            worst=tuple(self._worst.tiles()) if self._worst else (),
            thresholds=self.sweep(),
            areas=areas.result() if areas else None,
        )


def mean_over(labels: Labels, scores: Scores) -> Sequence[str]:
    """Return the classes that mIoU is the mean of, as people read them."""
    return [labels.text(label) for label, value in scores.iou.items() if value is not None and label != "background"]
