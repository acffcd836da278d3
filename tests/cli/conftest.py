"""Finished runs, and the scripts as calls in an empty folder."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import run_single
from segtune.cli.given import given_config
from segtune.config import RunConfig
from segtune.files.folders import RunFolder
from tests.cli.runs import FAST, DataSet, Plain, Run, Typed, train_in
from tests.scripts import call, status_of


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """run_single.py with these arguments, in an empty folder; its exit status."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return functools.partial(status_of, "run_single")


@pytest.fixture
def config_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    """The config that a command line stands for."""

    def call(*arguments: object) -> RunConfig:
        monkeypatch.setattr(sys, "argv", ["run_single.py", *map(str, arguments)])
        return given_config(run_single.parse(), None)

    return call


@pytest.fixture(scope="session")
def first(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with the short flags."""
    folder = tmp_path_factory.mktemp("logs")
    short = ["-lr", "1e-2", "-a", "safe", "--add-dirs", "nir", "--class-list", "255", "--loss", "dice+bce"]
    assert status_of("run_single", "-d", tiles, *FAST, *short, "-log", folder, "--exp-name", "first") == 0
    return folder / "first"


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Plain:
    parent = tmp_path_factory.mktemp("plain")
    dataset = data_set(parent / "set", channels=())
    ended = train_in(dataset, parent / "logs", name="plain")
    assert (ended.status, ended.err) == (0, "")
    return Plain(dataset, RunFolder(parent / "logs" / "plain"), ended.out)


@pytest.fixture(scope="session")
def search(plain: Plain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search's folder, as far as a run needs it: its winner is the plain run, and trial 3 has another lr and loss."""
    folder = tmp_path_factory.mktemp("search") / "поиск"
    shutil.copytree(plain.folder.best, folder / "best")
    (folder / "search.yaml").write_text("space: {}\n", encoding="utf-8")
    content = yaml.safe_load(plain.folder.run_yaml.read_text(encoding="utf-8"))
    (folder / "trial_0003").mkdir()
    (folder / "trial_0003" / "run.yaml").write_text(
        yaml.safe_dump(content | {"lr": 0.003, "loss": "dice+bce"}, sort_keys=False), encoding="utf-8"
    )
    return folder


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typed:
    """A script's exit status and lines on stderr, for what is typed in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def typed(name: str, *arguments: object) -> tuple[int, list[str]]:
        ended = call(name, *arguments)
        return ended.status, ended.err.split("\n")[:-1]

    return typed
