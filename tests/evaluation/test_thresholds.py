"""A sweep over the threshold counts exactly what a prediction at each threshold would give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from segtune.data.labels import IGNORED
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.thresholds import ThresholdCounts
from tests.evaluation.splits import Probabilities, labels_of, tiles


def on_edges(probabilities: Probabilities) -> Probabilities:
    """Probabilities of which many are thresholds, or the numbers beside them."""
    edges = (np.round(probabilities * 100) / 100).astype(np.float32)
    above, below = np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-1))
    kind = np.arange(edges.size).reshape(edges.shape) % 4
    return np.select([kind == 0, kind == 1, kind == 2], [edges, above, below], probabilities)


def test_every_threshold_equals_a_prediction_at_it() -> None:
    labels = labels_of(1)
    split = [(truth, on_edges(probabilities)) for truth, probabilities in tiles(1, seed=3)]
    counts = ThresholdCounts(labels)
    for truth, probabilities in split:
        counts.update(truth, probabilities)
    sweep = counts.result()
    curve = sweep.curves["101"]
    assert sweep.thresholds == tuple(number / 100 for number in range(1, 100))
    for number, threshold in enumerate(sweep.thresholds):
        matrix = ConfusionMatrix(labels.classes)
        for truth, probabilities in split:
            matrix.update((probabilities[0] > threshold).astype(np.uint8), truth)
        assert curve.iou[number] == matrix.scores().miou
    truth = np.concatenate([truth.ravel() for truth, _ in split])
    likely = np.concatenate([probabilities.ravel() for _, probabilities in split])[truth != IGNORED]
    for number in range(4, 99, 15):
        pair = truth[truth != IGNORED], likely > sweep.thresholds[number]
        assert curve.precision[number] == pytest.approx(precision_score(*pair), abs=1e-9)
        assert curve.recall[number] == pytest.approx(recall_score(*pair), abs=1e-9)
        assert curve.f1[number] == pytest.approx(f1_score(*pair), abs=1e-9)


@pytest.mark.parametrize("background", [True, False])
def test_each_of_several_classes_is_swept_against_the_others(background: bool) -> None:
    labels = labels_of(3, background)
    split = tiles(3, seed=4, background=background)
    counts = ThresholdCounts(labels)
    for truth, probabilities in split:
        counts.update(truth, probabilities)
    sweep = counts.result()
    assert list(sweep.curves) == ["101", "102", "103"]
    truth = np.concatenate([truth.ravel() for truth, _ in split])
    for index, label in enumerate(sweep.curves, start=1):
        output = index if background else index - 1
        flat = np.concatenate([probabilities[output].ravel() for _, probabilities in split])[truth != IGNORED]
        for number in (9, 49, 79):
            theirs = jaccard_score(truth[truth != IGNORED] == index, flat > np.float32(sweep.thresholds[number]))
            assert sweep.curves[label].iou[number] == pytest.approx(theirs, abs=1e-9)


def test_the_models_own_threshold_is_one_of_them() -> None:
    counts = ThresholdCounts(labels_of(1), own=0.437)
    truth, probabilities = tiles(1, seed=5)[0]
    counts.update(truth, probabilities)
    sweep = counts.result()
    assert len(sweep.thresholds) == 100
    assert 0.437 in sweep.thresholds
    matrix = ConfusionMatrix((101,))
    matrix.update((probabilities[0] > 0.437).astype(np.uint8), truth)
    assert sweep.curves["101"].iou[sweep.thresholds.index(0.437)] == matrix.scores().miou


def test_the_best_threshold_has_the_largest_iou() -> None:
    counts = ThresholdCounts(labels_of(1))
    truth = np.array([[1, 1, 1, 0, 0, IGNORED]], np.uint8)
    counts.update(truth, np.array([[[0.9, 0.8, 0.35, 0.3, 0.1, 0.99]]], np.float32))
    sweep = counts.result()
    assert sweep.best("101") == 0.34  # of 0.30 to 0.34, which are equally good, the one closest to a half
    assert sweep.curves["101"].iou[sweep.thresholds.index(0.34)] == 1
    assert sweep.curves["101"].iou[sweep.thresholds.index(0.5)] == pytest.approx(2 / 3)


def test_a_class_without_true_pixels_has_no_curve() -> None:
    counts = ThresholdCounts(labels_of(2))
    truth = np.array([[1, 0]], np.uint8)
    counts.update(truth, np.full((3, 1, 2), 1 / 3, np.float32))
    plain = counts.result().plain()
    assert plain["best"] == {"101": 0.33}
    assert list(plain["curves"]) == ["101"]
    assert len(plain["thresholds"]) == len(plain["curves"]["101"]["iou"]) == 99
    json.dumps(plain)
