"""Searches with faulty trials: the search goes on, and the table names the fault."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from segtune.files.folders import RunFolder, SearchFolder
from segtune.planning import feasibility
from segtune.training.runlog import read_rows
from segtune.tuning.study import read_study
from tests.conftest import WriteDataSet
from tests.scripts import Ended, call
from tests.tuning.searches import RUN, rows

SEARCH = "search: {sampler: random, scheduler: none, cpus_per_trial: 1, gpus_per_trial: 0, %s}\n"


@pytest.fixture
def search(
    cluster: None,
    tiles: Path,
    tmp_path: Path,
) -> Callable[..., Ended]:
    """Return a function that runs a small search in tmp_path/r/space, with other tiles or rules."""

    def run(rules: str, more: str = "", data: Path = tiles, *flags: str) -> Ended:
        path = tmp_path / "space.yaml"
        text = f"dataset: {data}\n{RUN}space: {{lr: {{low: 1e-4, high: 1e-2, log: true}}}}\n{SEARCH % rules}"
        path.write_text(text.replace("workers: 0", f"workers: 0{more}"))
        return call("run_search", "--space", str(path), "--results-dir", str(tmp_path / "r"), *flags)

    return run


def when_there(path: Path, act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as a file is there."""

    def wait() -> None:
        limit = time.monotonic() + 120
        while not path.is_file() and time.monotonic() < limit:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_is_repeated_from_its_last_epoch(
    search: Callable[..., Ended], tmp_path: Path
) -> None:
    trial = tmp_path / "r" / "space" / "trial_0001"

    def kill() -> None:
        os.kill(yaml.safe_load((trial / "run.yaml").read_text())["machine"]["process"], signal.SIGKILL)

    killer = when_there(trial / "state.pt", kill)
    ended = search("trials: 2, max_concurrent: 1")
    killer.join()
    assert ended.status == 0
    found = rows(tmp_path / "r" / "space")
    assert [row["status"] for row in found] == ["finished"] * 2
    assert [row["repeats"] for row in found] == ["", "the worker process died (killed by the system, or out of memory)"]
    log = tmp_path / "r" / "space" / "ray.log"
    line = "#1 is repeated: the worker process died (killed by the system, or out of memory)"
    assert f"{line}; Ray's messages are in {log}\n" in ended.out
    assert "ActorDiedError" in log.read_text()
    assert "Traceback" not in ended.out + ended.err
    assert "Worker exit" not in ended.out + ended.err
    assert [row["epoch"] for row in read_rows(RunFolder(trial))] == ["1", "2", "3"]


@pytest.mark.slow
def test_a_trial_that_hangs_is_killed_repeated_and_given_up(
    search: Callable[..., Ended], tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_set(tmp_path / "own", train=4, val=2)
    scan_data = feasibility.scan_data

    def then_hang(*given: Any) -> Any:
        info = scan_data(*given)
        tile = data / "train" / "images" / "000.png"
        tile.unlink()
        os.mkfifo(tile)  # whoever reads it waits for ever
        return info

    monkeypatch.setattr(feasibility, "scan_data", then_hang)
    ended = search("trials: 3, max_concurrent: 3, hang_time: 4, retries: 1", ", cache_dir: none", data)
    assert ended.status == 1
    found = rows(tmp_path / "r" / "space")
    assert "no sign of life for" in found[0]["repeats"]
    assert "the first trials" in ended.err
    assert "no sign of life" in ended.err
    stacks = (tmp_path / "r" / "space" / "trial_0000" / "error.txt").read_text()
    assert "batches.py" in stacks or "reading.py" in stacks


@pytest.mark.slow
def test_a_search_halted_by_its_first_trials_shows_the_cause_and_resumes(
    search: Callable[..., Ended], tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_set(tmp_path / "own", train=4, val=2)
    tile = data / "train" / "images" / "001.png"
    scan_data = feasibility.scan_data

    def then_lose(*given: Any) -> Any:
        info = scan_data(*given)
        shutil.move(tile, tmp_path / "001.png")
        return info

    monkeypatch.setattr(feasibility, "scan_data", then_lose)
    ended = search("trials: 3, max_concurrent: 1, retries: 0", ", cache_dir: none", data)
    assert ended.status == 1
    assert re.search(r"error: the first trials \(#0, #1, #2\) all failed: .*001\.png", ended.err)
    assert ended.err.rstrip().endswith("--resume")
    assert {row["status"] for row in rows(tmp_path / "r" / "space")} == {"pending"}
    monkeypatch.undo()
    shutil.move(tmp_path / "001.png", tile)
    os.utime(tile)
    ended = search("trials: 3, max_concurrent: 1, retries: 0", ", cache_dir: none", data, "--resume")
    assert ended.status == 0, ended.err
    assert {row["status"] for row in rows(tmp_path / "r" / "space")} == {"finished"}


@pytest.mark.slow
def test_a_search_ends_with_its_time_budget_and_goes_on_with_a_larger_one(
    search: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    ended = search("trials: 2, max_concurrent: 1, time_budget: 1, confirm: none")
    assert ended.status in (0, 1)  # 1 where that second was not enough for an epoch
    assert "ended early: the time budget of 1.0 s is used up" in ended.out
    folder = tmp_path / "r" / "space"
    assert any(row["status"] == "pending" for row in rows(folder))
    assert not (folder / "ray.log").exists()  # nothing went wrong with Ray
    ended = call("run_search", "--status", "space", "--results-dir", str(tmp_path / "r"))
    assert f"{folder}: not running; ended early: the time budget of 1.0 s is used up\n" in ended.out
    path = tmp_path / "space.yaml"
    begun = time.monotonic()
    ended = call("run_search", "--space", str(path), "--resume", "--results-dir", str(tmp_path / "r"))
    assert "ended early: the time budget of 1.0 s is used up" in ended.out
    assert time.monotonic() - begun < 60  # no time is left for a first trial: Ray itself would ask for it without end
    ended = call(
        "run_search", "--space", str(path), "--resume", "--time-budget", "1h", "--results-dir", str(tmp_path / "r")
    )
    assert ended.status == 0
    assert [row["status"] for row in rows(folder)] == ["finished"] * 2
    ended = call("run_search", "--status", "space", "--results-dir", str(tmp_path / "r"))
    assert f"{folder}: not running\n" in ended.out


@pytest.mark.slow
def test_a_finished_search_can_be_extended_and_its_state_be_asked_for(
    search: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    assert search("trials: 3, max_concurrent: 2").status == 0
    folder = tmp_path / "r" / "space"
    before = rows(folder)
    status = call("run_search", "--status", "space", "--results-dir", str(tmp_path / "r"))
    assert status.status == 0
    assert f"{folder}: not running\n3 of 3 trials ended (3 finished), 0 running, 0 waiting" in status.out
    path = tmp_path / "space.yaml"
    arguments = ["--space", str(path), "--results-dir", str(tmp_path / "r"), "--resume", "--trials", "5"]
    ended = call("run_search", *arguments)
    assert ended.status == 0
    after = rows(folder)
    assert after[:3] == before
    assert len(after) == 5
    assert "% training" in ended.out
    assert all(float(row["spent_training"]) > 0 for row in after)
    assert all(row["micro_batch"] == row["batch_size"] for row in after)
    names = {key for trial in read_study(SearchFolder(folder)).trials for key in trial.params}
    assert names == {"lr"}  # what optuna-dashboard shows


def test_the_status_of_no_search_is_an_error(
    tmp_path: Path,
) -> None:
    status = call("run_search", "--status", "nothing", "--results-dir", str(tmp_path))
    assert status.status == 2
    assert status.err == f"error: {tmp_path / 'nothing'}: no search (it has no search.yaml)\n"
