"""Intervals come from resampled tiles or groups of tiles, and cover what they should."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from segtune.errors import InputError
from segtune.evaluation.intervals import Comparison, Intervals, bootstrap, compare, tile_groups
from segtune.evaluation.metrics import ConfusionMatrix, mean_iou
from segtune.evaluation.overlap import Overlap, TileCounts

Matrices = npt.NDArray[np.int64]


def split(count: int, classes: int = 2, seed: int = 0, skill: float = 0.8, spread: float = 0.1) -> Matrices:
    """Confusion matrices of tiles of 1000 pixels on which a model is right more or less often."""
    random = np.random.default_rng(seed)
    found = np.zeros((count, classes + 1, classes + 1), dtype=np.int64)
    for tile in found:
        right = np.clip(random.normal(skill, spread), 0.05, 0.99)
        for index, pixels in enumerate(random.multinomial(1000, random.dirichlet(np.ones(classes + 1) * 3))):
            chances = np.full(classes + 1, (1 - right) / classes)
            chances[index] = right
            tile[index] = random.multinomial(pixels, chances)
    return found


def whole_iou(matrices: Matrices) -> float | None:
    """mIoU of all tiles together."""
    return mean_iou(Overlap.of(matrices.sum(axis=0)))


def intervals(matrices: Matrices, classes: Sequence[int], groups: Sequence[Hashable] | None = None) -> Intervals:
    return bootstrap(TileCounts.of(matrices), classes, groups)


def compared(
    names: tuple[str, str],
    matrices: tuple[Matrices, Matrices],
    classes: Sequence[int],
    groups: Sequence[Hashable] | None = None,
) -> Comparison:
    return compare(names, (TileCounts.of(matrices[0]), TileCounts.of(matrices[1])), classes, groups)


def plainly_drawn(matrices: Matrices, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """mIoU of resampled tiles, one draw at a time."""
    random = np.random.default_rng(seed)
    count = len(matrices)
    return np.array([whole_iou(matrices[random.integers(count, size=count)]) for _ in range(draws)])


def test_the_interval_is_that_of_tiles_drawn_one_by_one() -> None:
    matrices = split(60)
    found = intervals(matrices, (5, 7))
    low, high = np.percentile(plainly_drawn(matrices, 4000, seed=99), [2.5, 97.5])
    assert found.miou.value == whole_iou(matrices)
    assert found.miou.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.miou.high == pytest.approx(high, abs=0.1 * (high - low))
    assert found.miou.low < found.miou.value < found.miou.high


def test_values_are_those_of_the_whole_split() -> None:
    matrices = split(20)
    whole = ConfusionMatrix((5, 7))
    whole.counts = matrices.sum(axis=0)
    found = intervals(matrices, (5, 7))
    values = {label: interval.value for label, interval in found.iou.items() if interval}
    assert values == {label: whole.scores().iou[label] for label in ("5", "7")}
    assert found.plain()["tiles"] == 20
    assert found.plain()["groups"] is None
    json.dumps(found.plain())


def test_the_same_tiles_give_the_same_interval() -> None:
    assert intervals(split(30), (1, 2)) == intervals(split(30), (1, 2))


def test_tiles_that_are_alike_have_no_interval_to_speak_of() -> None:
    found = intervals(np.repeat(split(1), 12, axis=0), (1, 2))
    assert found.miou.low == found.miou.high == pytest.approx(found.miou.value)


def test_a_group_of_copies_counts_as_one_tile() -> None:
    scenes = split(15)
    copies = np.repeat(scenes, 8, axis=0)
    groups = np.repeat([f"scene {number}" for number in range(15)], 8)
    grouped, tiles, once = intervals(copies, (1, 2), groups), intervals(copies, (1, 2)), intervals(scenes, (1, 2))
    assert grouped.miou == once.miou
    assert tiles.miou.high - tiles.miou.low < 0.5 * (grouped.miou.high - grouped.miou.low)
    assert (grouped.tiles, grouped.groups) == (120, 15)


def test_classes_in_too_few_tiles_have_no_interval() -> None:
    matrices = split(12, classes=3)
    matrices[:, 2] = 0
    matrices[1:, 3] = 0
    found = intervals(matrices, (10, 20, 30))
    assert found.iou["10"]
    assert found.iou["20"] is None
    assert found.iou["30"] is None
    assert found.miou.value == whole_iou(matrices)


def test_ten_thousand_tiles_take_seconds() -> None:
    matrices = np.tile(split(100, classes=4), (100, 1, 1))
    start = time.perf_counter()
    intervals(matrices, range(4))
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("groups", [None, ["a"] * 5])
def test_one_unit_is_refused(groups: list[str] | None) -> None:
    with pytest.raises(InputError, match=r"at least 2 (tiles|groups of tiles), but there is 1"):
        intervals(split(5 if groups else 1), (1, 2), groups)


def test_few_units_are_warned_of() -> None:
    assert intervals(split(10), (1, 2)).remarks() == []
    (tiles,) = intervals(split(9), (1, 2)).remarks()
    assert tiles.startswith("warning: 9 tiles are few")
    (groups,) = intervals(split(9), (1, 2), list("abcabcabc")).remarks()
    assert groups.startswith("warning: 3 groups are few")


def test_the_better_model_is_named_with_its_interval() -> None:
    better, worse = split(54, seed=1, skill=0.85), split(54, seed=1, skill=0.8)
    for order in ((better, worse), (worse, better)):
        names = ("new", "old") if order[0] is better else ("old", "new")
        found = compared(names, order, (5, 7))
        interval = found.miou
        assert interval.value == whole_iou(order[0]) - whole_iou(order[1])
        low, high = sorted((abs(interval.low), abs(interval.high)))
        assert low > 0
        assert found.sentence() == (
            f"new is better than old by {abs(interval.value):.3f} mIoU "
            f"(95% interval {low:.3f} to {high:.3f}, 54 tiles)."
        )
    assert found.plain()["sentence"] == found.sentence()
    assert found.iou["5"].value < 0


def test_pairs_show_what_two_intervals_hide() -> None:
    worse = split(40, spread=0.2)
    better = worse.copy()
    moved = worse[:, 1, 0] // 10  # missed pixels of the first class that are found now
    better[:, 1, 0] -= moved
    better[:, 1, 1] += moved
    a, b = intervals(better, (1, 2)).miou, intervals(worse, (1, 2)).miou
    assert a.low < b.high
    assert compared(("A", "B"), (better, worse), (1, 2)).miou.low > 0


def test_no_difference_is_claimed_where_chance_could_bring_it() -> None:
    found = compared(("A", "B"), (split(30, seed=3), split(30, seed=4)), (1, 2))
    assert found.miou.low < 0 < found.miou.high
    assert found.sentence().startswith("No difference can be shown between A and B (A minus B: ")
    same = compared(("A", "B"), (split(12), split(12)), (1, 2), list("abcabcabcabc"))
    assert same.sentence() == (
        "No difference can be shown between A and B "
        "(A minus B: 0.000 mIoU, 95% interval 0.000 to 0.000, 12 tiles in 3 groups)."
    )


def test_two_models_must_be_measured_on_the_same_tiles() -> None:
    with pytest.raises(ValueError, match="12 and 11 tiles"):
        compared(("A", "B"), (split(12), split(11)), (1, 2))


def test_a_regular_expression_finds_the_group_in_a_name() -> None:
    names = ["2020_place3_01", "2021_place3_02", "2020_place11_01"]
    assert tile_groups(names, r"_(place\d+)") == ["place3", "place3", "place11"]
    assert tile_groups(names, "^(....)") == ["2020", "2021", "2020"]


@pytest.mark.parametrize(
    ("pattern", "mistake"),
    [
        ("scene_(", r"--group: 'scene_\(' is not a regular expression \(missing \)"),
        (r"scene_\d+", r"--group: 'scene_.* has no parentheses; .* such as 'scene_\(\\\\d\+\)'"),
        (r"scene_(\d)_(b)", r"--group: .* does not match 2 of 4 tiles: scene_1_a, scene_2_a"),
        ("(scene)", r"--group: '\(scene\)' puts all 4 tiles into one group, 'scene'"),
        ("(x)?scene", "does not match 4 of 4 tiles"),
    ],
)
def test_a_wrong_pattern_is_one_clear_line(pattern: str, mistake: str) -> None:
    with pytest.raises(InputError, match=mistake) as error:
        tile_groups(["scene_1_a", "scene_1_b", "scene_2_a", "scene_2_b"], pattern)
    assert len(error.value.mistakes) == 1


def scenes(random: np.random.Generator, count: int, tiles: int, skill: float) -> Matrices:
    """Tiles of scenes: the tiles of a scene are alike in how hard they are and in what they show."""
    right = np.clip(random.normal(skill, 0.12, count), 0.02, 0.98).repeat(tiles)
    share = random.beta(2, 5, count).repeat(tiles)
    objects = random.binomial(4096, share)
    hits = random.binomial(objects, right)
    alarms = random.binomial(4096 - objects, 0.25 * (1 - right))
    return np.stack([4096 - objects - alarms, alarms, objects - hits, hits], axis=-1).reshape(-1, 2, 2)


@pytest.mark.slow
def test_intervals_cover_the_truth_in_95_of_100_data_sets() -> None:
    random = np.random.default_rng(0)
    whole = whole_iou(scenes(random, 2_000_000, 1, 0.75))
    other = whole_iou(scenes(random, 2_000_000, 1, 0.7))
    assert whole
    assert other
    groups = np.arange(40).repeat(8)
    grouped = ungrouped = differences = 0
    for _ in range(400):
        a, b = scenes(random, 40, 8, 0.75), scenes(random, 40, 8, 0.7)
        interval = intervals(a, (1,), groups).miou
        grouped += interval.low <= whole <= interval.high
        interval = intervals(a, (1,)).miou
        ungrouped += interval.low <= whole <= interval.high
        interval = compared(("A", "B"), (a, b), (1,), groups).miou
        differences += interval.low <= whole - other <= interval.high
    assert 0.92 <= grouped / 400 <= 0.97
    assert 0.92 <= differences / 400 <= 0.97
    assert ungrouped / 400 < 0.7
