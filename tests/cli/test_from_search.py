"""run_single.py --from-search: a search's winner, or a trial, once more."""

from __future__ import annotations

import shutil
from pathlib import Path

from segtune.files.folders import RunFolder
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    DataSet,
    Plain,
    measures_the_same,
    refused,
    settings,
)
from tests.scripts import call


def test_the_winner_of_a_search_is_trained_with_flags_on_top(search: Path, plain: Plain, tmp_path: Path) -> None:
    ended = call("run_single", "--from-search", search, "-log", tmp_path, "--exp-name", "run", "-e", 3)
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    assert settings(folder) == {**settings(plain.folder), "epochs": 3}
    assert len(read_rows(folder)) == 3
    measures_the_same(folder, plain.dataset / "val", tmp_path / "out")


def test_a_trial_of_a_search_is_trained_on_other_data(
    search: Path, plain: Plain, tmp_path: Path, data_set: DataSet
) -> None:
    other = data_set(tmp_path / "other", bands=4, labels=(0, 1, 2), channels=(), suffix=".tif")
    line = ["--from-search", search, "--trial", 3, "-d", other, "--class-list", "1", "--set", "batch_size=4"]
    ended = call("run_single", *line, "-log", tmp_path, "--exp-name", "run")
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    changed = {"dataset": str(other), "classes": [1], "batch_size": 4, "lr": 0.003, "loss": "dice+bce"}
    assert settings(folder) == {**settings(plain.folder), **changed}
    measures_the_same(folder, other / "val", tmp_path / "out")


def test_a_missing_winner_or_trial_is_reported(search: Path, plain: Plain, tmp_path: Path) -> None:
    (line,) = refused(plain.dataset, tmp_path / "logs", "--from-search", search, "--trial", 4)
    assert str(search) in line
    assert "no trial 4" in line
    (tmp_path / "young").mkdir()
    shutil.copy(search / "search.yaml", tmp_path / "young")
    (line,) = refused(plain.dataset, tmp_path / "logs", "--from-search", tmp_path / "young")
    assert str(tmp_path / "young") in line
    assert "no winner yet" in line
