"""Objectives, computed from the pixels that were counted on tiles."""

from __future__ import annotations

import numpy as np
import pytest

from segtune.evaluation.boundary import BoundaryCounts
from segtune.evaluation.class_scores import class_scores
from segtune.evaluation.confirmation import Repeats, confirm, mean_of
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


def lone(holding: int) -> TileCounts:
    """Counts of 40 tiles of which so many hold class 30."""
    matrices = np.tile(np.diag([50, 30, 20, 0]), (40, 1, 1))
    matrices[:, 1, 2] = np.arange(40) % 7
    matrices[:holding, 3, 3], matrices[:holding, 3, 0] = 6 + np.arange(holding), 7
    return TileCounts.of(matrices)


def test_a_class_that_one_tile_holds_leaves_no_interval() -> None:
    for name in ("iou/30", "f1+iou/30"):
        measure, tiles = Measure.named(name, CLASSES), lone(1)
        assert measure.of(tiles) is not None
        assert measure.interval(tiles) is measure.gain(tiles, tiles) is None
        assert measure.unsure(tiles) == "only one tile holds class 30, so how sure its IoU is cannot be said"
        assert Measure.named("iou/9", CLASSES).interval(tiles)
        assert measure.interval(lone(2))
        assert measure.unsure(lone(2)) is None
        pairs = [number // 2 for number in range(40)]
        assert measure.interval(lone(2), pairs) is measure.gain(lone(2), lone(2), pairs) is None
        assert str(measure.unsure(lone(2), pairs)).startswith("only one group of tiles holds class 30, ")


def test_a_class_that_one_tile_holds_leaves_a_confirmation_open() -> None:
    measure, worse = Measure.named("iou/30", CLASSES), lone(1)
    better = TileCounts(worse.numbers.copy())
    better.numbers[0, 0, 3] += 1
    repeats = [Repeats("0", (worse, worse)), Repeats("1", (better, better))]
    found = confirm(repeats, reference="0", measure=measure)
    assert [mean.name for mean in found.means] == ["1", "0"]
    assert [mean.interval for mean in found.means] == [None, None]
    assert (found.gains, found.over_reference, found.objective) == ((), {}, "iou/30")
    assert found.unsure == measure.unsure(worse)
    assert mean_of(repeats[0], measure=measure).interval is None
    assert confirm(repeats).unsure is None
    none = Repeats("0", (lone(0), lone(0)))
    with pytest.raises(ValueError, match="iou/30 is not known: the masks lack a class that it needs"):
        mean_of(none, measure=measure)
