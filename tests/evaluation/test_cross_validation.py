"""Folds give a score each, and together the score of all tiles."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from segtune.errors import InputError
from segtune.evaluation.cross_validation import cross_validated
from segtune.evaluation.grouping import Grouping
from segtune.evaluation.intervals import bootstrap
from segtune.evaluation.measure import Measure
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import TileCounts
from tests.evaluation.test_intervals import split, whole_iou

MIOU = Measure.named("miou", (1, 2))
FOLDS = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 2, 0]


def test_the_score_of_all_tiles_is_that_of_the_whole_set() -> None:
    matrices = split(12, spread=0.2)
    own = [matrices[np.array(FOLDS) == fold] for fold in range(3)]
    grouping = Grouping(tuple("aabbccddeeff"), "names")
    found = cross_validated(FOLDS, [TileCounts.of(part) for part in own], MIOU, grouping)
    scores = [mean_iou(TileCounts.of(part).total()) for part in own]
    assert list(found.scores) == scores == [whole_iou(part) for part in own]
    assert found.mean == pytest.approx(np.mean(found.scores))
    assert found.deviation == pytest.approx(statistics.stdev(found.scores))
    assert found.together.value == whole_iou(matrices)
    assert found.intervals == bootstrap(TileCounts.of(matrices), (1, 2), grouping.groups)
    assert found.together == found.intervals.miou
    assert found.plain()["together"]["value"] == found.together.value
    assert found.plain()["intervals"]["groups"] == 6


def test_a_fold_without_any_class_has_no_score() -> None:
    matrices = split(12)
    matrices[np.array(FOLDS) == 1, 1:] = 0
    own = [TileCounts.of(matrices[np.array(FOLDS) == fold]) for fold in range(3)]
    with pytest.raises(InputError, match="fold 2 of 3 has no miou: its masks lack a class; take fewer folds"):
        cross_validated(FOLDS, own, MIOU, Grouping())
