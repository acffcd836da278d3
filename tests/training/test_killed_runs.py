"""A run that was killed at any moment goes on as if it had not been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.config import RunConfig
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.models.checkpoint import load_model
from tests.training.processes import FORKED, SCRIPT, Blow, begin, killed, line, lives, script, scripting
from tests.training.runs import (
    BATCHES,
    CPU,
    EPOCHS,
    SLOW,
    Whole,
    best_epoch,
    left,
    nothing_else,
    other,
    rows,
    run,
    steps_of,
)

pytestmark = FORKED


@pytest.mark.parametrize(
    "blow",
    [
        Blow("step", count=2),
        Blow("after", "metrics.csv"),
        Blow("half", "state.pt"),  # a model without a state
        Blow("step", count=5),
        Blow("batch", count=BATCHES + 4),  # in an evaluation
        Blow("after", "best.next", 2),  # before state.pt
        Blow("half", "state.pt", 2),
        Blow("after", "state.pt", 2),  # the state knows a model that is not yet in best/, and an epoch without a row
        Blow("before", "best", 2),  # between the two renames
        Blow("half", "metrics.csv", 2),
        Blow("after", "state.pt", 3),  # all epochs are done, and the last one has no row
        pytest.param(Blow("before", "run.yaml"), marks=SLOW),  # there is nothing but the lock
        pytest.param(Blow("before", "best"), marks=SLOW),
        pytest.param(Blow("after", "state.pt"), marks=SLOW),
        pytest.param(Blow("half", "metrics.csv"), marks=SLOW),
        pytest.param(Blow("half", "best.next/run.yaml", 2), marks=SLOW),
        pytest.param(Blow("before", "state.pt", 2), marks=SLOW),
        pytest.param(Blow("after", "best", 2), marks=SLOW),  # before metrics.csv
        pytest.param(Blow("after", "metrics.csv", 2), marks=SLOW),
        pytest.param(Blow("after", "metrics.csv", 3), marks=SLOW),  # all rows are there
    ],
    ids=str,
)
def test_a_run_killed_at_any_moment_ends_as_if_not_killed(
    config: RunConfig, tmp_path: Path, whole: Whole, blow: Blow
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, blow)
    run(config, folder, go_on=True)
    assert left(folder) == whole.left
    assert nothing_else(folder)


def test_best_gets_the_model_that_the_state_calls_the_best(config: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed(config, folder, Blow("before", "best", 2))
    assert not (folder / "best").exists()
    run(config, folder, go_on=True, stop=lambda: True)
    assert best_epoch(folder) == 2
    assert [row["best_epoch"] for row in rows(folder)] == ["1", "2"]


def worse(matrix: ConfusionMatrix) -> Scores:
    """Return a low score: on a GPU an epoch that is repeated has not the same bits, and may be worse than it was."""
    return Scores(1e-3, {"255": 1e-3}, None)


@pytest.mark.parametrize(
    ("blow", "best"),
    [
        (Blow("before", "state.pt", 2), 1),  # better than the first, and then repeated
        (Blow("after", "state.pt", 2), 2),  # it is done: the third is the next one
        pytest.param(Blow("after", "best.next", 2), 1, marks=SLOW),
        pytest.param(Blow("before", "best", 2), 2, marks=SLOW),
        pytest.param(Blow("after", "best", 2), 2, marks=SLOW),
    ],
    ids=str,
)
def test_best_and_metrics_csv_agree_when_a_repeated_epoch_differs(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blow: Blow, best: int
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, blow)
    monkeypatch.setattr(ConfusionMatrix, "scores", worse)
    run(config, folder, go_on=True)
    assert best_epoch(folder) == best
    assert [int(row["best_epoch"]) for row in rows(folder)] == [1, best, best]
    metrics = load_model(folder / "best", CPU)[1].metrics
    assert float(rows(folder)[-1]["best_miou"]) == metrics["miou"] == float(rows(folder)[best - 1]["miou"])
    assert nothing_else(folder)


def test_without_the_best_model_of_the_state_the_next_epoch_is_the_best(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config, tmp_path, epochs=1)
    shutil.copy(tmp_path / "state.pt", tmp_path / "kept")
    run(config, tmp_path, epochs=1, go_on=True)
    (tmp_path / "kept").replace(tmp_path / "state.pt")  # of the first epoch, of which there is no model any more
    monkeypatch.setattr(ConfusionMatrix, "scores", worse)
    run(config, tmp_path, go_on=True)
    assert [(int(row["best_epoch"]), float(row["best_miou"])) for row in rows(tmp_path)[1:]] == [(2, 1e-3)] * 2
    assert best_epoch(tmp_path) == 2


@pytest.mark.parametrize("name", ["state.pt", "metrics.csv"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_that_was_not_recorded_is_shown_once(config: RunConfig, tmp_path: Path, epoch: int, name: str) -> None:
    folder = tmp_path / "run"
    killed(config, folder, Blow("before", name, epoch))
    started = int(time.time())
    while int(time.time()) == started:  # TensorBoard reads files in the order of their names, which hold the second
        time.sleep(0.05)
    run(config, folder, go_on=True)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("miou")] == [1, 2, 3]


def test_a_run_killed_while_it_goes_on_leaves_nothing_either(config: RunConfig, tmp_path: Path, whole: Whole) -> None:
    folder = tmp_path / "run"
    for blow in (Blow("half", "state.pt"), Blow("half", "state.pt", 2), Blow("before", "best"), Blow("step", count=2)):
        killed(config, folder, blow)
        # No more than the process that was killed last leaves; it was not this one's turn to clean up.
        assert sum(".tmp-" in path.name for path in folder.iterdir()) <= 1
    run(config, folder, go_on=True)
    assert left(folder) == whole.left
    assert nothing_else(folder)


@pytest.mark.parametrize(
    ("blow", "steps"),
    [
        (Blow("step", count=5), 5),  # the fourth was saved, the fifth was not yet
        (Blow("batch", count=8), 4),
        (Blow("batch", count=9), 3),  # in the second epoch's evaluation
        (Blow("half", "state.pt", 8), 5),  # after two times 5 batches, and so on
    ],
    ids=str,
)
def test_within_an_epoch_too_the_state_is_saved_from_time_to_time(
    config: RunConfig, tmp_path: Path, whole: Whole, blow: Blow, steps: int
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, blow, save_every=0.0)
    assert len(rows(folder)) == 1
    assert steps_of(config, folder) == steps
    assert left(folder) == whole.left
    assert nothing_else(folder)


def at_random(start: Callable[[], Any], folder: Path, times: int, seconds: float) -> None:
    """Start a process, and kill it at some moment; so many times."""
    chance = random.Random(times)
    for number in range(times):
        process = start()
        wait_until = time.monotonic() + 120
        while len(rows(folder)) < number % EPOCHS and lives(process.pid) and time.monotonic() < wait_until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, seconds))
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        if isinstance(process, subprocess.Popen):
            process.wait()
        else:
            process.join()


def test_the_script_killed_at_random_ends_as_if_not_killed(config: RunConfig, tmp_path: Path, whole: Whole) -> None:
    typed = line(config, tmp_path)
    said = tmp_path / "said"
    at_random(lambda: begin(scripting, typed, tmp_path, said=said), tmp_path / "run", 2, 0.4)
    done = script(*typed, where=tmp_path)
    assert (done.status, done.err) == (0, [])
    assert left(tmp_path / "run") == whole.left
    assert nothing_else(tmp_path / "run")


def test_a_run_killed_before_its_last_state_is_not_called_finished(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    typed = line(config, tmp_path)
    blow = Blow("before", "state.pt", EPOCHS)
    assert script(*typed, where=tmp_path, blow=blow).status == -signal.SIGKILL
    assert len(rows(tmp_path / "run")) == EPOCHS - 1
    done = script(*typed, where=tmp_path)
    assert (done.status, done.err) == (0, [])
    assert left(tmp_path / "run") == whole.left


@pytest.mark.slow
def test_the_script_in_a_shell_killed_at_random_ends_as_if_not_killed(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    typed = [sys.executable, str(SCRIPT), *line(other(config, workers=1), tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(typed, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    at_random(start, tmp_path / "run", 6, 1.5)
    done = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert left(tmp_path / "run") == whole.left
    assert nothing_else(tmp_path / "run")
