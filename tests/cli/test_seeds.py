"""run_single.py --seeds: one configuration with several seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from segtune.files.folders import RunFolder
from tests.cli.runs import best_miou, measured, settings, train_in
from tests.scripts import call, status_of


def test_runs_with_seeds_give_a_mean_and_more_of_them_go_on(tiles: Path, tmp_path: Path) -> None:
    logs, name = tmp_path / "logs", tmp_path / "logs" / "run"
    ended = train_in(tiles, logs, "--seeds", 2)
    assert (ended.status, ended.err) == (0, ""), ended
    first = RunFolder(name / "seed_42")
    before = first.metrics_csv.stat().st_mtime_ns
    assert "warning: 2 seeds and " in ended.out
    assert f"validate.py -cd {name} --ensemble averages the models" in ended.out.splitlines()
    assert status_of("validate", "-cd", name, "--ensemble", "-d", tiles / "val", "--com") == 0
    assert (name / "validation" / "val_ensemble" / "metrics.json").is_file()
    ended = call("run_single", "--seeds", 3, "--exp-name", "run", "--log-dir", logs)
    assert (ended.status, ended.err) == (0, ""), ended
    assert first.metrics_csv.stat().st_mtime_ns == before
    runs = [RunFolder(name / f"seed_{seed}") for seed in (42, 43, 44)]
    assert [settings(run)["seed"] for run in runs] == [42, 43, 44]
    found = json.loads((name / "seeds.json").read_text())
    scores = [best_miou(run) for run in runs]
    assert found["scores"] == scores
    assert found["mean"] == pytest.approx(statistics.fmean(scores))
    assert found["deviation"] == pytest.approx(statistics.stdev(scores))
    assert found["interval"]["low"] < found["mean"] < found["interval"]["high"]
    assert f"mean miou {found['mean']:.4f} over 3 seeds" in ended.out
    assert found["grouped_by"] is None
    ended = call("run_single", "--seeds", 3, "--exp-name", "run", "--log-dir", logs, "--group", "0*([01])")
    assert "warning" not in ended.err
    grouped = json.loads((name / "seeds.json").read_text())
    assert grouped["grouped_by"] == "names"
    assert grouped["mean"] == found["mean"]
    assert grouped["interval"] != found["interval"]
    assert scores[runs.index(RunFolder(name / found["median"]))] == sorted(scores)[1]
    assert measured(name / found["median"], tiles / "val", tmp_path / "out")[0] == sorted(scores)[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seeds", "1"], "--seeds: must be at least 2, but got 1"),
        (["--seeds", "2", "--preview-augmentation", "3"], "different tasks"),
        (["--seeds", "2", "--exp-name", "a/b"], "--exp-name: 'a/b' is not the name of a folder"),
    ],
)
def test_wrong_flags_are_one_line(tiles: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    (mistake,) = call("run_single", "-d", tiles, "--log-dir", tmp_path / "logs", *flags).mistakes
    assert said in mistake


def test_a_folder_of_something_else_is_refused(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "logs" / "mine").mkdir(parents=True)
    (tmp_path / "logs" / "mine" / "run.yaml").write_text("mine")
    flags = ("--log-dir", tmp_path / "logs", "--seeds", 2, "--exp-name", "mine")
    (mistake,) = call("run_single", "-d", tiles, *flags).mistakes
    assert "holds no runs of --seeds" in mistake
