"""Asynchronous successive halving that stops trials, with an exempt baseline."""

from __future__ import annotations

import pytest

from segtune.planning.rungs import grace_period
from segtune.tuning.asha import Asha
from segtune.tuning.scheduler import Decision
from tests.epochs import epoch_result
from tests.tuning.bench import Bench


def reports(asha: Asha, number: int, values: list[float], since: int = 1) -> int:
    """Report values, from epoch `since` on, until ASHA stops the trial; return its number of epochs."""
    asha.add(number, {})
    for epoch, value in list(enumerate(values, start=1))[since - 1 :]:
        if asha.decide(number, epoch_result(epoch, value, epochs=len(values))) is Decision.STOP:
            return epoch
    return len(values)


def test_asha_stops_poor_trials_at_a_rung_and_never_the_baseline() -> None:
    asha = Asha(grace_period=3, reduction_factor=3, epochs=27)
    for number in range(1, 4):
        assert reports(asha, number, [0.5 + 0.1 * number] * 27) in (3, 9, 27)
    assert reports(asha, 4, [0.1] * 27) == 3
    assert reports(asha, 0, [0.0] * 27) == 27


def test_a_slow_starter_survives_the_grace_period() -> None:
    asha = Asha(grace_period=5, reduction_factor=3, epochs=45)
    for number in range(4):
        reports(asha, number, [0.5] * 45)
    assert reports(asha, 9, [0.0] * 4 + [0.6] * 41) == 45
    assert reports(asha, 10, [0.0] * 45) == 5


@pytest.mark.parametrize(("epochs", "warmup", "grace"), [(45, 1, 5), (9, 0, 3), (9, 3, 6), (2, 0, 2), (100, 0, 12)])
def test_the_default_grace_period(bench: Bench, epochs: int, warmup: int, grace: int) -> None:
    assert grace_period(bench.space.search, epochs, warmup) == grace


def test_rungs_are_the_same_after_a_replay() -> None:
    asha, replayed = (Asha(grace_period=1, reduction_factor=3, epochs=9) for _ in range(2))
    curves = {0: [0.2, 0.3, 0.4], 1: [0.3, 0.5, 0.6], 2: [0.4, 0.4, 0.4]}
    for number, values in curves.items():
        reports(asha, number, values)
        replayed.replay(number, dict(enumerate(values, start=1)))
    for poor in ([0.1] * 9, [0.35] * 9, [0.45] * 9):
        assert reports(asha, 99, poor) == reports(replayed, 99, poor)


def test_a_trial_killed_before_asha_stopped_it_is_stopped_on_resume() -> None:
    asha = Asha(grace_period=3, reduction_factor=3, epochs=27)
    for number in range(3):
        asha.replay(number, dict.fromkeys(range(1, 28), 0.9))
    asha.replay(7, dict.fromkeys((1, 2, 3), 0.1), ended=False)
    assert reports(asha, 7, [0.1] * 27, since=4) == 4
