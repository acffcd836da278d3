"""The worst tiles of a split: which ones are kept, and how tiles are ranked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.labels import IGNORED
from segtune.evaluation.worst import Worst, wrong_pixels


def prediction(value: int = 0) -> npt.NDArray[np.uint8]:
    return np.full((4, 4), value, dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_the_lowest_scores_are_kept_with_the_worst_first(count: int) -> None:
    scores = [0.5, 0.1, 0.9, 0.3, 0.1, 0.7, 0.0]
    worst = Worst(count)
    for index, score in reversed(list(enumerate(scores))):
        worst.add(score, index, prediction(index))
        assert len(worst.tiles()) <= count
    expected = sorted((score, index) for index, score in enumerate(scores))[:count]
    assert [(tile.score, tile.index) for tile in worst.tiles()] == expected
    assert all((tile.predicted == tile.index).all() for tile in worst.tiles())


def test_what_is_kept_does_not_hold_on_to_a_batch() -> None:
    batch = np.zeros((8, 4, 4), dtype=np.uint8)
    worst = Worst(1)
    worst.add(0.5, 0, batch[0])
    batch[:] = 7
    assert worst.tiles()[0].predicted.base is None
    assert not worst.tiles()[0].predicted.any()


def test_wrong_pixels_rank_a_large_error_above_a_single_pixel() -> None:
    truth = np.zeros((2, 10, 10), dtype=np.uint8)
    truth[0, 0, 0] = truth[1, :5] = 1  # a tile with one pixel of the class, missed: IoU 0; one with fifty, ten missed
    truth[1, 9, :4] = IGNORED
    predicted = np.zeros_like(truth)
    predicted[1, :4] = 1
    predicted[1, 9, :2] = 1
    assert [wrong_pixels(*tile) for tile in zip(predicted, truth, strict=True)] == [1, 10]
    assert wrong_pixels(truth[0], truth[0]) == 0


def test_noted_tiles_are_ranked_by_wrong_pixels_without_perfect_ones() -> None:
    worst = Worst(3)
    for index, wrong in enumerate([2, 0, 5]):
        predicted = prediction()
        predicted.flat[:wrong] = 1
        worst.note(index, predicted, prediction())
    assert [(tile.index, tile.score) for tile in worst.tiles()] == [(2, -5), (0, -2)]
