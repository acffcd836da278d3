"""run_single.py from its first line to what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.models.manifest import Manifest
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    FAST,
    DataSet,
    Run,
)


def test_a_run_leaves_its_folder_with_what_was_asked_for(first: Path, tiles: Path) -> None:
    manifest = Manifest.read(first / "run.yaml")
    wanted: dict[str, Any] = {
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "image_size": 32,
        "batch_size": 3,
        "epochs": 2,
        "workers": 0,
        "lr": 0.01,
        "augmentation": "safe",
        "channels": ["nir"],
        "classes": [255],
        "loss": "dice+bce",
        "dataset": str(tiles),
    }
    assert {name: manifest.config.settings()[name] for name in wanted} == wanted
    assert len(read_rows(RunFolder(first))) == 2
    assert load_model(first / "best", torch.device("cpu"))[1].bands[-1].name == "nir"


def test_the_run_yaml_of_a_run_runs_again_with_the_same_numbers(first: Path, run: Run) -> None:
    assert run("--config", first / "run.yaml", "--exp-name", "again") == 0
    rows, again = read_rows(RunFolder(first)), read_rows(RunFolder(Path("logs/again")))
    assert [(row["loss"], row["miou"]) for row in again] == [(row["loss"], row["miou"]) for row in rows]


def test_odd_data_is_reported_once_before_the_run(
    tmp_path: Path, data_set: DataSet, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = data_set(tmp_path / "set", labels=(0, 1, 2), channels=())
    for path in (tiles / "val" / "gt").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 2, 3, mask))
    (tiles / "train" / "images" / "more.jp2").touch()
    assert (
        run("-d", tiles, *FAST, "--encoder-weights", "none", "-e", "1", "--classes", "1", "2", "--exp-name", "odd") == 0
    )
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if "warning" in line]
    assert [line.partition(":")[2].split()[:2] for line in warnings] == [
        [f"{tiles}/train/images:", "not"],
        ["no", "mask"],
    ]
    assert f"no mask contains 2 (in {tiles}/val/gt); left out of the mean" in warnings[1]
    assert sum("count as background" in line for line in lines) == 1
    assert lines.index(warnings[1]) < next(i for i, line in enumerate(lines) if line.startswith("epoch 1/1"))


def test_without_a_name_runs_of_the_same_day_get_folders_of_their_own(
    tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run("-d", tiles, *FAST, "-e", "1") == 0
    names = sorted(path.name for path in Path("logs").iterdir())
    assert len(names) == 2
    assert all(name.startswith("unet_tu-mobilenetv3_small_050_20") for name in names)
    printed = capsys.readouterr()
    assert printed.err == ""
    for name in names:
        assert f"python validate.py -cd {Path('logs') / name} -d {tiles}/val" in printed.out
    assert "epoch 1/1" in printed.out
    assert "6 train, 4 val tiles at 32 px" in printed.out


def test_a_name_alone_resumes_and_starts_nothing(first: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--exp-name", "frist", "-log", first.parent) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --exp-name: there is no run")
    assert "did you mean 'first'?" in line
    assert not (first.parent / "frist").exists()
