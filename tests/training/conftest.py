"""The data sets and the runs that several tests of training share."""

from __future__ import annotations

import shutil
from multiprocessing import forkserver
from pathlib import Path

import pytest

from segtune.config import RunConfig
from tests.training.runs import (
    DataSet,
    Whole,
    left,
    nothing_else,
    run,
    small_pspnet,
)


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    """Six tiles to train and four to validate, with a channel nir."""
    return data_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    """Seven tiles to train and three to validate."""
    return data_set(tmp_path_factory.mktemp("seven") / "set", train=7, val=3)


@pytest.fixture(scope="session")
def fork_server() -> None:
    """Start the server of `tests.training.processes`, which imports torch while the first runs train."""
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def whole(seven: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that was never stopped, with all that has a state: dropout, augmentation, a schedule, part of the tiles.

    It replaces its best model once, and does not end with it: with others, the tests would prove less.
    """
    for seed in (46, *range(42, 62)):  # 46 is one where these tests were written
        config, folder = resumable(seven, seed), tmp_path_factory.mktemp("whole") / "run"
        if [result.best_epoch for result in run(config, folder)] == [1, 2, 2]:
            assert nothing_else(folder)
            return Whole(config, folder, left(folder))
    raise AssertionError("no seed gives such a run")


def resumable(dataset: Path, seed: int) -> RunConfig:
    return small_pspnet(
        dataset,
        batch_size=2,
        samples_per_epoch=5,
        lr=1e-2,
        loss="dice+bce",
        warmup_epochs=1,
        augmentation="hard",
        seed=seed,
    )


@pytest.fixture
def config(whole: Whole) -> RunConfig:
    """The config of the run that was never stopped."""
    return whole.config


@pytest.fixture
def begun(config: RunConfig, tmp_path: Path) -> Path:
    """The folder of a run of which one epoch is done."""
    folder = tmp_path / "run"
    run(config, folder, epochs=1)
    return folder


@pytest.fixture
def own(seven: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be changed."""
    return Path(shutil.copytree(seven, tmp_path / "set"))
