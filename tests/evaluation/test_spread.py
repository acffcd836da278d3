"""The worst, the median and the best tiles of a split."""

from __future__ import annotations

import numpy as np
import pytest

from segtune.evaluation.spread import Spread
from tests.evaluation.test_worst import prediction


def noted(count: int) -> Spread:
    """Tile k has an IoU of k/(count - 1) for 64 pixels of the class, in a mixed order."""
    spread = Spread(1)
    truth = np.ones((8, 8), dtype=np.uint8)
    for index in sorted(range(count), key=lambda index: index * 7 % count):
        predicted = np.zeros(64, dtype=np.uint8)
        predicted[: round(64 * index / max(1, count - 1))] = 1
        spread.note(index, predicted.reshape(8, 8), truth)
    return spread


def test_each_kind_has_its_tiles() -> None:
    found = noted(17).tiles(3)
    assert [(tile.place, tile.index) for tile in found] == [
        *(("worst", index) for index in (0, 1, 2)),
        *(("median", index) for index in (7, 8, 9)),
        *(("best", index) for index in (14, 15, 16)),
    ]
    assert [tile.iou for tile in found] == pytest.approx([tile.index / 16 for tile in found])
    assert found[0].predicted.sum() == 0
    assert found[-1].predicted.shape == (8, 8)


@pytest.mark.parametrize("count", range(11))
def test_no_tile_is_shown_twice(count: int) -> None:
    indices = [tile.index for tile in noted(count).tiles(3)]
    assert len(indices) == len(set(indices)) == min(count, 9 if count > 8 else 3 * max(1, count // 3))


def test_a_full_tile_is_better_than_an_easy_one_and_an_empty_one_is_out() -> None:
    spread = Spread(1)
    spread.note(0, prediction(0), prediction(0))
    easy = np.zeros((4, 4), dtype=np.uint8)
    easy[0, 0] = 1
    spread.note(1, prediction(1), prediction(1))
    spread.note(2, easy, easy)
    assert [tile.index for tile in spread.tiles(1)] == [2, 1]
    spread.clear()
    assert spread.tiles(3) == []
