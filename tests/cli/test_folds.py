"""run_single.py --folds: one configuration, scored on all tiles of train and val."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest

from segtune.evaluation.tile_counts import read_tiles
from segtune.files.folders import RunFolder
from tests.cli.runs import best_miou, settings, train_in
from tests.scripts import call


def test_folds_score_every_tile_and_an_interrupted_start_goes_on(tiles: Path, tmp_path: Path) -> None:
    logs, name = tmp_path / "logs", tmp_path / "logs" / "run"
    ended = train_in(tiles, logs, "--folds", 3)
    assert (ended.status, ended.err) == (0, ""), ended
    runs = [RunFolder(name / f"fold_{number}") for number in (1, 2, 3)]
    before = (name / "folds.json").read_text()
    found = json.loads(before)
    assert found["scores"] == [best_miou(run) for run in runs]
    assert found["mean"] == pytest.approx(statistics.fmean(found["scores"]))
    assert found["together"] == found["intervals"]["miou"]
    assert found["intervals"]["tiles"] == len(found["tiles"]) == 10
    for number, run in enumerate(runs, start=1):
        own = [f"val/{tile}" for tile, fold in found["tiles"].items() if fold == number]
        assert read_tiles(run.tiles)[0] == own
        assert settings(run)["seed"] == 42
        assert not run.best.exists()
        assert not run.state.exists()
    assert f"mean miou {found['mean']:.4f} over 3 folds" in ended.out
    assert f"all 10 tiles together: miou {found['together']['value']:.4f} (95% interval " in ended.out
    # As a kill leaves it: one fold is done, and another one has not begun.
    shutil.rmtree(runs[1].path)
    kept = runs[0].metrics_csv.stat().st_mtime_ns
    ended = call("run_single", "--folds", 3, "--exp-name", "run", "--log-dir", logs)
    assert (ended.status, ended.err) == (0, ""), ended
    assert runs[0].metrics_csv.stat().st_mtime_ns == kept
    assert (name / "folds.json").read_text() == before
    for flags, what in ((("--folds", 2), "folds 3, not 2"), (("--folds", 3, "-e", 5), "epochs 2, not 5")):
        (mistake,) = call("run_single", *flags, "--exp-name", "run", "--log-dir", logs).mistakes
        assert f"cannot go on: it has {what}; choose another name with --exp-name" in mistake


def test_names_keep_scenes_in_one_fold_and_the_objective_is_the_score(tiles: Path, tmp_path: Path) -> None:
    flags = ("--folds", 2, "--group", r"\d*(\d)$", "-e", 1, "--objective", "f1")
    ended = train_in(tiles, tmp_path / "logs", *flags)
    assert (ended.status, ended.err) == (0, ""), ended
    assert "tiles of 6 scenes stay together" in ended.out
    found = json.loads((tmp_path / "logs" / "run" / "folds.json").read_text())
    assert found["grouped_by"] == "names"
    assert found["objective"] == "f1"
    assert found["together"]["value"] > found["intervals"]["miou"]["value"]
    assert f"mean f1 {found['mean']:.4f} over 2 folds" in ended.out
    assert found["intervals"]["groups"] == 6
    assert all(found["tiles"][f"train/{tile:03d}"] == found["tiles"][f"val/{tile:03d}"] for tile in range(4))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--folds", "1"], "--folds: must be between 2 and 10, but got 1"),
        (["--folds", "11"], "--folds: must be between 2 and 10, but got 11"),
        (["--folds", "2", "--seeds", "2"], "--seeds and --folds are different tasks; leave one out"),
        (["--group", "(.)"], "--group: says which tiles belong together; it needs --folds N or --seeds N"),
        (["--folds", "2", "--group", "x"], "--group: 'x' has no parentheses"),
    ],
)
def test_wrong_flags_are_one_line(tiles: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    (mistake,) = call("run_single", "-d", tiles, "--log-dir", tmp_path / "logs", *flags).mistakes
    assert said in mistake
