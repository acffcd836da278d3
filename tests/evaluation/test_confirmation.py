"""A confirmation covers the truth, and names no winner where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from power import Power, World, claimed, power, searched

from segtune.errors import InputError
from segtune.evaluation.confirmation import Confirmation, Repeats, confirm, few, mean_of
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import TileCounts


def confirmed(skills: Sequence[float], number: int, **world: float) -> Confirmation:
    """Confirm configurations with these skills; the first one is called 0, and so on."""
    found = World(np.random.default_rng(number), **world)  # type: ignore[arg-type]
    return confirm([found.repeats(str(name), skill) for name, skill in enumerate(skills)])


def test_means_are_those_of_the_whole_split() -> None:
    world = World(np.random.default_rng(0))
    repeats = [world.repeats("A", 0.7), world.repeats("B", 0.8, seeds=2), world.repeats("C", 0.6, seeds=1)]
    found = confirm(repeats)
    assert [mean.name for mean in found.means] == ["B", "A", "C"]
    for mean, own in zip(found.means, (repeats[1], repeats[0], repeats[2]), strict=True):
        assert mean.scores == tuple(mean_iou(counts.total()) for counts in own.tiles)
        assert mean.mean == pytest.approx(np.mean(mean.scores))
    assert found.means[2].deviation is None
    assert found.means[1].deviation == pytest.approx(np.std(found.means[1].scores, ddof=1))
    assert [gain.over for gain in found.gains] == ["A", "C"]
    assert found.gain_over("A") == found.gains[0]
    assert found.gain_over("B") is None
    for gain, other in zip(found.gains, found.means[1:], strict=True):
        assert gain.miou.value == found.best.mean - other.mean
    assert found.plain()["gains"][0]["over"] == "A"


def test_the_median_run_of_an_even_number_is_the_lower_one() -> None:
    world = World(np.random.default_rng(1))
    for seeds in (2, 3, 4):
        mean = confirm([world.repeats("A", 0.7, seeds), world.repeats("B", 0.6, seeds)]).best
        assert mean.scores[mean.median] == sorted(mean.scores)[(seeds - 1) // 2]


def test_equal_configurations_keep_the_order_they_are_given_in() -> None:
    same = World(np.random.default_rng(2)).repeats("A", 0.7)
    found = confirm([same, Repeats("B", same.tiles)])
    assert [mean.name for mean in found.means] == ["A", "B"]
    assert found.gains[0].probability == pytest.approx(0.5)
    assert not found.gains[0].shown


def test_runs_that_differ_by_little_on_every_tile_are_told_apart() -> None:
    world = World(np.random.default_rng(3), seed=0.0, style=0.0, both=0.0)
    found = confirm([world.repeats("worse", 0.70), world.repeats("better", 0.72)])
    alone = confirm([world.repeats("worse", 0.70), World(np.random.default_rng(4)).repeats("other tiles", 0.72)])
    assert found.best.name == "better"
    assert found.gains[0].shown
    assert found.gains[0].probability > 0.99
    assert not alone.gains[0].shown


def test_more_seeds_narrow_an_interval_and_more_candidates_widen_it() -> None:
    def half(candidates: int, seeds: int) -> float:
        world = World(np.random.default_rng(5), style=0.0)
        found = confirm([world.repeats(str(number), 0.7, seeds) for number in range(candidates)])
        return found.gains[-1].miou.high - found.gains[-1].miou.value

    assert half(4, 12) < 0.7 * half(4, 3)
    assert half(8, 8) > 1.1 * half(2, 8)


def test_tiles_of_a_group_are_drawn_together() -> None:
    world = World(np.random.default_rng(6), seed=0.0, both=0.0, style=0.1)
    one, two = world.repeats("A", 0.7), world.repeats("B", 0.7)
    copies = [
        Repeats(each.name, tuple(TileCounts(np.repeat(c.numbers, 4, 0)) for c in each.tiles)) for each in (one, two)
    ]
    groups = np.repeat(np.arange(world.tiles), 4).tolist()
    plain, grouped, once = confirm(copies), confirm(copies, groups), confirm([one, two])
    assert (grouped.tiles, grouped.groups) == (120, 30)
    assert grouped.gains[0].miou == once.gains[0].miou
    assert plain.gains[0].miou.high < grouped.gains[0].miou.high


def test_what_cannot_be_compared_is_refused() -> None:
    world = World(np.random.default_rng(7))
    one, two = world.repeats("A", 0.7), world.repeats("B", 0.7)
    with pytest.raises(ValueError, match="at least two"):
        confirm([one])
    with pytest.raises(ValueError, match="no configuration has two seeds"):
        confirm([Repeats("A", one.tiles[:1]), Repeats("B", two.tiles[:1])])
    with pytest.raises(ValueError, match="same tiles"):
        confirm([one, Repeats("B", tuple(TileCounts(counts.numbers[1:]) for counts in two.tiles))])
    with pytest.raises(InputError, match="at least 2 groups of tiles"):
        confirm([one, two], ["a"] * world.tiles)


def test_the_best_of_forty_equal_ones_is_rarely_called_better() -> None:
    random = np.random.default_rng(0)
    assert sum(claimed(searched(random, [0.75] * 40)) for _ in range(20)) <= 3


@pytest.mark.slow
def test_forty_equal_ones_have_a_gain_in_at_most_5_of_100_searches() -> None:
    random = np.random.default_rng(1)
    assert sum(claimed(searched(random, [0.75] * 40)) for _ in range(200)) / 200 <= 0.05


@pytest.mark.slow
def test_two_deviations_are_mostly_found_and_rarely_claimed() -> None:
    found = power(200, 2, seeds=3)
    assert found.retrained >= found.best > 0.5 * 200  # it has the best mean of those that train again
    assert 0.08 * 200 < found.found < 0.3 * 200  # its gain over the baseline is claimed: three seeds are few
    assert found.other <= 0.05 * 200


@pytest.mark.slow
def test_five_seeds_claim_a_gain_of_three_deviations_in_most_searches() -> None:
    assert power(200, 3, seeds=5).found > 0.5 * 200


def test_the_table_of_power_counts_each_search_once() -> None:
    assert power(10, 20, seeds=3) == Power(retrained=10, best=10, found=10, other=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        {"seed": 0.03, "style": 0.0, "both": 0.0},
        {"seed": 0.0, "style": 0.08, "both": 0.0},
        {"seed": 0.0, "style": 0.0, "both": 0.1},
        {"seed": 0.02, "style": 0.05, "both": 0.05},
    ],
    ids=["seeds vary", "tiles vary", "both together", "all"],
)
def test_intervals_cover_the_truth_whatever_varies(world: dict[str, float]) -> None:
    covered = 0
    for number in range(60):
        gain = confirmed([0.75] * 4, number, **world).gain_over("0")
        covered += gain is None or gain.miou.low <= 0 <= gain.miou.high
    assert covered / 60 >= 0.9


def test_the_interval_of_a_mean_covers_other_seeds_and_other_tiles() -> None:
    whole = World(np.random.default_rng(99), tiles=3000).repeats("A", 0.75, 30)
    truth = np.mean([mean_iou(counts.total()) for counts in whole.tiles])
    found = [mean_of(World(np.random.default_rng(n), style=0.0).repeats("A", 0.75)).interval for n in range(30)]
    assert sum(interval.low <= truth <= interval.high for interval in found if interval) >= 26
    mean = mean_of(World(np.random.default_rng(0), tiles=1).repeats("A", 0.7))
    assert mean.interval is None
    assert mean.deviation is not None


def test_each_one_has_an_interval_and_a_gain_over_the_reference() -> None:
    world = World(np.random.default_rng(3))
    repeats = [world.repeats(name, skill) for name, skill in (("0", 0.6), ("A", 0.7), ("B", 0.8))]
    found = confirm(repeats, reference="0")
    assert [mean.interval.value for mean in found.means if mean.interval] == [mean.mean for mean in found.means]
    assert list(found.over_reference) == ["B", "A"]
    assert found.over_reference["B"].miou == found.gains[-1].miou
    base = found.means[-1].mean
    for mean in found.means[:-1]:
        gain = found.over_reference[mean.name].miou
        assert gain.value == mean.mean - base
        assert 0 < gain.low < gain.value < gain.high
    alone = [mean_of(each).interval for each in repeats]
    widths = [own.high - own.low for own in alone if own]
    # All seeds together say how scores vary from seed to seed, so that no interval is far from the others.
    pooled = [mean.interval.high - mean.interval.low for mean in found.means if mean.interval]
    assert max(pooled) / min(pooled) < max(widths) / min(widths)
    assert confirm(repeats).over_reference == {}


def test_the_interval_of_a_difference_of_shares_ends_at_one() -> None:
    ends = []
    for number in range(10):
        world = World(np.random.default_rng(number), tiles=2, seed=0.3, style=0.3)
        found = confirm([world.repeats(name, 0.5, seeds=2) for name in ("0", "A")], reference="0")
        intervals = [gain.miou for gain in (*found.gains, *found.over_reference.values())]
        ends += [end for interval in intervals for end in (interval.low, interval.high)]
    assert (min(ends), max(ends)) == (-1.0, 1.0)


def test_few_seeds_tiles_or_groups_are_warned_of() -> None:
    assert few(3, 10, None) is None
    assert few(5, 40, 10) is None
    assert few(2, 8, None) == (
        "warning: 2 seeds and 8 tiles are few to make intervals of: they say almost nothing, and more seeds narrow "
        "them; take at least 3 seeds and 10 tiles"
    )
    assert few(3, 40, 5) == (
        "warning: 5 groups are few to make intervals of: they are rough, and more seeds narrow them; take at least 10 "
        "groups"
    )


def test_what_costs_too_much_comes_last_and_the_gain_over_it_is_a_loss() -> None:
    world = World(np.random.default_rng(3))
    repeats = [world.repeats(name, skill) for name, skill in (("0", 0.6), ("A", 0.7), ("B", 0.8))]
    found = confirm(repeats, reference="0", outside=("B",))
    assert [mean.name for mean in found.means] == ["A", "0", "B"]
    assert [gain.over for gain in found.gains] == ["0", "B"]
    assert found.gains[0].miou.low > 0 > found.gains[1].miou.high
    assert [mean.name for mean in confirm(repeats, outside=("0", "A", "B")).means] == ["B", "A", "0"]
