"""A run that was stopped in order goes on as if it had not been."""

from __future__ import annotations

import multiprocessing
import shlex
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from segtune.config import RunConfig
from segtune.data.balance import class_weights
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.training.result import EpochResult
from segtune.training.train import train
from tests.training.processes import FORKED, Blow, line, script
from tests.training.runs import (
    BATCHES,
    EPOCHS,
    SLOW,
    TRAIN_STEPS,
    DataSet,
    Whole,
    contents,
    left,
    nothing_else,
    other,
    rows,
    run,
    small_pspnet,
    steps_of,
)

pytestmark = FORKED


@pytest.mark.parametrize("batches", [2, 3, 4, 5, 15, *(pytest.param(count, marks=SLOW) for count in (1, 7, 9, 14))])
def test_a_run_stopped_after_any_batch_goes_on_from_there(
    config: RunConfig, tmp_path: Path, whole: Whole, batches: int
) -> None:
    asked = iter(range(1, 1000))
    done = run(config, tmp_path, stop=lambda: next(asked) == batches)
    epochs, rest = divmod(batches, BATCHES) if batches % BATCHES else (batches // BATCHES - 1, BATCHES)
    assert [result.epoch for result in done] == list(range(1, epochs + 1))
    assert rows(tmp_path) == whole.left["rows"][:epochs]
    torch.rand(100)  # what others draw in between
    steps_done = epochs * TRAIN_STEPS + min(rest, TRAIN_STEPS)
    assert steps_of(config, tmp_path) == EPOCHS * TRAIN_STEPS - steps_done
    assert left(tmp_path) == whole.left
    assert nothing_else(tmp_path)


def test_a_run_stopped_between_two_epochs_goes_on(config: RunConfig, tmp_path: Path, whole: Whole) -> None:
    seen: list[EpochResult] = []
    for result in train(config, scan(config), RunFolder(tmp_path), stop=lambda: bool(seen)):
        seen.append(result)
    assert len(rows(tmp_path)) == 1
    assert steps_of(config, tmp_path) == 5  # one was done before it noticed
    assert left(tmp_path) == whole.left


def test_a_run_stopped_after_every_step_ends_as_one_that_was_not(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    for step in range(EPOCHS * TRAIN_STEPS):
        steps: list[int] = []

        def note(done: int, total: int, loss: float, steps: list[int] = steps) -> None:
            steps.append(done)

        run(config, tmp_path, go_on=True, on_batch=note, stop=lambda steps=steps: bool(steps))
        assert steps == [step % TRAIN_STEPS + 1]
    run(config, tmp_path, go_on=True)
    assert left(tmp_path) == whole.left
    assert nothing_else(tmp_path)


@pytest.mark.parametrize("batches", [2, 4])
def test_a_run_with_a_loader_process_is_stopped_too(
    config: RunConfig, tmp_path: Path, whole: Whole, batches: int
) -> None:
    config, asked = other(config, workers=1), iter(range(1, 1000))
    assert run(config, tmp_path, stop=lambda: next(asked) == batches) == []
    assert multiprocessing.active_children() == []
    assert steps_of(config, tmp_path) == EPOCHS * TRAIN_STEPS - min(batches, TRAIN_STEPS)
    assert left(tmp_path) == whole.left


@pytest.mark.parametrize(
    ("blow", "status"),
    [
        (Blow("after", "metrics.csv", 1, signal.SIGINT), 130),
        (Blow("after", "best", 2, signal.SIGTERM), 143),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_the_line_that_an_interrupted_run_ends_with_goes_on(
    config: RunConfig, tmp_path: Path, whole: Whole, blow: Blow, status: int
) -> None:
    where = tmp_path / "a folder"
    where.mkdir()
    said = script(*line(config, where), where=where, blow=blow)
    assert (said.status, said.err) == (status, [])
    python, name, *typed = shlex.split(said.out[-1].partition("to go on: ")[2])
    assert (Path(python).name, Path(name).name) == ("python", "run_single.py")
    assert len(rows(where / "run")) == blow.count
    done = script(*typed, where=where)
    assert (done.status, done.err) == (0, [])
    assert left(where / "run") == whole.left
    assert nothing_else(where / "run")


def test_a_signal_in_the_last_epochs_last_moment_finishes_the_run(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    blow = Blow("after", "metrics.csv", EPOCHS, signal.SIGTERM)
    said = script(*line(config, tmp_path), where=tmp_path, blow=blow)
    assert (said.status, said.err) == (0, [])
    assert left(tmp_path / "run") == whole.left


def test_a_finished_run_says_so_and_a_larger_number_of_epochs_goes_on(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    before = contents(tmp_path / "run")
    typed = ["--exp-name", "run", "--log-dir", tmp_path]
    for more in ([], ["-e", EPOCHS], ["-e", EPOCHS - 1]):
        said = script(*typed, *more, where=tmp_path)
        assert (said.status, said.err) == (0, [])
        assert f"{tmp_path / 'run'} is finished: {EPOCHS} epochs" in said.out[0]
        assert contents(tmp_path / "run") == before
    said = script(*typed, "-e", EPOCHS + 1, where=tmp_path)
    assert (said.status, said.err) == (0, [])
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2", "3", "4"]
    assert rows(tmp_path / "run")[:EPOCHS] == whole.left["rows"]


@pytest.mark.parametrize("stop", [2, 8])  # in the first epoch, and after the first part of the second
def test_a_run_with_maps_weights_and_rare_classes_goes_on(tmp_path: Path, data_set: DataSet, stop: int) -> None:
    labels = (0, 1, 2)
    data = data_set(tmp_path / "set", train=7, val=3, labels=labels)
    for name in ("000", "003", "005"):  # the others lack class 2
        path = data / "train" / "gt" / f"{name}.png"
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 2, 0, mask))
    balanced = {"classes": [1, 2], "loss": "dice+boundary+ce", "class_weights": "balanced", "oversample": "rare"}
    config = small_pspnet(data, epochs=2, batch_size=2, threads=1, **balanced)
    run(config, tmp_path / "whole")
    asked = iter(range(1, 1000))
    run(config, tmp_path / "parts", stop=lambda: next(asked) == stop)
    assert len(rows(tmp_path / "parts")) == stop // 8
    run(config, tmp_path / "parts", go_on=True)
    assert left(tmp_path / "parts") == left(tmp_path / "whole")
    assert len(rows(tmp_path / "parts")) == 2
    noted = yaml.safe_load((tmp_path / "parts" / "run.yaml").read_text(encoding="utf-8"))["data"]["class_weights"]
    assert noted == class_weights("balanced", scan(config))
    assert noted["2"] > noted["1"] > noted["background"]
