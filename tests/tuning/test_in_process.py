"""Searches whose trials run in this process, without Ray."""

from __future__ import annotations

import os
import signal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from segtune.files.folders import SearchFolder
from segtune.planning.feasibility import scan_data
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.training.runlog import epochs_done, read_rows
from segtune.tuning.search import Outcome, run_search
from tests.scripts import call
from tests.tuning.searches import RUN


class Heard:
    """A listener that can send a signal after an epoch."""

    def __init__(self, signal_after: int | None = None) -> None:
        self.epochs: list[tuple[int, int]] = []  # trial, epoch
        self._signal_after = signal_after

    def started(self, plan: Any, trials: list[Any]) -> None:
        assert plan.concurrent == 1

    def epoch(self, number: int, result: EpochResult) -> None:
        self.epochs.append((number, result.epoch))
        if len(self.epochs) == self._signal_after:
            os.kill(os.getpid(), signal.SIGINT)

    def ended(self, trial: Any) -> None:
        pass

    def say(self, line: str) -> None:
        pass


def space_of(tmp_path: Path, tiles: Path, text: str) -> Space:
    # Two threads on a busy machine would wait for each other, actively, in every operation.
    run = RUN.replace("workers: 0", "workers: 0, threads: 1")
    (tmp_path / "s.yaml").write_text(f"dataset: {tiles}\n{run}{text}")
    return load_space(tmp_path / "s.yaml")


def searched(space: Space, folder: Path, listener: Heard, resume: bool = False) -> Outcome:
    return run_search(space, scan_data(space), SearchFolder(folder), listener, resume=resume, in_process=True)


def test_trials_finish_are_stopped_and_fail_in_this_very_process(tiles: Path, tmp_path: Path) -> None:
    connected = ray.is_initialized()
    text = (
        "space: {lr: [1e-9, 5e-3, 2e-9, 1e30], batch_size: [2]}\n"
        "baseline: {lr: 1e-9, batch_size: 2}\n"
        "search: {sampler: grid, trials: 4, grace_period: 1, keep: 2, gpus_per_trial: 0, max_concurrent: 3}\n"
    )
    outcome = searched(space_of(tmp_path, tiles, text), tmp_path / "s", Heard())
    assert [trial.status for trial in outcome.trials] == ["finished", "finished", "stopped", "failed"]
    assert "the loss became" in outcome.trials[3].error
    folder = SearchFolder(tmp_path / "s")
    assert "NonFiniteLossError" in folder.trial(3).error.read_text()
    for number in range(4):
        machine = yaml.safe_load(folder.trial(number).run_yaml.read_text())["machine"]
        assert machine["process"] == os.getpid()
        assert machine["cuda_visible_devices"] == ""  # trials without a GPU see none
    assert (folder.best / "model.safetensors").is_file()
    assert ray.is_initialized() == connected
    assert not folder.ray.exists()


def test_an_interrupted_trial_goes_on_where_it_was(tiles: Path, tmp_path: Path) -> None:
    text = "space: {lr: [1e-3, 3e-3]}\nsearch: {sampler: grid, scheduler: none, gpus_per_trial: 0}\n"
    space, folder = space_of(tmp_path, tiles, text), SearchFolder(tmp_path / "s")
    interrupted = searched(space, folder.path, Heard(signal_after=4))
    assert interrupted.signal == signal.SIGINT
    assert [trial.status for trial in interrupted.trials] == ["finished", "pending"]
    assert epochs_done(folder.trial(1)) == 1
    heard = Heard()
    outcome = searched(space, folder.path, heard, resume=True)
    assert {trial.status for trial in outcome.trials} == {"finished"}
    assert heard.epochs[:2] == [(1, 2), (1, 3)]


@pytest.mark.slow
def test_a_trial_that_paused_goes_on_to_the_same_numbers(tiles: Path, tmp_path: Path) -> None:
    # The second trial pauses; it goes on when the third is worse.
    grid = "space: {lr: [1e-9, 5e-3, 2e-9], batch_size: [2]}\nbaseline: {lr: 1e-9, batch_size: 2}\n"
    search = "search: {sampler: grid, grace_period: 1, gpus_per_trial: 0, keep: 4, scheduler: "
    heard = Heard()
    searched(space_of(tmp_path, tiles, grid + search + "asha, reduction_factor: 3}\n"), tmp_path / "paused", heard)
    whole = searched(space_of(tmp_path, tiles, grid + search + "none}\n"), tmp_path / "whole", Heard())
    assert [t.status for t in whole.trials] == ["finished"] * 3, [t.error for t in whole.trials]
    begun = [number for number, _ in groupby(number for number, _ in heard.epochs)]
    assert begun == [0, 1, 2, 1]
    for number in range(3):
        scores = [
            [(row["epoch"], row["loss"], row["miou"]) for row in read_rows(SearchFolder(tmp_path / name).trial(number))]
            for name in ("paused", "whole")
        ]
        assert scores[0] == scores[1][: len(scores[0])]


def test_a_cluster_and_this_process_exclude_each_other() -> None:
    ended = call("run_search", "--space", "quickstart", "--in-process", "--address", "auto")
    assert "not allowed with" in ended.mistakes[0]
