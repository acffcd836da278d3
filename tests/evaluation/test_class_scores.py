"""Precision, recall, F1 and support of each class are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from segtune.data.labels import IGNORED
from segtune.evaluation.class_scores import class_scores
from segtune.evaluation.metrics import ConfusionMatrix
from tests.evaluation.test_metrics import array, masks


@pytest.mark.parametrize(("classes", "absent"), [(1, ()), (3, ()), (3, (2,)), (5, (1, 4)), (3, (0,))])
def test_scores_equal_those_of_scikit_learn(classes: int, absent: tuple[int, ...]) -> None:
    predicted, truth = masks(classes, seed=classes, absent=absent)
    matrix = ConfusionMatrix(range(101, 101 + classes))
    matrix.update(predicted, truth)
    counted = truth != IGNORED
    theirs = precision_recall_fscore_support(
        truth[counted], predicted[counted], labels=range(classes + 1), zero_division=0
    )
    ours = class_scores(matrix).plain()
    for index, label in enumerate(["background", *map(str, range(101, 101 + classes))]):
        if index in absent:
            unknown = {"iou": None, "precision": None, "recall": None, "f1": None, "support": 0}
            assert ours.get(label, unknown) == unknown
        else:
            found = [ours[label][name] for name in ("precision", "recall", "f1", "support")]
            assert found == pytest.approx([column[index] for column in theirs], abs=1e-6)
            assert ours[label]["iou"] == matrix.scores().iou[label]
    assert ("background" in ours) == (0 not in absent)


def test_a_class_that_is_never_predicted_scores_zero() -> None:
    matrix = ConfusionMatrix((7, 9))
    matrix.update(array([[1, 1, 0]]), array([[1, 2, 2]]))
    score = class_scores(matrix).by_label["9"]
    assert (score.iou, score.precision, score.recall, score.f1, score.support) == (0, 0, 0, 0, 2)


def test_support_is_a_whole_number_of_true_pixels() -> None:
    matrix = ConfusionMatrix((7,))
    matrix.update(array([[1, 1, 0, 1]]), array([[1, 0, 1, IGNORED]]))
    plain = class_scores(matrix).plain()
    assert plain["7"]["support"] == 2
    assert type(plain["7"]["support"]) is int
    assert plain["7"]["precision"] == plain["7"]["recall"] == plain["7"]["f1"] == 0.5
    assert plain["7"]["iou"] == pytest.approx(1 / 3)
    assert np.isclose(plain["background"]["recall"], 0)
