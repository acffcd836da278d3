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
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import ProcessError
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.models.build import build_model
from segtune.models.manifest import Manifest
from segtune.training.result import EpochResult
from segtune.training.team import Job, Link, train_together
from segtune.training.train import train, train_share
from tests.memory import out_of_memory
from tests.training.processes import lives
from tests.training.runs import DataSet, left, other, rows, run, small_unet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> RunConfig:
    """Batches of 4, 4 and 1 tile: one is smaller than the number of processes; 5 tiles to validate."""
    tiles = data_set(tmp_path_factory.mktemp("data") / "set", train=9, val=5)
    more = {"augmentation": "hard", "freeze_encoder_epochs": 1, "lr": 1e-2, "gpus": 2}
    return small_unet(tiles, epochs=2, **more)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert len(run(config, folder)) == config.epochs
    return folder


def processes(folder: Path) -> list[int]:
    """The processes of teams that this process started."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "segtune.training.team"], capture_output=True)
    return [int(line) for line in found.stdout.split()]


def names(folder: Path) -> set[str]:
    return {re.sub(r"tfevents.*", "tfevents", path.name) for path in folder.rglob("*")}


def test_two_processes_leave_the_files_of_one(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    alone = other(config, gpus=1)
    run(alone, tmp_path / "run")
    names = [
        {re.sub(r"tfevents.*", "tfevents", path.name) for path in (whole, tmp_path / "run")[n].rglob("*")}
        for n in (0, 1)
    ]
    assert names[0] == names[1]
    assert [row.keys() for row in rows(whole)] == [row.keys() for row in rows(tmp_path / "run")]
    assert Manifest.read(whole / "run.yaml").config.gpus == 2
    first = [float(rows(folder)[0]["loss"]) for folder in (whole, tmp_path / "run")]
    assert first[0] == pytest.approx(first[1], rel=0.1)  # BatchNorm sees two tiles at a time here


def test_the_score_is_the_one_that_one_process_measures(config: RunConfig, whole: Path) -> None:
    measured = validate(whole, Path(config.dataset) / "val", device="cpu")
    assert measured.scores.miou == float(rows(whole)[-1]["best_miou"])


@pytest.mark.xfail(
    reason="some starts of two processes differ in their last digits; the cause is not found yet", strict=False
)
def test_a_stopped_run_goes_on_to_the_same_numbers(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    begun = run(
        config, tmp_path / "run", on_batch=lambda done, total, loss: steps.append(done), stop=lambda: len(steps) > 4
    )
    assert len(begun) < config.epochs
    assert (tmp_path / "run" / "state.pt").is_file()
    run(config, tmp_path / "run", go_on=True)
    assert left(tmp_path / "run") == left(whole)
    longer = other(config, gpus=1, epochs=3)
    assert [result.epoch for result in run(longer, tmp_path / "run", go_on=True)] == [3]


def test_a_process_that_dies_ends_the_run_with_one_line(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with closing(train(config, scan(config), folder)) as epochs:
        next(epochs)
        second = max(processes(folder.path))
        os.kill(second, signal.SIGKILL)
        with pytest.raises(ProcessError, match=r"^process 2 of the 2 .* died \(signal 9, such"):
            next(epochs)
    assert not processes(folder.path)
    assert not folder.held()


def test_a_process_that_hangs_ends_the_run(config: RunConfig, tmp_path: Path) -> None:
    job = Job(config, scan(config), RunFolder(tmp_path / "run"), False, 1, 1, 2, False)
    with closing(train_together(train_share, job, None, None, None, silent=20.0)) as epochs:
        next(epochs)
        os.kill(max(processes(tmp_path)), signal.SIGSTOP)
        with pytest.raises(ProcessError, match=r"^no sign of life for 20 s in .* 2 processes of"):
            next(epochs)
    assert not processes(tmp_path)


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
        found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "segtune.training.team"], capture_output=True)
        team = [int(line) for line in found.stdout.split()]
        assert len(team) == 2
        process.kill()
    limit = time.monotonic() + 20
    while any(map(lives, team)) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not any(map(lives, team))
    assert not RunFolder(tmp_path / "run").held()
