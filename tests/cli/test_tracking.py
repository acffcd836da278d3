"""`log_to` of a search and of a run: the scripts start, continue and mend what a tracker has; MLflow is a fake here."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest

import segtune
from segtune.cli.searching import SearchDisplay
from segtune.files.folders import SearchFolder
from segtune.training.result import EpochResult
from tests.cli.runs import DataSet, train_in
from tests.report.tracking import Store
from tests.scripts import Ended, call
from tests.tuning.searches import RUN

SPACE = (
    RUN.replace("workers: 0", "workers: 0, threads: 1").replace("epochs: 3", "epochs: 2")
    + "space: {lr: [1e-9, 5e-3]}\n"
    + "search: {sampler: grid, scheduler: none, trials: 2, gpus_per_trial: 0, log_to: mlflow}\n"
)


@pytest.fixture
def space(tiles: Path, tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(f"dataset: {tiles}\n{SPACE}")
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path, monkeypatch, real=False)


def searched(space: Path, *flags: object) -> Ended:
    return call("run_search", "--space", space, "--results-dir", space.parent, "--in-process", *flags)


def test_an_interrupted_search_goes_on_in_its_own_run(
    space: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: SearchDisplay, number: int, result: EpochResult) -> None:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(SearchDisplay, "epoch", interrupt)
        ended = searched(space)
    assert (ended.status, ended.err) == (130, "")
    runs = store.runs()
    assert {name: run.status for name, run in runs.items()} == {
        "s": "SCHEDULED",
        "trial_0000": "FINISHED",
        "trial_0001": "SCHEDULED",
    }
    ended = searched(space, "--resume")
    assert (ended.status, ended.err) == (0, "")
    runs = store.runs()
    assert {run.status for run in runs.values()} == {"FINISHED"}
    assert {run.parent for name, run in runs.items() if name != "s"} == {"s"}
    assert [step for step, _ in runs["trial_0001"].curves["loss"]] == [1, 2]
    assert "best/model.safetensors" in runs["s"].files
    assert "report.html" in runs["s"].files


def test_a_search_whose_tracker_is_away_is_sent_later(
    space: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "refuses")
        ended = searched(space)
    assert (ended.status, ended.err) == (0, "")
    said = ended.out.splitlines()[-1]
    assert "not logged to mlflow" in said
    assert said.endswith(f"run_search.py --log s --results-dir {space.parent}")
    ended = call("run_search", "--log", "s", "--results-dir", space.parent)
    assert (ended.status, ended.err) == (0, "")
    runs = store.runs()
    assert {name: run.status for name, run in runs.items()} == dict.fromkeys(
        ["s", "trial_0000", "trial_0001"], "FINISHED"
    )
    assert ended.out.startswith("logging to mlflow: file ")


def test_a_search_of_the_python_api_is_logged(space: Path, store: Store) -> None:
    segtune.search(space, results_dir=space.parent, trials=1, in_process=True, verbose=False)
    assert {name: run.status for name, run in store.runs().items()} == dict.fromkeys(["s", "trial_0000"], "FINISHED")


def test_a_run_is_logged_and_a_finished_one_is_sent(data_set: DataSet, store: Store, tmp_path: Path) -> None:
    ended = train_in(data_set(tmp_path / "set"), tmp_path, name="plain")
    assert (ended.status, ended.err) == (0, "")
    assert store.runs() == {}
    for _ in range(2):
        ended = call("run_single", "--exp-name", "plain", "-log", tmp_path, "--log-to", "mlflow")
        assert (ended.status, ended.err) == (0, "")
        ((name, run),) = store.runs().items()
        assert (name, run.status, run.settings["lr"]) == ("plain", "FINISHED", "0.01")
        assert "best/model.safetensors" in run.files


def test_a_run_is_logged_while_it_trains(data_set: DataSet, store: Store, tmp_path: Path) -> None:
    ended = train_in(data_set(tmp_path / "set"), tmp_path, "--log-to", "mlflow")
    assert (ended.status, ended.err) == (0, "")
    ((name, run),) = store.runs().items()
    assert (name, run.status, [step for step, _ in run.curves["loss"]]) == ("run", "FINISHED", [1, 2])


def test_a_tracker_that_is_not_installed_is_refused_at_once(
    space: Path, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else known(name))
    line = "log_to: mlflow is not installed; pip install 'segtune[mlflow]' brings it"
    assert searched(space).mistakes == [line]
    assert searched(space, "--dry-run").mistakes == [line]
    assert train_in(tiles, space.parent, "--log-to", "mlflow").mistakes == [line]
    assert not (space.parent / "s").exists()
    assert not (space.parent / "run").exists()


def test_what_cannot_be_sent_is_refused(space: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SearchFolder(space.parent / "s")
    (mistake,) = call("run_search", "--log", "s", "--results-dir", space.parent).mistakes
    assert mistake.startswith(f"{folder.path}: no search (it has no search.yaml)")
    folder.path.mkdir()
    folder.search_yaml.write_text(space.read_text().replace("mlflow", "none"))
    (mistake,) = call("run_search", "--log", "s", "--results-dir", space.parent).mistakes
    assert mistake == "--log: the search was started without a tracker; --log-to mlflow (or wandb) says where to"
    (mistake,) = call("run_search", "--log", "s", "--results-dir", space.parent, "--log-to", "tensorboard").mistakes
    assert mistake == "--log-to: must be mlflow or wandb, but got 'tensorboard'"
    monkeypatch.setattr(SearchFolder, "holder", lambda self: "process 1 on here")
    (mistake,) = call("run_search", "--log", "s", "--results-dir", space.parent, "--log-to", "mlflow").mistakes
    assert mistake == f"{folder.path}: process 1 on here runs this search; --log sends it when it has ended"


def test_several_seeds_are_not_logged(data_set: DataSet, store: Store, tmp_path: Path) -> None:
    ended = train_in(data_set(tmp_path / "set"), tmp_path, "--log-to", "mlflow", "--seeds", 2)
    assert ended.mistakes == ["--log-to: logs single runs; with --seeds, leave it out"]
