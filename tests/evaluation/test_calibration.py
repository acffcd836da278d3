"""The expected calibration error is that of torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from segtune.data.labels import IGNORED
from segtune.evaluation.calibration import CalibrationCounts
from tests.evaluation.splits import labels_of, tiles


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("classes", "background"), [(1, True), (2, False), (4, True), (5, False)])
def test_the_error_equals_that_of_torchmetrics(classes: int, background: bool, seed: int) -> None:
    labels = labels_of(classes, background)
    counts = CalibrationCounts(labels)
    outputs = 2 if labels.binary else labels.outputs
    theirs = MulticlassCalibrationError(outputs, n_bins=15, norm="l1", ignore_index=IGNORED)
    for truth, probabilities in tiles(classes, seed, background=background):
        counts.update(truth, probabilities)
        both = np.concatenate([1 - probabilities, probabilities]) if labels.binary else probabilities
        target = truth if background else np.where(truth == IGNORED, IGNORED, truth - 1)
        theirs.update(torch.from_numpy(both)[None].double(), torch.from_numpy(target)[None].long())
    result = counts.result()
    assert result.ece == pytest.approx(float(theirs.compute()), abs=1e-6)
    assert result.ece > 0.01
    bins = [part for part in result.bins if part.share]
    assert sum(part.share * abs(part.accuracy - part.confidence) for part in bins) == pytest.approx(result.ece)


def test_bins_hold_confidence_accuracy_and_share() -> None:
    counts = CalibrationCounts(labels_of(1))
    truth = np.array([[1, 0, 1, 0, IGNORED]], np.uint8)
    counts.update(truth, np.array([[[0.95, 0.95, 0.1, 0.5, 0.7]]], np.float32))
    result = counts.result()
    assert len(result.bins) == 15
    assert result.bins[0].plain() == {"low": 0, "high": 1 / 15, "share": 0, "confidence": None, "accuracy": None}
    found = {number: part for number, part in enumerate(result.bins) if part.share}
    assert {number: (part.share, part.accuracy) for number, part in found.items()} == {
        7: (0.25, 1),  # 0.5 is predicted as background
        13: (0.25, 0),  # a probability of 0.1 is a confidence of 0.9 in background
        14: (0.5, 0.5),
    }
    assert [part.confidence for part in found.values()] == pytest.approx([0.5, 0.9, 0.95])
    assert result.ece == pytest.approx(0.25 * 0.5 + 0.25 * 0.9 + 0.5 * 0.45)


def test_certainty_belongs_to_the_last_bin() -> None:
    counts = CalibrationCounts(labels_of(2))
    counts.update(np.array([[2, 1]], np.uint8), np.array([[[0, 0]], [[0, 0]], [[1, 1]]], np.float32))
    result = counts.result()
    assert (result.bins[14].share, result.bins[14].confidence, result.bins[14].accuracy) == (1, 1, 0.5)
    assert result.ece == 0.5


def test_no_valid_pixel_is_an_error() -> None:
    counts = CalibrationCounts(labels_of(1))
    counts.update(np.full((2, 2), IGNORED, np.uint8), np.zeros((1, 2, 2), np.float32))
    with pytest.raises(ValueError, match="no pixel"):
        counts.result()
