"""Trackers get what a folder holds, once, whenever they are told; those of other people's libraries are fakes here.

The same tests run with MLflow itself, over a database in a file, and with W&B offline, where these are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segtune.cli.tracking import send
from segtune.errors import InputError, SegtuneError
from segtune.files.folders import RunFolder, SearchFolder, tracker_of
from segtune.files.locks import locked_file
from segtune.report import trackers
from segtune.trials import write_trials
from tests.report.tracking import FAKES, REAL, SPACE, Store, epochs_of, search_in, trial

TRIALS = [trial(0, "finished", 4), trial(1, "failed", 0, error="out of memory"), trial(2, "pending", 2)]
LATER = "python run_search.py --log s"


@pytest.fixture(params=[pytest.param(False, id="fake"), REAL])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path, monkeypatch, request.param)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path, monkeypatch, real=False)


@pytest.fixture
def search(tmp_path: Path) -> SearchFolder:
    return search_in(tmp_path / "s", TRIALS)


def sent(folder: Path, tracker: str = "mlflow", over: bool = False) -> list[str]:
    lines: list[str] = []
    assert send(tracker, folder, over, LATER, lines.append) == 0
    return lines


def test_mlflow_has_a_run_for_a_search_and_one_for_each_trial(store: Store, search: SearchFolder) -> None:
    (line,) = sent(search.path)
    assert line.startswith("logging to mlflow: ")
    assert line.endswith(", experiment segtune")
    runs = store.runs()
    assert {name: (run.parent, run.status) for name, run in runs.items()} == {
        "s": (None, "SCHEDULED"),
        "trial_0000": ("s", "FINISHED"),
        "trial_0001": ("s", "FAILED"),
        "trial_0002": ("s", "SCHEDULED"),
    }
    assert runs["trial_0000"].settings["lr"] == "0.001"
    assert runs["trial_0001"].facts["error"] == "out of memory"
    assert runs["trial_0000"].curves["miou"] == [(1, 0.1), (3, 0.3)]
    assert runs["trial_0002"].curves["loss"] == [(1, 1.0), (2, 0.5)]
    assert runs["s"].files == ["best/model.safetensors", "search.yaml", "trials.csv"]


def last_training(search: SearchFolder) -> None:
    """Write what a search by folds leaves of the training that gives its winner a model."""
    run = search.final(0)
    epochs_of(run, 3)
    run.run_yaml.write_text("lr: 0.002\n")
    run.tiles.write_bytes(b"")


def test_mlflow_has_the_last_training_of_a_search_by_folds(store: Store, search: SearchFolder) -> None:
    last_training(search)
    sent(search.path)
    run = store.runs()["final_0000"]
    assert (run.parent, run.status, run.settings) == ("s", "FINISHED", {"lr": "0.002"})
    assert run.curves["miou"] == [(1, 0.1), (3, 0.3)]
    assert run.files == []


def test_mlflow_gets_what_is_new_and_nothing_twice(store: Store, search: SearchFolder) -> None:
    sent(search.path)
    before = store.runs()
    sent(search.path)
    assert store.runs() == before
    search_in(search.path, [*TRIALS[:2], trial(2, "finished", 4), trial(3, "stopped", 1)])
    sent(search.path, over=True)
    runs = store.runs()
    assert {name: run for name, run in runs.items() if name in ("trial_0000", "trial_0001")} == {
        name: before[name] for name in ("trial_0000", "trial_0001")
    }
    assert runs["trial_0002"].curves["loss"] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert {runs[name].status for name in ("s", "trial_0002", "trial_0003")} == {"FINISHED"}
    assert runs["s"].curves["best_miou"] == [(2, 0.4), (4, 0.4)]


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 5, 8, 13, 17])
def test_mlflow_has_no_run_twice_after_a_kill(
    writes: int, fake: Store, search: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_DIES_AFTER", str(writes))
        with pytest.raises(SegtuneError):
            sent(search.path)
    sent(search.path)
    interrupted = fake.runs()
    (tmp_path / "mlflow.json").unlink()
    sent(search.path)
    whole = fake.runs()
    ids = "mlflow.parentRunId"
    assert {name: run.curves for name, run in interrupted.items()} == {name: run.curves for name, run in whole.items()}
    assert {name: {**run.facts, ids: ""} for name, run in interrupted.items()} == {
        name: {**run.facts, ids: ""} for name, run in whole.items()
    }


def test_mlflow_keeps_a_setting_and_gets_scores_of_the_end(store: Store, search: SearchFolder) -> None:
    strange = SPACE.replace("lr:", "loss+lr:")  # MLflow refuses the + in a name
    search.search_yaml.write_text(strange)
    sent(search.path)
    assert store.runs()["s"].facts["best_miou"] == "0.4"
    search.search_yaml.write_text(strange.replace("0.01]", "0.02]"))
    write_trials(search.trials_csv, [*TRIALS[:2], trial(2, "pending", 2, miou=0.7)])
    sent(search.path)
    found = store.runs()["s"]
    assert found.settings["space.loss_lr"] == "[0.001, 0.01]"
    assert found.facts["best_miou"] == "0.7"


def test_mlflow_gets_long_runs_in_several_batches(store: Store, search: SearchFolder) -> None:
    epochs_of(search.trial(0), 450)
    sent(search.path)
    assert [step for step, _ in store.runs()["trial_0000"].curves["loss"]] == list(range(1, 451))


def test_two_searches_of_one_name_are_two_runs(fake: Store, search: SearchFolder, tmp_path: Path) -> None:
    sent(search.path)
    sent(search_in(tmp_path / "other" / "s", TRIALS).path)
    content = json.loads((tmp_path / "mlflow.json").read_text())["segtune"]
    assert sorted(run["name"] for run in content.values()).count("s") == 2


def test_a_single_run_is_one_run(store: Store, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "ponds")
    epochs_of(run, 3)
    run.run_yaml.write_text("lr: 0.01\nclasses: [1, 2]\n")
    sent(run.path, over=True)
    ((name, found),) = store.runs().items()
    assert (name, found.status, found.settings) == ("ponds", "FINISHED", {"lr": "0.01", "classes": "[1, 2]"})


def test_a_server_that_refuses_is_one_error_with_the_remedy(
    fake: Store, search: SearchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "refuses")
    with pytest.raises(SegtuneError) as error:
        sent(search.path)
    assert str(error.value) == (
        "not logged to mlflow (ConnectionError: connection refused): 4 runs of s: s, trial_0000, trial_0001, "
        f"trial_0002; to send what is missing: {LATER}"
    )


def test_two_processes_do_not_log_one_search(fake: Store, search: SearchFolder) -> None:
    def busy() -> None:
        raise AssertionError

    with (
        locked_file(search.path / ".tracker.lock", busy),
        pytest.raises(SegtuneError, match=rf"\(another process logs {search.path}\)"),
    ):
        sent(search.path)


def test_a_foreign_file_in_place_of_the_ids_is_kept(fake: Store, search: SearchFolder) -> None:
    tracker_of(search.path).write_text("[]")
    with pytest.raises(SegtuneError, match="is not a file that this command writes"):
        sent(search.path)
    assert tracker_of(search.path).read_text() == "[]"


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        trackers.check_installed(name)
    assert str(error.value) == f"log_to: {name} is not installed; pip install 'segtune[{name}]' brings it"
    trackers.check_installed("none")


@pytest.fixture
def wandb_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """A fake W&B; what it has, by the end of a run's id."""
    place = tmp_path / "wandb"
    place.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_WANDB", str(place))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return lambda: {path.stem.partition("-")[2]: json.loads(path.read_text()) for path in sorted(place.iterdir())}


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandb_has_a_group_of_runs(
    mode: str, wandb_runs: Callable[[], dict[str, Any]], search: SearchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    sent(search.path, "wandb")
    runs = wandb_runs()
    assert {name: (run["name"], run["job_type"], run["exit_code"]) for name, run in runs.items()} == {
        "search": ("s", "search", 0),
        "trial_0000": ("trial_0000", "trial", 0),
        "trial_0001": ("trial_0001", "trial", 1),
        "trial_0002": ("trial_0002", "trial", 0),
    }
    assert {run["group"] for run in runs.values()} == {"s"}
    assert [step for step, _ in runs["trial_0000"]["rows"]] == [1, 2, 3, 4]
    assert runs["trial_0000"]["config"]["lr"] == "0.001"
    assert runs["trial_0001"]["summary"]["error"] == "out of memory"
    assert runs["search"]["summary"]["best_miou"] == 0.4  # a number, as in its history
    assert runs["search"]["files"] == ["best/model.safetensors", "search.yaml", "trials.csv"]
    search_in(search.path, [*TRIALS[:2], trial(2, "finished", 4)])
    sent(search.path, "wandb", over=True)
    again = wandb_runs()
    assert {name: run["starts"] for name, run in again.items()} == {
        "search": 2,
        "trial_0000": 1,
        "trial_0001": 1,
        "trial_0002": 2,
    }
    assert [step for step, _ in again["trial_0002"]["rows"]] == [1, 2, 3, 4]


def test_wandb_has_the_last_training_of_a_search_by_folds(
    wandb_runs: Callable[[], dict[str, Any]], search: SearchFolder
) -> None:
    last_training(search)
    sent(search.path, "wandb")
    run = wandb_runs()["final_0000"]
    assert (run["name"], run["job_type"], run["group"], run["exit_code"]) == ("final_0000", "final", "s", 0)
    assert [step for step, _ in run["rows"]] == [1, 2, 3]
    assert run["summary"]["best_miou"] == 0.3


def test_wandb_has_no_epoch_twice_where_its_last_answer_was_lost(
    wandb_runs: Callable[[], dict[str, Any]], search: SearchFolder
) -> None:
    sent(search.path, "wandb")
    content = json.loads(tracker_of(search.path).read_text())
    tracker_of(search.path).write_text(json.dumps({"id": content["id"]}))
    sent(search.path, "wandb")
    assert [step for step, _ in wandb_runs()["trial_0000"]["rows"]] == [1, 2, 3, 4]
    assert len(wandb_runs()) == 4


@pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="wandb is not installed: pip install 'segtune[wandb]'"
)
def test_wandb_itself_writes_each_run_once_offline(
    search: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for _ in range(2):
        sent(search.path, "wandb")
    names = [name.split("-", 4)[-1] for name in os.listdir(tmp_path / "wandb") if name.startswith("offline-run-")]
    assert sorted(names) == ["search", "trial_0000", "trial_0001", "trial_0002"]
