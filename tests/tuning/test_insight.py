"""What the study knows beyond its trials: which settings matter, and when trials ended."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from segtune.tuning.insight import ended_after, importance, insight
from segtune.tuning.study import PAUSED_AT
from tests.tuning.searched import searched

NOON = datetime(2026, 1, 1, 12)


def drawn(
    number: int, loss: str, lr: float, score: float | None, state: TrialState = TrialState.COMPLETE
) -> FrozenTrial:
    kinds = {"loss": CategoricalDistribution(["a", "b"]), "lr": FloatDistribution(0.0, 1.0)}
    steps = {} if score is None else {1: score - 0.1, 2: score}
    ended = state in (TrialState.COMPLETE, TrialState.PRUNED)
    return FrozenTrial(
        *(number, state, score if ended else None, NOON, NOON if ended else None, {"loss": loss, "lr": lr}, kinds),
        *({}, {}, steps, number),
    )


def test_the_setting_that_decides_has_most_of_the_importance() -> None:
    trials = [
        drawn(
            number,
            "ab"[number % 2],
            number * 7 % 40 / 40,
            0.8 - abs(number * 7 % 40 / 40 - 0.3),
            TrialState.PRUNED if number % 3 else TrialState.COMPLETE,
        )
        for number in range(40)
    ]
    before = optuna.logging.get_verbosity()
    found = importance(trials)
    assert found["lr"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert optuna.logging.get_verbosity() == before


@pytest.mark.parametrize("score", [0.5, None])
def test_nothing_is_said_of_few_or_equal_trials(score: float | None) -> None:
    assert importance([drawn(number, "a", number / 10, number / 10) for number in range(15)]) == {}
    assert sum(importance([drawn(number, "a", 0.5, score) for number in range(20)]).values()) in (0, pytest.approx(1))


def span(number: int, start: int, end: int | None, paused: bool = False) -> FrozenTrial:
    """A trial from one hour to another; or one that paused then, or has not ended."""
    at = None if end is None else NOON + timedelta(hours=end)
    state = TrialState.WAITING if paused else TrialState.RUNNING if end is None else TrialState.COMPLETE
    attributes = {PAUSED_AT: at.isoformat()} if paused and at else {}
    trial = optuna.create_trial(value=0.5, user_attrs=attributes)
    trial.number, trial.state, trial.datetime_start = number, state, NOON + timedelta(hours=start)
    trial.datetime_complete = None if paused else at
    return trial


def test_hours_count_only_while_a_trial_is_under_way() -> None:
    trials = [span(0, 0, 2), span(1, 1, 3), span(2, 24, 26), span(3, 25, None), span(4, 25, 27, paused=True)]
    hours = {number: seconds / 3600 for number, seconds in ended_after(trials).items()}
    assert hours == {0: 2, 1: 3, 2: 5, 4: 6}


def test_a_search_on_disk_is_read(tmp_path: Path) -> None:
    bench, _ = searched(tmp_path / "search", [0.5, 0.6, 0.4])
    found = insight(bench.folder)
    assert found.importance == {}
    assert sorted(found.ended) == [0, 1, 2]
    assert found.began
    assert all("encoder" in values and "optimizer" in values for number, values in found.drawn.items() if number)
