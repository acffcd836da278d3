"""What each value of a setting brought: equal effort, ranges of numbers, and intervals."""

from __future__ import annotations

import pytest

from segtune.report.effects import compared_after, influences
from segtune.report.record import Curve
from tests.report.reports import trial


def curve(*scores: float) -> Curve:
    return Curve(tuple(range(1, len(scores) + 1)), scores)


def test_trials_are_compared_after_the_epochs_that_three_quarters_reached() -> None:
    curves = {0: curve(0.1, 0.2, 0.3), 1: curve(0.1, 0.2), 2: curve(0.1, 0.2), 3: curve(0.1)}
    assert compared_after(curves) == 2
    assert compared_after({}) is None
    assert compared_after({0: curve()}) is None


def test_a_value_is_measured_with_equal_effort() -> None:
    curves = {number: curve(0.3, 0.4) for number in (0, 1, 2)} | {3: curve(0.2, 0.3, 0.9), 4: curve(0.5)}
    trials = [trial(number, max(found.scores)) for number, found in curves.items()]
    drawn = {number: {"encoder": "a" if number < 3 else "b"} for number in curves}
    (found,) = influences(trials, curves, drawn, {"encoder": 1.0})
    a, b = found.effects  # the better mean comes first
    assert (a.value, a.trials, a.mean, a.interval) == ("a", 3, pytest.approx(0.4), pytest.approx((0.4, 0.4)))
    assert (b.value, b.trials, b.mean, b.interval, b.best) == ("b", 1, 0.3, None, 0.9)  # trial 4 has one epoch


def test_the_interval_is_that_of_student() -> None:
    scores = [0.5, 0.6, 0.7]
    curves = {number: curve(score) for number, score in enumerate(scores)}
    trials = [trial(number, score) for number, score in enumerate(scores)]
    (found,) = influences(trials, curves, {number: {"x": "a"} for number in range(3)}, {})
    assert found.share is None
    assert found.effects[0].interval == pytest.approx((0.6 - 0.24841, 0.6 + 0.24841), abs=1e-4)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([4, 8, 4, 8], ["4", "8"]),
        ([0.001 * number for number in range(1, 13)], ["0.001 to 0.00467", "0.00467 to 0.00833", "0.00833 to 0.012"]),
        ([0.1, 0.2, 0.3, 0.4], ["0.1 to 0.25", "0.25 to 0.4"]),
        ([True, False, True, False], ["false", "true"]),
        ([0.5, 0.5], ["0.5"]),
    ],
)
def test_many_numbers_are_shown_in_ranges(values: list[object], names: list[str]) -> None:
    curves = {number: curve(0.5) for number in range(len(values))}
    trials = [trial(number, 0.5) for number in range(len(values))]
    drawn = {number: {"x": value} for number, value in enumerate(values)}
    (found,) = influences(trials, curves, drawn, {"x": 1.0})
    assert sorted(effect.value for effect in found.effects) == names
    assert sum(effect.trials for effect in found.effects) == len(values)


def test_the_most_important_comes_first_and_only_scored_trials_count() -> None:
    drawn = {0: {"a": 1, "b": 1}, 1: {"a": 2, "b": 2}}
    found = influences([trial(0, None), trial(1, 0.5)], {1: curve(0.5)}, drawn, {"a": 0.2, "b": 0.8})
    assert [(one.key, one.share) for one in found] == [("b", 0.8), ("a", 0.2)]
    assert [effect.trials for one in found for effect in one.effects] == [1, 1]
