"""One confusion matrix per split: equal to other people's IoU, and to itself at every batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex

from segtune.data.labels import BACKGROUND, IGNORED, Labels
from segtune.evaluation.metrics import ConfusionMatrix, Scores, tile_iou
from segtune.values import MAX_CLASSES

Indices = npt.NDArray[np.uint8]


def masks(classes: int, seed: int, absent: Sequence[int] = (), ignored: float = 0.1) -> tuple[Indices, Indices]:
    """Predictions and truth of a few tiles, (N, H, W); `absent` indices occur in predictions alone."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes + 1, (7, 12, 10), dtype=np.uint8)
    guess = random.integers(0, classes + 1, truth.shape, dtype=np.uint8)
    predicted = np.where(random.random(truth.shape) < 0.6, truth, guess)
    for index in absent:
        truth[truth == index] = (index + 1) % (classes + 1)
    truth[random.random(truth.shape) < ignored] = IGNORED
    return predicted, truth


def scored(predicted: Indices, truth: Indices, classes: Sequence[int]) -> Scores:
    matrix = ConfusionMatrix(classes)
    matrix.update(predicted, truth)
    return matrix.scores()


def array(rows: Sequence[Sequence[int]]) -> Indices:
    return np.array(rows, dtype=np.uint8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("classes", "absent"), [(1, ()), (3, ()), (3, (2,)), (5, (1, 4)), (12, (3,)), (3, (0,))])
def test_iou_equals_that_of_scikit_learn_and_torchmetrics(classes: int, absent: tuple[int, ...], seed: int) -> None:
    predicted, truth = masks(classes, seed, absent)
    scores = scored(predicted, truth, range(101, 101 + classes))
    counted = truth != IGNORED
    present = [index for index in range(classes + 1) if index not in absent]
    theirs = jaccard_score(truth[counted], predicted[counted], labels=range(classes + 1), average=None)
    torchs = MulticlassJaccardIndex(classes + 1, average=None, ignore_index=IGNORED)(
        torch.from_numpy(predicted).long(), torch.from_numpy(truth).long()
    ).numpy()
    for reference in (theirs, torchs):
        for index in range(1, classes + 1):
            ours = scores.iou[str(100 + index)]
            assert ours is None if index in absent else ours == pytest.approx(reference[index], abs=1e-6)
        listed = [index for index in present if index != BACKGROUND]
        assert scores.miou == pytest.approx(reference[listed].mean(), abs=1e-6)
        if BACKGROUND in absent:
            assert scores.miou_with_background is None
        else:
            assert scores.iou["background"] == pytest.approx(reference[BACKGROUND], abs=1e-6)
            assert scores.miou_with_background == pytest.approx(reference[present].mean(), abs=1e-6)
    macro = jaccard_score(
        truth[counted], predicted[counted], labels=[i for i in present if i != BACKGROUND], average="macro"
    )
    assert scores.miou == pytest.approx(macro, abs=1e-6)


def test_every_batch_size_gives_the_same_counts() -> None:
    predicted, truth = masks(4, seed=0, absent=(2,))
    count = len(truth)
    matrices = []
    for batch_size in range(1, count + 1):
        matrix = ConfusionMatrix((1, 2, 3, 4))
        for start in range(0, count, batch_size):
            matrix.update(predicted[start : start + batch_size], truth[start : start + batch_size])
        matrices.append(matrix)
    for matrix in matrices:
        np.testing.assert_array_equal(matrix.counts, matrices[0].counts)
        assert matrix.scores() == matrices[0].scores()
    assert matrices[0].counts.sum() == (truth != IGNORED).sum()


def test_rows_are_truth_and_columns_are_predictions() -> None:
    matrix = ConfusionMatrix((7, 8))
    matrix.update(array([[0, 1, 1, 2, 2, 2]]), array([[0, 0, 1, 1, 1, 2]]))
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 1, 2], [0, 0, 1]]


def test_tiles_of_different_sizes_count_by_their_pixels() -> None:
    matrix = ConfusionMatrix((1,))
    matrix.update(np.ones((1, 1), np.uint8), np.ones((1, 1), np.uint8))
    matrix.update(np.zeros((3, 3), np.uint8), np.ones((3, 3), np.uint8))
    assert matrix.scores().miou == pytest.approx(1 / 10)


def test_a_class_absent_from_the_masks_has_no_iou() -> None:
    truth = array([[1, 1, 0, 0]])
    for predicted in ([[1, 1, 0, 0]], [[1, 1, 2, 2]], [[2, 2, 2, 2]]):
        scores = scored(array(predicted), truth, (5, 6))
        assert scores.iou["6"] is None
        assert scores.miou == scores.iou["5"]


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    scores = scored(array([[1, 1, 1, 1]]), array([[1, 1, 2, 2]]), (5, 6))
    assert scores.iou == {"5": 0.5, "6": 0.0}
    assert scores.miou == 0.25


def test_a_class_predicted_on_background_is_counted_against_it() -> None:
    truth = array([[1, 1, 0, 0]])
    right = scored(truth.copy(), truth, (9,))
    wrong = scored(array([[1, 1, 1, 1]]), truth, (9,))
    assert (right.miou, wrong.miou) == (1.0, 0.5)
    assert (right.iou["background"], wrong.iou["background"]) == (1.0, 0.0)


def test_background_stands_beside_the_mean_and_not_in_it() -> None:
    scores = scored(array([[1, 0, 0, 0, 2, 2]]), array([[1, 1, 0, 0, 0, 2]]), (5, 6))
    ious = {"5": 1 / 2, "6": 1 / 2, "background": 2 / 4}
    assert scores.iou == pytest.approx(ious)
    worse = scored(array([[1, 0, 0, 0, 0, 2]]), array([[1, 1, 0, 0, 0, 2]]), (5, 6))
    assert worse.iou["background"] == pytest.approx(3 / 4)
    assert worse.miou == pytest.approx((1 / 2 + 1) / 2)
    assert worse.miou_with_background == pytest.approx((1 / 2 + 1 + 3 / 4) / 3)


def test_without_a_background_pixel_there_is_no_background_score() -> None:
    scores = scored(array([[1, 0, 2]]), array([[1, 2, 2]]), (5, 6))
    assert "background" not in scores.iou
    assert scores.miou_with_background is None


def test_ignored_pixels_count_in_nothing() -> None:
    truth, predicted = array([[1, 0, 2, 1]]), array([[1, 0, 1, 2]])
    matrices = [ConfusionMatrix((5, 6)) for _ in range(2)]
    matrices[0].update(predicted, truth)
    for wrong in (0, 1, 2):
        more = np.full((1, 3), wrong, dtype=np.uint8)
        matrices[1].update(more, np.full_like(more, IGNORED))
    matrices[1].update(predicted, truth)
    np.testing.assert_array_equal(matrices[1].counts, matrices[0].counts)


def test_ignored_pixels_do_not_count_with_the_most_classes() -> None:
    matrix = ConfusionMatrix(range(1, MAX_CLASSES + 1))
    every = np.arange(MAX_CLASSES + 1, dtype=np.uint8)
    matrix.update(np.tile(every, (2, 1)), np.stack([every, np.full_like(every, IGNORED)]))
    np.testing.assert_array_equal(matrix.counts, np.eye(MAX_CLASSES + 1))


def test_nothing_to_score_is_an_error() -> None:
    for truth in (array([[0, 0]]), array([[IGNORED, IGNORED]])):
        with pytest.raises(ValueError, match="none of the classes"):
            scored(array([[1, 0]]), truth, (5,))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        ConfusionMatrix((1,)).update(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_flat_names_every_score_as_a_column() -> None:
    scores = scored(array([[1, 0, 0]]), array([[1, 1, 0]]), (255, 7))
    assert scores.flat() == {
        "miou": scores.miou,
        "miou_with_background": scores.miou_with_background,
        "iou/255": 0.5,
        "iou/7": None,
        "iou/background": 0.5,
    }


def test_the_most_classes_that_are_allowed_can_be_told_apart() -> None:
    indices = np.arange(255, dtype=np.uint8)
    scores = scored(indices, indices.copy(), range(1000, 1254))
    assert scores.miou == 1.0
    assert len(scores.iou) == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64])
def test_labels_and_indices_round_trip(dtype: type[np.integer]) -> None:
    labels = Labels((255, 0, 17) if dtype is not np.int16 else (9, 0, 17), (3,), True, 4)
    mask = np.random.default_rng(0).choice(np.array([*labels.classes, 3, 4], dtype=dtype), (20, 30))
    indices = labels.to_indices(mask)
    assert indices.dtype == np.uint8
    counted = indices != IGNORED
    np.testing.assert_array_equal(counted, mask != 3)
    np.testing.assert_array_equal(labels.to_labels(np.where(counted, indices, 0))[counted], mask[counted])


def test_indices_follow_the_order_of_the_classes_and_not_their_values() -> None:
    labels = Labels((9, 2, 5), (0,), True, 1)
    indices = labels.to_indices(np.array([[9, 2, 5, 0, 1, 200]], dtype=np.uint8))
    assert indices.tolist() == [[1, 2, 3, IGNORED, BACKGROUND, BACKGROUND]]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ((1, 255), np.uint8),
        ((1, 256), np.uint16),
        ((65535,), np.uint16),
        ((-1, 300), np.int16),
        ((70_000,), np.uint32),
        ((-1, 70_000), np.int32),
        ((2**40,), np.int64),
    ],
)
def test_predictions_are_written_in_the_smallest_type(classes: tuple[int, ...], expected: type[np.integer]) -> None:
    labels = Labels(classes, (), True, 0)
    written = labels.to_labels(np.arange(len(classes) + 1, dtype=np.uint8))
    assert written.dtype == expected
    assert written.tolist() == [0, *classes]


def test_a_background_label_that_no_mask_file_can_hold_is_not_written() -> None:
    labels = Labels.from_masks([255], [], [-1, 255])
    assert labels.to_labels(np.array([[0, 1]], dtype=np.uint8)).tolist() == [[0, 255]]


def test_tile_iou_is_the_mean_over_occurring_classes() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 0, IGNORED, IGNORED]], dtype=np.uint8)
    predicted = np.array([[1, 1, 1, 0, 0, 1, 2, 3]], dtype=np.uint8)
    assert tile_iou(predicted, truth, 3) == pytest.approx(3 / 5)
    truth[0, 5] = 2
    assert tile_iou(predicted, truth, 3) == pytest.approx((3 / 5 + 0) / 2)


def test_a_false_alarm_counts_and_an_empty_tile_has_no_iou() -> None:
    truth = np.array([[0, 0, IGNORED]], dtype=np.uint8)
    assert tile_iou(np.array([[0, 2, 0]], dtype=np.uint8), truth, 2) == 0
    assert tile_iou(np.array([[0, 0, 2]], dtype=np.uint8), truth, 2) is None
    assert tile_iou(truth[:, 2:], truth[:, 2:], 2) is None
