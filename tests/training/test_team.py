"""Runs that two processes train together: the same files and numbers, and no process or lock that stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import NonFiniteLossError, ProcessError
from segtune.evaluation.intervals import bootstrap
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.models.build import build_model
from segtune.models.manifest import Manifest
from segtune.training.result import EpochResult
from segtune.training.runlog import epochs_done
from segtune.training.state import load_state
from segtune.training.team import Job, Link, train_together
from segtune.training.train import train, train_share
from tests.memory import out_of_memory
from tests.training.processes import begin, ended, line, lives, scripting
from tests.training.runs import DataSet, left, other, rows, run, small_unet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> RunConfig:
    """Batches of 4, 4 and 1 tile: one is smaller than the number of processes; 5 tiles to validate."""
    tiles = data_set(tmp_path_factory.mktemp("data") / "set", train=9, val=5)
    more = {"augmentation": "hard", "freeze_encoder_epochs": 1, "lr": 1e-2, "gpus": 2}
    more |= {"decoder_channels": None}  # with the usual ones, a score falls: the plateau schedule sees that
    return small_unet(tiles, epochs=2, **more)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert len(run(config, folder)) == config.epochs
    return folder


def processes(parent: int | None = None) -> list[int]:
    """The processes of teams that a process started, or this one."""
    pattern = ["-P", str(parent or os.getpid()), "-f", "segtune.training.team"]
    found = subprocess.run(["pgrep", *pattern], capture_output=True)
    return [int(line) for line in found.stdout.split()]


def names(folder: Path) -> set[str]:
    return {re.sub(r"tfevents.*", "tfevents", path.name) for path in folder.rglob("*")}


def test_two_processes_leave_the_files_of_one(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    alone = other(config, gpus=1)
    run(alone, tmp_path / "run")
    assert names(whole) == names(tmp_path / "run")
    assert [row.keys() for row in rows(whole)] == [row.keys() for row in rows(tmp_path / "run")]
    assert Manifest.read(whole / "run.yaml").config.gpus == 2
    first = [float(rows(folder)[0]["loss"]) for folder in (whole, tmp_path / "run")]
    assert first[0] == pytest.approx(first[1], rel=0.1)  # BatchNorm sees two tiles at a time here


def test_the_score_is_the_one_that_one_process_measures(config: RunConfig, whole: Path) -> None:
    measured = validate(whole, Path(config.dataset) / "val", device="cpu")
    assert measured.scores.miou == float(rows(whole)[-1]["best_miou"])
    interval = bootstrap(measured.measured.tiles, [255]).miou
    stored = Manifest.read(whole / "best" / "run.yaml").metrics
    assert (stored["miou_low"], stored["miou_high"]) == (interval.low, interval.high)


def stopping_early(job: Job, link: Link) -> Iterator[EpochResult]:
    """Train until only a batch of one tile is left: there, BatchNorm of single values needs its running statistics."""
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link, "step", lambda done, total, loss: steps.append(done))
        patch.setattr(link, "stopping", lambda: len(steps) == 5)
        yield from train_share(job, link)


def test_a_stopped_run_goes_on_to_the_same_numbers(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    folder, settings = RunFolder(tmp_path / "run"), other(config, threads=1)
    job = Job(settings, scan(config), folder, False, 1, 1, 2, True)
    begun = list(train_together(stopping_early, job, None, lambda: True, None))
    assert len(begun) == 1
    assert load_state(folder.state)["progress"]["step"] == 2
    run(config, folder.path, go_on=True)
    assert left(folder.path) == left(whole)
    longer = other(config, gpus=1, epochs=3)
    assert [result.epoch for result in run(longer, folder.path, go_on=True)] == [3]


def test_a_process_that_dies_ends_the_run_with_one_line(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with closing(train(config, scan(config), folder)) as epochs:
        next(epochs)
        second = max(processes())
        os.kill(second, signal.SIGKILL)
        with pytest.raises(ProcessError, match=r"^process 2 of the 2 .* died \(signal 9, such"):
            next(epochs)
    assert not processes()
    assert not folder.held()


def test_a_process_that_hangs_ends_the_run(config: RunConfig, tmp_path: Path) -> None:
    job = Job(config, scan(config), RunFolder(tmp_path / "run"), False, 1, 1, 2, False)
    with closing(train_together(train_share, job, None, None, None, silent=20.0)) as epochs:
        next(epochs)
        os.kill(max(processes()), signal.SIGSTOP)
        with pytest.raises(ProcessError, match=r"^no sign of life for 20 s in .* 2 processes of"):
            next(epochs)
    assert not processes()


def starved(job: Job, link: Link) -> Iterator[EpochResult]:
    """Train where memory is too small for more than two tiles, and for two in the training of the second process."""

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        second = torch.distributed.get_rank() == 1
        if len(inputs[0]) > (1 if module.training and second else 2):
            out_of_memory()

    def build(*arguments: object) -> nn.Module:
        model = build_model(*arguments)  # type: ignore[arg-type]
        model.register_forward_pre_hook(look)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segtune.training.run.build_model", build)
        yield from train_share(job, link)


def test_too_little_memory_in_one_process_makes_all_go_on_in_parts(config: RunConfig, tmp_path: Path) -> None:
    one = other(config, epochs=1, freeze_encoder_epochs=0)
    job = Job(one, scan(one), RunFolder(tmp_path / "run"), False, 1, 1, 2, False)
    (result,) = train_together(starved, job, None, None, None)
    stored = Manifest.read(tmp_path / "run" / "run.yaml")
    assert (result.micro_batch, stored.micro_batch, stored.evaluation_batch_size) == (2, 2, 2)


def starved_once(job: Job, link: Link) -> Iterator[EpochResult]:
    """Train with a state after every step, where memory is too small for the second step of the first start."""
    calls: list[int] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        calls.append(len(inputs[0]))
        if module.training and len(calls) == 2 and job.micro_batch is None:
            out_of_memory()

    def build(*arguments: Any) -> nn.Module:
        model = build_model(*arguments)
        model.register_forward_pre_hook(look)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segtune.training.run.build_model", build)
        patch.setattr("segtune.training.run._SAVE_EVERY_S", -1.0)
        for draw in ("preview_picture", "log_worst", "draw_worst") if job.rank else ():
            patch.setattr(f"segtune.training.run.{draw}", None)  # only the first process draws
        yield from train_share(job, link)


def test_too_little_memory_goes_on_within_the_epoch(config: RunConfig, tmp_path: Path) -> None:
    one, steps = other(config, epochs=1, freeze_encoder_epochs=0), list[int]()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.pt").write_bytes(b"of an earlier run")
    job = Job(one, scan(one), RunFolder(tmp_path / "run"), False, 1, 1, 2, True)
    list(train_together(starved_once, job, lambda done, total, loss: steps.append(done), None, None))
    assert steps == [1, 2, 3]


def test_processes_start_together_however_much_they_are_told(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[float] = []

    def start(*arguments: Any, **others: Any) -> subprocess.Popen[bytes]:
        started.append(time.monotonic())
        return subprocess.Popen(*arguments, **others)

    monkeypatch.setattr("segtune.training.team.subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
    info = replace(scan(config), holders={1: tuple(range(500_000))})
    job = Job(config, info, RunFolder(tmp_path / "run"), False, 1, 1, 2, False)
    with closing(train_together(train_share, job, None, None, None)) as epochs:
        next(epochs)
    assert started[1] - started[0] < 1.0  # an import of torch takes longer


def settled(*arguments: Any) -> nn.Module:
    """A network whose batch normalization never looks at the batch: a CPU has none that several processes share."""
    model = build_model(*arguments)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.train = lambda mode=True: None
    return model


def sharing_settled(job: Job, link: Link) -> Iterator[EpochResult]:
    """Train such a network as one of the processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segtune.training.run.build_model", settled)
        yield from train_share(job, link)


def test_averages_and_the_plateau_schedule_follow_one_process(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        "decoder_channels": None,
        "ema": 0.6,
        "lr_schedule": "plateau",
        "lr_patience": 1,
        "optimizer": "sgd",
        "lr": 0.1,
        "threads": 1,
    }
    settings = other(config, freeze_encoder_epochs=0, epochs=4, loss="dice+bce", **more)
    folders = [RunFolder(tmp_path / name) for name in ("together", "alone")]
    job = Job(settings, scan(settings), folders[0], False, 1, 1, 2, False)
    assert len(list(train_together(sharing_settled, job, None, None, None))) == 4
    monkeypatch.setattr("segtune.training.run.build_model", settled)
    run(other(settings, gpus=1), folders[1].path)
    found = [[{name: float(value) for name, value in row.items()} for row in rows(folder.path)] for folder in folders]
    assert found[0] == [pytest.approx(row, rel=1e-4, abs=1e-6) for row in found[1]]
    assert len({row["lr"] for row in found[0]}) > 1, "the plateau was not seen"
    together, alone = (load_state(folder.state) for folder in folders)
    for part in ("model", "average"):
        for name, value in alone[part].items():
            torch.testing.assert_close(together[part][name], value, rtol=1e-3, atol=1e-5, msg=f"{part}: {name}")


def test_a_loss_that_is_no_number_ends_both_processes(config: RunConfig, tmp_path: Path) -> None:
    exploding = other(config, optimizer="sgd", lr=1e30, grad_clip=0.0, freeze_encoder_epochs=0)
    with pytest.raises(NonFiniteLossError, match=r"^the loss became (nan|inf) in epoch 1, step [23]"):
        run(exploding, tmp_path / "run")
    assert not processes()
    assert not RunFolder(tmp_path / "run").held()


def on_no_gpu(typed: list[str], where: Path) -> None:
    """A job: run_single.py, which does not look for the GPUs that it was told of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segtune.training.resolve.check_gpus", lambda config: None)
        scripting(typed, where)


@pytest.mark.usefixtures("fork_server")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_script_and_its_processes(
    config: RunConfig, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    folder = RunFolder(tmp_path / "run")
    typed = [*line(other(config, epochs=500, gpus=1), tmp_path), "--gpus", "2"]
    process = begin(on_no_gpu, typed, tmp_path, said=tmp_path / "said")
    limit = time.monotonic() + 120
    while not epochs_done(folder) and process.is_alive() and time.monotonic() < limit:
        time.sleep(0.1)
    team = processes(process.pid)
    for each in (*team, process.pid):  # as a terminal and a batch system do
        os.kill(each, number)
    assert ended(process) == status
    assert len(team) == 2
    assert not any(map(lives, team))
    assert not folder.held()
    assert (tmp_path / "said.err").read_text() == ""
    last = (tmp_path / "said.out").read_text().splitlines()[-1]
    assert re.search(r"^stopped after \d+ of 500 epochs; to go on: python \S*run_single\.py --exp-name run", last)


SCRIPT = """
import sys, time
from pathlib import Path
from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.models.run_yaml import settings_of
from segtune.files.yamlfile import read_yaml
from segtune.training.train import train
config = RunConfig.from_settings(read_yaml(Path(sys.argv[1])))
for epoch in train(config, scan(config), RunFolder(Path(sys.argv[2]))):
    print(epoch.epoch, flush=True)
"""


def test_no_process_outlives_the_one_that_started_it(config: RunConfig, tmp_path: Path) -> None:
    import yaml

    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(other(config, epochs=50).settings()))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "settings.yaml"), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        team = processes(process.pid)
        assert len(team) == 2
        process.kill()
    limit = time.monotonic() + 20
    while any(map(lives, team)) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not any(map(lives, team))
    assert not RunFolder(tmp_path / "run").held()
