"""Boundary IoU is that of the paper, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.labels import IGNORED, Indices
from segtune.evaluation.boundary import BoundaryCounts
from tests.evaluation.splits import blobs
from tests.evaluation.test_metrics import array


def papers_boundary(mask: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of a mask that are less than d + 1 pixels away from one outside it, as the paper defines them."""
    height, width = mask.shape
    reach = max(1, round(0.02 * float(np.hypot(height, width))))
    inside = np.pad(mask & counted, reach)  # the edge of the image is a boundary
    near = np.zeros_like(mask)
    for row in range(height):
        for column in range(width):
            window = inside[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            near[row, column] = mask[row, column] and not window.all()
    return near & counted


def papers_iou(pairs: list[tuple[Indices, Indices]], index: int) -> float | None:
    common = union = true_pixels = 0
    for predicted, truth in pairs:
        counted = truth != IGNORED
        ours, theirs = (papers_boundary(mask == index, counted) for mask in (predicted, truth))
        common += int((ours & theirs).sum())
        union += int((ours | theirs).sum())
        true_pixels += int((truth == index).sum())
    return common / union if true_pixels else None


def pairs_of(shape: tuple[int, int], indices: int, ignored: bool) -> list[tuple[Indices, Indices]]:
    pairs = []
    for seed in range(2):
        truth = blobs(shape, indices, seed)
        predicted = np.roll(truth, 2, axis=1)
        predicted[:5, :9] = indices - 1
        if ignored:
            truth[6:12, 4:20] = IGNORED
        pairs.append((predicted, truth))
    return pairs


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("shape", "indices"), [((24, 33), 2), ((40, 25), 4), ((110, 90), 3)])
def test_boundary_iou_equals_that_of_the_paper(shape: tuple[int, int], indices: int, ignored: bool) -> None:
    pairs = pairs_of(shape, indices, ignored)
    counts = BoundaryCounts(range(101, 100 + indices))
    for predicted, truth in pairs:
        counts.update(predicted, truth)
    scores = counts.scores()
    theirs = [papers_iou(pairs, index) for index in range(1, indices)]
    assert list(scores.iou.values()) == pytest.approx(theirs, abs=0)
    assert scores.mean == pytest.approx(np.mean([value for value in theirs if value is not None]), abs=1e-12)


def test_the_band_is_that_of_the_papers_erosion() -> None:
    mask = blobs((150, 120), 2, seed=5)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=round(0.02 * float(np.hypot(150, 120))))
    band = mask - eroded[1:-1, 1:-1]
    counts = BoundaryCounts((1,))
    counts.update(np.zeros_like(mask), mask)
    assert counts.numbers()[0, 1, 1] == band.sum()


def test_what_is_predicted_in_ignored_pixels_changes_nothing() -> None:
    predicted, truth = pairs_of((40, 50), 3, ignored=True)[0]
    scores = []
    for index in (0, 2, None):
        guess = predicted if index is None else np.where(truth == IGNORED, np.uint8(index), predicted)
        counts = BoundaryCounts((1, 2))
        counts.update(guess, truth)
        scores.append(counts.scores())
    assert scores[0] == scores[1] == scores[2]


def test_a_class_without_true_pixels_is_not_part_of_the_mean() -> None:
    counts = BoundaryCounts((5, 6))
    counts.update(array([[1, 1, 2], [1, 1, 0]]), array([[1, 1, 0], [1, 1, 0]]))
    assert counts.scores().plain() == {"boundary_miou": 1.0, "boundary_iou": {"5": 1.0, "6": None}}


def test_boundary_iou_sees_what_iou_hardly_sees() -> None:
    truth = np.zeros((200, 200), np.uint8)
    truth[20:180, 20:180] = 1
    predicted = np.zeros_like(truth)
    predicted[22:178, 22:178] = 1
    counts = BoundaryCounts((1,))
    counts.update(predicted, truth)
    assert (156 / 160) ** 2 > 0.95
    assert counts.scores().mean < 0.6


def test_masks_without_a_class_have_no_mean() -> None:
    counts = BoundaryCounts((1,))
    counts.update(array([[1, 0]]), array([[0, IGNORED]]))
    assert counts.scores().mean is None
