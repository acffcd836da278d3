"""What ends a search, or a trial of it, by rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.files.folders import SearchFolder
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.results import Results
from segtune.tuning.stopping import seconds_of
from tests.tuning.bench import SPACE, Bench


def test_the_time_spent_is_noted_while_no_trial_reports(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = Bench(bench.folder, SPACE)
    now += 29
    bench.searcher.look_at_the_clock()
    assert seconds_of(bench.study) == 0
    now += 2
    bench.searcher.look_at_the_clock()
    assert seconds_of(bench.study) == 31


def with_rules(tmp_path: Path, rules: str) -> Bench:
    return Bench(SearchFolder(tmp_path / "s"), SPACE.replace("trials: 8", f"trials: 8, {rules}"), concurrent=1)


def test_without_improvement_for_long_enough_no_more_trials_are_asked_for(tmp_path: Path) -> None:
    bench = with_rules(tmp_path, "patience: 3")
    for number, value in enumerate([0.5, 0.4, 0.6, 0.6, 0.1, 0.2]):
        bench.start(str(number))
        bench.finish(str(number), value)
    assert bench.searcher.suggest("z") == "FINISHED"
    assert bench.rules.why_over() == "3 trials in a row brought no improvement"


def test_the_time_budget_is_that_of_all_starts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = with_rules(tmp_path, "time_budget: 1m")
    bench.start("a")
    now += 40
    bench.finish("a")
    now = 5.0  # another process, after a reboot
    bench = with_rules(tmp_path, "time_budget: 1m")
    assert bench.rules.seconds() == 40
    assert isinstance(bench.searcher.suggest("b"), dict)
    now += 25
    assert bench.rules.over()
    bench.searcher.on_trial_complete("b", {"epoch": 1, "epochs": 3, OBJECTIVE: 0.2})
    assert bench.searcher.suggest("c") == "FINISHED"
    assert bench.searcher.interrupted
    assert "time budget" in bench.rules.why_over()


@pytest.mark.parametrize(
    ("rules", "report", "reason"),
    [
        ("max_trial_time: 1m", {"seconds": 61.0}, "61 s"),
        ("max_trial_time: 1m", {"seconds": 59.0}, None),
        ("collapse_epochs: 2", {"collapsed_epochs": 2}, "one class everywhere for 2 epochs"),
        ("collapse_epochs: 2", {"collapsed_epochs": 1}, None),
    ],
)
def test_a_rule_stops_a_trial_with_its_reason_but_not_the_baseline(
    tmp_path: Path, rules: str, report: dict[str, float], reason: str | None
) -> None:
    bench = with_rules(tmp_path, rules)
    result = {"epoch": 2, "epochs": 3, OBJECTIVE: 0.1, "seconds": 1.0, "collapsed_epochs": 0} | report
    bench.start("a")
    assert not bench.rules.stop("a", bench.searcher.is_baseline("a"), result)
    bench.finish("a")
    bench.start("b")
    assert bench.rules.stop("b", bench.searcher.is_baseline("b"), result) == bool(reason)
    bench.searcher.on_trial_complete("b", result)
    trial = Results(bench.study, bench.folder, bench.space, "").trials()[1]
    assert trial.status == ("stopped" if reason else "pending")
    assert (reason or "") in trial.note
