"""Objectives, computed from the pixels that were counted on tiles."""

from __future__ import annotations

import numpy as np
import pytest

from segtune.evaluation.boundary import BoundaryCounts
from segtune.evaluation.class_scores import class_scores
from segtune.evaluation.intervals import bootstrap
from segtune.evaluation.measure import Measure
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.overlap import TileCounts

CLASSES = (7, 9, 30)


def counted(tiles: int, outlines: bool = True, seed: int = 0) -> tuple[TileCounts, ConfusionMatrix, BoundaryCounts]:
    """Counts of random tiles whose masks lack the last class in half of the tiles."""
    random = np.random.default_rng(seed)
    matrix, boundary, numbers = ConfusionMatrix(CLASSES), BoundaryCounts(CLASSES), []
    for tile in range(tiles):
        truth = np.repeat(np.repeat(random.integers(0, 4 if tile % 2 else 3, (6, 6), dtype=np.uint8), 5, 0), 5, 1)
        predicted = np.where(random.random(truth.shape) < 0.8, truth, random.integers(0, 4, truth.shape)).astype("u1")
        own = ConfusionMatrix(CLASSES)
        own.update(predicted, truth)
        matrix.add(own)
        boundary.update(predicted, truth)
        numbers.append(TileCounts.of(own.counts[None]).numbers)
    return TileCounts(np.concatenate(numbers), boundary.numbers() if outlines else None), matrix, boundary


def test_objectives_are_the_scores_that_tables_show() -> None:
    tiles, matrix, boundary = counted(6)
    by_label, outlines = class_scores(matrix).by_label, boundary.scores()
    f1 = np.mean([by_label[str(label)].f1 for label in CLASSES])
    expected = {
        "miou": matrix.scores().miou,
        "iou/9": by_label["9"].iou,
        "f1": f1,
        "boundary_iou": outlines.mean,
        "3*f1+2*iou/30+boundary_iou": (3 * f1 + 2 * by_label["30"].iou + outlines.mean) / 6,
    }
    found = {name: Measure.named(name, CLASSES).of(tiles) for name in expected}
    assert found == pytest.approx(expected, abs=1e-12)
    assert len({round(value, 6) for value in expected.values()}) == len(expected)


def test_intervals_of_miou_are_those_of_the_bootstrap() -> None:
    tiles = counted(8)[0]
    measure = Measure.named("miou", CLASSES)
    assert measure.interval(tiles) == bootstrap(tiles, CLASSES).miou
    groups = [0, 0, 1, 1, 2, 2, 3, 3]
    assert measure.interval(tiles, groups) == bootstrap(tiles, CLASSES, groups).miou


@pytest.mark.parametrize("name", ["iou/7", "f1", "boundary_iou", "miou+boundary_iou"])
def test_the_interval_of_an_objective_holds_its_value(name: str) -> None:
    tiles = counted(20)[0]
    found = Measure.named(name, CLASSES).interval(tiles, [n // 2 for n in range(20)])
    assert found.low < found.value < found.high
    assert found.value == Measure.named(name, CLASSES).of(tiles)


def test_a_model_gains_nothing_over_itself_and_something_over_a_worse_one() -> None:
    tiles, measure = counted(12)[0], Measure.named("boundary_iou+f1", CLASSES)
    assert measure.gain(tiles, tiles) == measure.gain(tiles, TileCounts(tiles.numbers, tiles.outlines))
    worse = TileCounts(*(part // [[2], [1], [1]] for part in (tiles.numbers, tiles.outlines)))
    assert measure.gain(tiles, worse).low > 0
    assert measure.gain(tiles, tiles).value == 0


def test_a_class_that_no_mask_holds_leaves_the_objective_open() -> None:
    even = counted(1)[0]  # without the last class
    assert Measure.named("f1", CLASSES).of(even) is not None
    for name in ("iou/30", "f1+iou/30"):
        assert Measure.named(name, CLASSES).of(even) is None


def test_outlines_that_were_not_counted_are_an_error() -> None:
    with pytest.raises(ValueError, match="outlines were not counted"):
        Measure.named("boundary_iou", CLASSES).of(counted(2, outlines=False)[0])


def test_counts_of_processes_are_joined_with_their_outlines() -> None:
    whole = counted(6)[0]
    first, second = whole.at(np.array([4, 0])), whole.at(np.array([1, 5, 2, 3]))
    joined = TileCounts.joined([first, second]).at(np.array([1, 2, 4, 5, 0, 3]))
    assert np.array_equal(joined.numbers, whole.numbers)
    assert np.array_equal(joined.outlines, whole.outlines)
    assert TileCounts.joined([first, counted(2, outlines=False)[0]]).outlines is None
