"""Rules that end a search, or a trial of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.files.folders import SearchFolder
from segtune.tuning.scheduler import Decision
from segtune.tuning.stopping import Cause, EarlyEnd, seconds_of
from tests.tuning.bench import SPACE, Bench


def test_the_time_spent_is_noted_while_no_trial_reports(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = Bench(bench.folder, SPACE)
    now += 29
    bench.searcher.poll()
    assert seconds_of(bench.study) == 0
    now += 2
    bench.searcher.poll()
    assert seconds_of(bench.study) == 31


def with_rules(tmp_path: Path, rules: str) -> Bench:
    return Bench(SearchFolder(tmp_path / "s"), SPACE.replace("trials: 8", f"trials: 8, {rules}"), concurrent=1)


def test_without_improvement_for_long_enough_no_more_trials_are_asked_for(tmp_path: Path) -> None:
    bench = with_rules(tmp_path, "patience: 3")
    for value in (0.5, 0.4, 0.6, 0.6, 0.1, 0.2):
        bench.finish(bench.start().number, value)
    assert bench.over()
    assert bench.rules.why_over() == EarlyEnd(Cause.PATIENCE, "3 trials in a row brought no improvement")


def test_the_time_budget_is_that_of_all_starts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = with_rules(tmp_path, "time_budget: 1m, confirm: none")
    bench.start()
    now += 40
    bench.finish(0)
    now = 5.0  # another process, after a reboot
    bench = with_rules(tmp_path, "time_budget: 1m, confirm: none")
    assert bench.rules.seconds() == 40
    assert bench.searcher.next_trial()
    now += 25
    assert bench.rules.over()
    bench.report(1, 1, 0.2)
    bench.searcher.ended(1)
    assert bench.over()
    assert bench.searcher.interrupted
    assert bench.rules.why_over() == EarlyEnd(Cause.TIME, "the time budget of 1 min 00 s is used up")


def test_a_quarter_of_the_time_budget_is_kept_for_the_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = with_rules(tmp_path, "time_budget: 80")
    now += 59
    assert not bench.rules.over()
    now += 2
    assert bench.rules.over()
    assert not bench.rules.out_of_time()
    reason = "the time budget of 1 min 20 s is used up, but for 20 s that the confirmation of the winner has"
    assert bench.rules.why_over() == EarlyEnd(Cause.TIME, reason)
    now += 20
    assert bench.rules.out_of_time()


@pytest.mark.parametrize(
    ("rules", "report", "reason"),
    [
        ("max_trial_time: 1m", {"seconds": 61.0}, "1 min 01 s"),
        ("max_trial_time: 1m", {"seconds": 59.0}, None),
        ("collapse_epochs: 2", {"collapsed_epochs": 2}, "one class everywhere for 2 epochs"),
        ("collapse_epochs: 2", {"collapsed_epochs": 1}, None),
    ],
)
def test_a_rule_stops_a_trial_with_its_reason_but_not_the_baseline(
    tmp_path: Path, rules: str, report: dict[str, float], reason: str | None
) -> None:
    bench = with_rules(tmp_path, rules)
    bench.start()
    assert bench.report(0, 2, 0.1, **report) is Decision.CONTINUE
    bench.finish(0)
    bench.start()
    assert bench.report(1, 2, 0.1, **report) is (Decision.STOP if reason else Decision.CONTINUE)
    bench.searcher.ended(1)
    trial = bench.results().trials()[1]
    assert trial.status == ("stopped" if reason else "pending")
    assert reason in trial.note if reason else trial.note is None
