"""Runs on few tiles, on several classes, and on tiles with gaps or of several sizes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.training.resolve import resolve
from segtune.training.runlog import read_rows
from segtune.training.state import load_state
from tests.training.runs import (
    DataSet,
    run,
    small_unet,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 7), (2, 4), (3, 3), (6, 2), (50, 1)])
def test_any_batch_size_works_a_last_batch_of_one_included(
    seven: Path, tmp_path: Path, batch_size: int, steps: int
) -> None:
    told: list[int] = []
    config = small_unet(seven, model="deeplabv3plus", batch_size=batch_size, epochs=1)
    (result,) = run(config, tmp_path, on_batch=lambda done, total, loss: told.append(total))
    assert told == [steps] * steps
    assert math.isfinite(result.loss)
    assert 0 <= result.scores.miou <= 1


def test_a_single_tile_to_train_and_to_evaluate_is_enough(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set", train=1, val=1)
    results = run(small_unet(dataset, model="deeplabv3plus", epochs=2), tmp_path / "run")
    assert all(math.isfinite(result.loss) for result in results)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("three") / "set", labels=(0, 1, 2))


@pytest.mark.parametrize(
    ("classes", "ignore", "measured"),
    [
        ([1, 2], [], ["1", "2", "background"]),
        ([2, 1], [], ["2", "1", "background"]),
        ([0, 1, 2], [], ["0", "1", "2"]),
        ([1, 2], [0], ["1", "2"]),
        ([1], [2], ["1", "background"]),
        ([2], [0, 1], ["2"]),
    ],
)
def test_several_classes_with_and_without_background_and_ignored_labels(
    three: Path, tmp_path: Path, classes: list[int], ignore: list[int], measured: list[str]
) -> None:
    config = small_unet(three, classes=classes, ignore=ignore, loss="dice+ce", epochs=2, augmentation="medium")
    results = run(config, tmp_path)
    for result in results:
        assert math.isfinite(result.loss)
        assert list(result.scores.iou) == measured
        values = [result.scores.iou[str(label)] for label in classes]
        assert result.scores.miou == pytest.approx(np.mean(values))
    names = {f"iou/{label}" for label in measured}
    assert names == {name for name in read_rows(RunFolder(tmp_path))[0] if name.startswith("iou/")}


def test_several_classes_are_learnt(three: Path, tmp_path: Path) -> None:
    config = small_unet(three, classes=[1, 2], loss="dice+ce", lr=1e-2, epochs=12, batch_size=2, augmentation="safe")
    results = run(config, tmp_path)
    assert results[-1].best_miou > results[0].scores.miou + 0.15


def test_where_only_one_label_is_left_to_learn_everything_is_it(three: Path, tmp_path: Path) -> None:
    results = run(small_unet(three, classes=[2], ignore=[0, 1], epochs=1, loss="dice"), tmp_path)
    assert results[0].scores.miou_with_background is None


def spoil(path: Path, where: tuple[slice, slice]) -> None:
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[:, where[0], where[1]] = np.nan
        file.write(pixels)


def test_float_tiles_with_nan_train_and_score_the_rest(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set", dtype="float32", suffix=".tif")
    first, second, *_ = sorted((dataset / "train" / "images").iterdir())
    spoil(first, (slice(0, 9), slice(None)))
    spoil(second, (slice(None), slice(None)))  # nothing left of it
    spoil(min((dataset / "val" / "images").iterdir()), (slice(None), slice(20, 25)))
    spoil(max((dataset / "val" / "nir").iterdir()), (slice(3, 8), slice(None)))
    for number, level in enumerate(("none", "hard")):
        for result in run(small_unet(dataset, augmentation=level, batch_size=1), tmp_path / f"run{number}"):
            assert math.isfinite(result.loss)
            assert 0 <= result.scores.miou <= 1
    state = load_state(tmp_path / "run1" / "state.pt")["model"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_tiles_of_different_sizes_go_together(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set")
    for path in sorted(data_set(tmp_path / "large", size=48).rglob("*.png")):
        target = dataset / path.relative_to(tmp_path / "large")
        shutil.copy(path, target.with_name(f"large_{path.name}"))
    config = small_unet(dataset, image_size=None)
    assert resolve(config, scan(config)).image_size == 64  # of 48, the next multiple of 32
    results = run(config, tmp_path / "run")
    assert all(math.isfinite(result.loss) for result in results)
