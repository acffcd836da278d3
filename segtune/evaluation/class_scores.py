"""Say for each class how much of it is found, and how much of what is found is right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.overlap import Overlap, known


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class. They are None if no mask contains it; precision is 0 if it is never predicted."""

    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    support: int  # true pixels


@dataclass(frozen=True)
class ClassScores:
    """The scores of each class by its label, as text; also of "background" if any pixel is background."""

    by_label: dict[str, ClassScore]

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return the scores as they stand in metrics.json."""
        return {label: asdict(score) for label, score in self.by_label.items()}


def class_scores(matrix: ConfusionMatrix) -> ClassScores:
    """Return the scores of each class over all pixels that a matrix has counted."""
    overlap = Overlap.of(matrix.counts)
    columns = (overlap.iou(), overlap.precision(), overlap.recall(), overlap.f1())
    background, *listed = (
        ClassScore(known(iou), known(precision), known(recall), known(f1), int(support))
        for iou, precision, recall, f1, support in zip(*columns, overlap.truth, strict=True)
    )
    by_label = dict(zip(map(str, matrix.classes), listed, strict=True))
    return ClassScores(by_label | {"background": background} if background.support else by_label)
