"""Lines while a run or a search goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from segtune.errors import counted
from segtune.report.console import SearchConsole, epoch_line, trial_line
from segtune.report.terminal import make_console
from segtune.space.prefer import Preference
from segtune.training.loaders import Waiting
from segtune.trials import ranked
from tests.epochs import epoch_result
from tests.report.trials import TRIALS

NO_CORE = "no core is left for another loader; more cores or a lighter augmentation would help"


def test_one_of_something_is_singular() -> None:
    once = replace(TRIALS[0], settings={"epochs": 1}, epochs_done=1)
    assert "finished 1 epoch in" in trial_line(once, 3)
    assert "after 0 of 1 epoch:" in trial_line(replace(once, status="failed", epochs_done=0, error="why"), 3)
    assert [counted(number, "tile") for number in (0, 1, 2, 1000)] == ["0 tiles", "1 tile", "2 tiles", "1000 tiles"]


def test_the_bar_of_a_search_ends_without_running_trials_and_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    console = SearchConsole(make_console(), 3)
    monkeypatch.setattr(console._bar, "update", lambda done, total, text: said.append(text))
    console.started("a plan", [])
    for trial in TRIALS:
        console.epoch(trial.number, epoch_result(6, 0.1, epochs=12))
        console.ended(trial)
    assert said[-3].startswith("2/3 trials, best 0.9123 (#0), about ")
    assert said[-2].startswith("2/3 trials, 1 running, best 0.9123 (#0), about ")
    assert said[-1] == "3/3 trials, best 0.9123 (#0)"


def test_a_resumed_search_says_which_trials_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    waits = replace(TRIALS[1], status="pending", epochs_done=3, origin="portfolio")
    SearchConsole(make_console(), 3).started("a plan", [TRIALS[0], waits])
    assert capsys.readouterr().out == "a plan\n#1 goes on at epoch 4 (portfolio)\n"


def test_a_pause_has_a_line_and_settings_are_printed_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    console = SearchConsole(make_console(), 3)
    monkeypatch.setattr(console._bar, "update", lambda done, total, text: said.append(f"{done:g} {text}"))
    paused = replace(TRIALS[1], status="paused", epochs_done=3, miou=0.5, seconds=9.0)
    console.started("a plan", [TRIALS[0], replace(paused, number=2)])
    console.ended(paused)
    assert said[-1].startswith("3 1/3 trials, 2 paused, best 0.9123 (#0)")
    console.epoch(2, epoch_result(6, 0.1, epochs=12))
    assert said[-1].startswith("2.5 1/3 trials, 1 running, 1 paused, best 0.9123 (#0)")
    console.ended(replace(paused, status="stopped", note="not among the best third"))
    console.ended(replace(paused, number=2, status="stopped", epochs_done=9))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "paused after 3 epochs: #2"
    assert lines[2].startswith("#1  0.5000   paused at epoch 3 of 12 in 9.0 s  encoder tu-mobilenetv3_small_100, ")
    assert lines[3] == "#1  0.5000   stopped at epoch 3 of 12 (not among the best third)"
    assert lines[4].startswith("#2  0.5000   stopped at epoch 9 of 12 in 9.0 s  encoder")


def test_the_mark_of_the_best_trial_keeps_the_limits_of_costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    limits = Preference.of("latency < 20ms")
    console = SearchConsole(make_console(), 3, limits)
    monkeypatch.setattr(console._bar, "update", lambda done, total, text: said.append(text))
    ended = []
    for trial, latency, best in zip(reversed(TRIALS), (15.0, 10.0, 30.0), (2, 1, 1), strict=True):
        console.epoch(trial.number, replace(epoch_result(6, trial.miou, epochs=12), costs={"latency": latency}))
        assert f"best {TRIALS[best].miou:.4f} (#{best})" in said[-1]
        ended.append(replace(trial, latency=latency, fits=latency < 20))
        console.ended(ended[-1])
        assert ranked(ended)[0].number == best
        assert f"best {TRIALS[best].miou:.4f} (#{best})" in said[-1]
    marked = [line.split()[1].endswith("*") for line in capsys.readouterr().out.splitlines()]
    assert marked == [True, True, False]


@pytest.mark.parametrize(
    ("origin", "shown"),
    [("baseline", "  baseline: encoder"), ("portfolio", "  portfolio: encoder"), ("sampler", "02 s  encoder")],
)
def test_a_line_says_where_a_trial_came_from(origin: Any, shown: str) -> None:
    assert shown in trial_line(replace(TRIALS[1], origin=origin), 3)


@pytest.mark.parametrize(
    ("better", "left", "text"),
    [
        (4, 0.0, "GPU idle 41% of the time: --set workers=4 would remove it"),
        (3, 0.2, "GPU idle 41% of the time: --set workers=3, as many as the cores can serve, would make it 20%"),
        (2, 0.41, f"GPU idle 41% of the time: {NO_CORE}"),
    ],
)
def test_a_search_says_once_that_its_gpu_waits(
    capsys: pytest.CaptureFixture[str], better: int, left: float, text: str
) -> None:
    waiting = Waiting(0.41, True, 2, better, left, 3)
    console = SearchConsole(make_console(), 3)
    for number in (1, 2):
        console.epoch(number, replace(epoch_result(1, 0.1), waiting=waiting))
    assert capsys.readouterr().out == f"#1: {text}\n"


@pytest.mark.parametrize(
    ("miou", "collapsed", "praised"), [(0.0, 0, False), (0.0, 1, False), (0.17, 1, False), (0.17, 0, True)]
)
def test_an_epoch_that_learnt_nothing_is_not_called_the_best(miou: float, collapsed: int, praised: bool) -> None:
    line = epoch_line(epoch_result(miou=miou, collapsed_epochs=collapsed))
    assert line.startswith(f"epoch 1/3  loss 1.0000  miou {miou:.4f}")
    assert ("best so far" in line) == praised
