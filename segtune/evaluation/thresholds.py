"""Score a model at every threshold at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.data.labels import BACKGROUND, IGNORED, Indices, Labels
from segtune.evaluation.overlap import Overlap

_PERCENT = range(1, 100)


@dataclass(frozen=True)
class ThresholdCurve:
    """The scores of one class at each threshold, when it is predicted where its probability is above the threshold."""

    iou: tuple[float, ...]
    precision: tuple[float, ...]  # 0 where nothing is predicted
    recall: tuple[float, ...]
    f1: tuple[float, ...]


@dataclass(frozen=True)
class ThresholdSweep:
    """The scores of each class that occurs, by its label, as text, over the thresholds."""

    thresholds: tuple[float, ...]
    curves: dict[str, ThresholdCurve]

    def best(self, label: str) -> float:
        """Return the threshold with the class's largest IoU; of equal ones, the closest to a half.

        Choose on validation data only. A threshold that was chosen on the test data fits their chance details too, so
        that their score says more than new data will keep; with training data, it fits what the model knows by heart.
        """
        iou = self.curves[label].iou
        return max(zip(iou, self.thresholds, strict=True), key=lambda pair: (pair[0], -abs(pair[1] - 0.5)))[1]

    def plain(self) -> dict[str, Any]:
        """Return the sweep as it stands in metrics.json."""
        return {
            "thresholds": list(self.thresholds),
            "curves": {
                label: {name: list(values) for name, values in asdict(curve).items()}
                for label, curve in self.curves.items()
            },
            "best": {label: self.best(label) for label in self.curves},
        }


class ThresholdCounts:
    """Numbers of pixels of each class, and of the others, by the thresholds that their probability is above.

    The thresholds are 0.01 to 0.99 and `own`, the model's. With several classes, each is swept on its own against all
    others, although the model predicts the most likely one.
    """

    def __init__(self, labels: Labels, own: float = 0.5) -> None:
        self._labels = labels
        self._thresholds = tuple(sorted({*(percent / 100 for percent in _PERCENT), own}))
        # For each class, others and true pixels, by the number of thresholds that they are above.
        self._counts = np.zeros((len(labels.classes), 2, len(self._thresholds) + 1), dtype=np.int64)

    def update(self, truth: Indices, probabilities: npt.NDArray[np.float32]) -> None:
        """Add a tile: true indices, (H, W), uint8, and the probabilities of the outputs, (outputs, H, W)."""
        counted = truth != IGNORED
        true_indices = truth[counted]
        edges = np.array(self._thresholds, dtype=np.float32)  # `probability > threshold` compares in this type, too
        columns = len(edges) + 1
        classes = probabilities[-len(self._counts) :]  # a background output comes first
        for index, (output, counts) in enumerate(zip(classes, self._counts, strict=True), start=BACKGROUND + 1):
            above = np.searchsorted(edges, output[counted]) + columns * (true_indices == index)
            counts += np.bincount(above, minlength=2 * columns).reshape(2, columns)

    def result(self) -> ThresholdSweep:
        """Return the scores of all tiles so far."""
        reached = self._counts[..., ::-1].cumsum(axis=-1)[..., ::-1]  # pixels above at least so many thresholds
        curves = {}
        for label, (others, true_pixels) in zip(self._labels.classes, reached, strict=True):
            if true_pixels[0]:
                hits, predicted = true_pixels[1:], (others + true_pixels)[1:]
                scores = Overlap(hits, np.full_like(hits, true_pixels[0]), predicted)
                values = (scores.iou(), scores.precision(), scores.recall(), scores.f1())
                curves[str(label)] = ThresholdCurve(*(tuple(column.tolist()) for column in values))
        return ThresholdSweep(self._thresholds, curves)
