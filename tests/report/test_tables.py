"""Tables by the width of the terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from segtune.data.labels import Labels
from segtune.evaluation.class_scores import ClassScore, ClassScores
from segtune.evaluation.intervals import Interval
from segtune.report.console import trial_line
from segtune.report.tables import SettingsTable, comparison, ranking, state_of
from segtune.report.validation import class_scores_table
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.trials import SearchState, Seeds
from tests.report.trials import TRIALS


def shown(part: Table | SettingsTable, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


COMPARE = "search: {sampler: grid, scheduler: none, compare: %s}"


@pytest.fixture
def of_encoders(tmp_path: Path) -> Space:
    """A comparison of the encoders of the three trials."""
    path = tmp_path / "s.yaml"
    names = ", ".join(trial.searched["encoder"] for trial in TRIALS)
    path.write_text(f"space: {{encoder: [{names}], lr: [1e-3]}}\n{COMPARE % 'encoder'}", encoding="utf-8")
    return load_space(path)


def test_a_comparison_pairs_the_settings_of_branches(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    branches = "space: {optimizer: {adamw: {lr: [1e-3, 1e-4]}, sgd: {lr: [0.1, 0.2]}}}"
    path.write_text(f"{branches}\nbaseline: {{optimizer: lion}}\n{COMPARE % 'optimizer'}", encoding="utf-8")
    space = load_space(path)
    first = {"optimizer": "lion", "lr": 1e-3}  # the baseline is not one of those that are compared
    drawn = [first, *(space.settings_at(point) for point in space.grid())]
    trials = [replace(TRIALS[0], number=n, searched=settings, miou=n / 10) for n, settings in enumerate(drawn)]
    text = [" ".join(line.split()) for line in shown(comparison(trials, space), 100)]
    assert text[0].startswith("optimizer: 2 configurations")
    assert [line for line in text if line.startswith(("adamw", "sgd", "lion"))] == [
        "sgd 0.4000 0.3000 24.4 M 62.0",
        "adamw 0.3000 0.2000 24.4 M 62.0",
    ]
    trials[4] = replace(trials[4], status="failed")  # the second rate of sgd; that of adamw goes, too
    text = [" ".join(line.split()) for line in shown(comparison(trials, space), 100)]
    assert "sgd 0.2000 0.2000 24.4 M 62.0" in text
    assert "adamw 0.1000 0.1000 24.4 M 62.0" in text


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_ranking_is_complete_at_every_width(width: int) -> None:
    lines = shown(ranking(TRIALS), width)
    assert max(map(len, lines)) <= width
    text = " ".join("\n".join(lines).split())
    for trial in TRIALS:
        (row,) = (line for line in lines if f"#{trial.number}" in line)
        assert f"{trial.miou:.4f}" in row
        assert "12/12" in row
        assert "1 min 02 s" in row
        for name, value in trial.searched.items():
            assert str(value) in (row if width == 160 else text)
            assert width == 160 or f"{name} {value}" in text
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [100, 200])
def test_the_ranking_has_the_intervals_that_are_known(width: int) -> None:
    seeds = Seeds(0.8802, "confirm_0000_s2", 0.8824, True, 0.0061, Interval(0.8802, 0.8611, 0.8993))
    trials = [
        replace(TRIALS[0], confirmed=seeds, interval=Interval(0.9123, 0.9, 0.92)),
        replace(TRIALS[1], interval=Interval(0.9023, 0.88, 0.91)),
        TRIALS[2],
    ]
    lines = [" ".join(line.split()) for line in shown(ranking(trials), width)]
    assert lines[0] == "Trials by mIoU (3 of 3; all in trials.csv; the winner over fresh seeds first)"
    head = "rank trial miou mean deviation 95% status epochs time"
    assert any(line.startswith(head) for line in lines)
    for row in (
        "1 #0 0.9123 0.8802 0.0061 0.8611 to 0.8993 baseline 12/12",
        "2 #1 0.9023 0.8800 to 0.9100 finished 12/12",
        "3 #2 0.8923 finished 12/12",
    ):
        assert any(line.startswith(row) for line in lines)
    state = SearchState(Path("x"), trials, 3, 300.0, None)
    (table,) = (part for part in state_of(state, 0.0) if isinstance(part, SettingsTable))
    assert [" ".join(line.split()) for line in shown(table, width)] == lines


def test_the_state_of_a_search_has_its_three_best_trials_and_the_baseline() -> None:
    trials = [replace(TRIALS[0], number=n, miou=0.5 + n / 10) for n in range(5)]
    (table,) = (
        part for part in state_of(SearchState(Path("x"), trials, 5, 1.0, None), 0.0) if not isinstance(part, str)
    )
    lines = shown(table, 200)  # type: ignore[arg-type]
    assert lines[0].strip() == "Trials by mIoU (3 of 5; all in trials.csv)"
    assert [line.split()[:2] for line in lines if "#" in line] == [["1", "#4"], ["2", "#3"], ["3", "#2"], ["5", "#0"]]


@pytest.mark.parametrize("width", [60, 160])
def test_settings_are_shown_as_in_yaml(width: int) -> None:
    searched = {"dropout": None, "sync_batchnorm": False, "channels": [], "decoder_channels": [64, 32], "lr": 0.00123}
    text = " ".join(" ".join(shown(ranking([replace(TRIALS[0], searched=searched)]), width)).split())
    words = ["null", "false", "[]", "[64, 32]", "0.00123"]
    pairs = [f"{name} {word}" for name, word in zip(searched, words, strict=True)]
    assert (" ".join(words) if width == 160 else ", ".join(pairs)) in text
    assert ", ".join(pairs) in trial_line(replace(TRIALS[0], searched=searched), 20)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_scores_are_never_cut_nor_broken(width: int, of_encoders: Space) -> None:
    iou = {"1": 0.5, "65535": None, "background": 0.25}
    scores = ClassScores({label: ClassScore(value, value, value, value, 10**9) for label, value in iou.items()})
    for table in (comparison(TRIALS, of_encoders), class_scores_table(Labels((1, 65535), (), True, 0), scores, iou)):
        lines = shown(table, width)
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
    assert "\n".join(lines).count("0.2500") == 5
    by_encoder = [replace(trial, searched={"encoder": trial.searched["encoder"]}) for trial in TRIALS]
    text = "\n".join(shown(comparison(by_encoder, of_encoders), width))
    for trial in TRIALS:
        assert text.count(f"{trial.miou:.4f}") == 2
    assert text.count("24.4 M") == 3


def test_the_ranking_says_which_trials_came_from_a_portfolio() -> None:
    assert not any("origin" in line for line in shown(ranking(TRIALS), 200))
    lines = shown(ranking([*TRIALS[:2], replace(TRIALS[2], origin="portfolio")]), 200)
    assert [line.split()[line.split().index("s") + 1] for line in lines if "#" in line] == [
        "baseline",
        "sampler",
        "portfolio",
    ]


@pytest.mark.parametrize("width", [60, 80, 160])
def test_running_trials_are_complete_at_every_width(width: int) -> None:
    running = replace(TRIALS[1], status="running", epochs_done=3, since=1.0, where="node-17, GPU 3")
    state = SearchState(Path("ray_results/x"), [TRIALS[0], running], 20, 300.0, "process 1 on node-17")
    table, _ = (part for part in state_of(state, 100.0) if isinstance(part, SettingsTable))
    lines = shown(table, width)
    assert max(map(len, lines)) <= width
    assert any(" ".join(line.split()).startswith("#1 3/12 0.9023 1 min 39 s sampler node-17, GPU 3") for line in lines)
    assert any("tu-mobilenetv3_small_100" in line for line in lines)


def test_the_state_of_a_search_says_why_it_ended_or_how_to_resume_it() -> None:
    state = SearchState(Path("x"), [TRIALS[0]], 20, 300.0, None)
    assert state_of(state, 0.0)[0] == "x: not running; --resume goes on with it"
    assert state_of(replace(state, reason="nothing is left"), 0.0)[0] == "x: not running; ended early: nothing is left"
    running = replace(state, reason="nothing is left", holder="process 1 on node-17")
    assert state_of(running, 0.0)[0] == "x: running (process 1 on node-17)"
    assert str(state_of(state, 0.0)[2]).startswith("best so far: trial #0")
    assert str(state_of(replace(state, wanted=1), 0.0)[2]).startswith("winner: trial #0")


def test_the_state_of_a_search_names_paused_trials() -> None:
    paused = [replace(TRIALS[1], number=n, status="paused", epochs_done=3 if n < 4 else 9) for n in (2, 3, 4)]
    running = replace(TRIALS[1], status="running", epochs_done=6)
    state = SearchState(Path("x"), [TRIALS[0], running, *paused], 6, 300.0, "process 1 on node-17")
    lines = state_of(state, 0.0)
    assert lines[1] == (
        "1 of 6 trials ended (1 finished), 1 running, 3 paused, 0 waiting; 5 min 00 s so far, about 1 min 40 s left"
    )
    assert lines[2] == "paused after 3 epochs: #2, #3; after 9 epochs: #4"
    assert lines[-1] == "training time: 5 min 10 s; 60% in 3 paused trials"
    over = replace(state, trials=[TRIALS[0], *paused], holder=None)
    assert "--resume goes on with it" in str(state_of(over, 0.0)[0])
    assert str(state_of(over, 0.0)[3]).startswith("best so far: ")
