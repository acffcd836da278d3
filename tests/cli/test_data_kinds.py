"""Data of every kind is trained on with run_single.py and measured with validate.py, which give the very same score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    DataSet,
    WriteImage,
    best_miou,
    lists,
    measures_the_same,
    next_command,
    pixels,
    read_masks,
    score,
    steps,
    train_in,
    trained,
)
from tests.scripts import call

pytestmark = pytest.mark.slow  # whole runs; the modules of segtune.data are tested quickly one by one

# Names.


def test_every_name_may_be_cyrillic(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "Снимки Ёлки", channels=("ближний_ик",))
    for path in sorted(dataset.rglob("*.png")):
        path.rename(path.with_name(f"тайл й{path.name}"))
    logs = tmp_path / "журналы"
    ended = train_in(dataset, logs, "--add-dirs", "ближний_ик", name="первый прогон")
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(logs / "первый прогон")
    assert Manifest.read(folder.run_yaml).bands[-1].name == "ближний_ик"
    assert folder.worst.is_file()
    assert EventAccumulator(str(folder.path)).Reload().Scalars("miou")[-1].step == 2
    masks = measures_the_same(folder, dataset / "val", tmp_path / "итог")
    assert list(masks) == [f"тайл й{number:03d}" for number in range(4)]
    # What the run tells to type next can be typed.
    assert call("validate", *next_command(ended.out)).status == 0
    found = json.loads((folder.path / "validation" / "val" / "metrics.json").read_text(encoding="utf-8"))
    assert found["miou"] == best_miou(folder)


# Batch sizes.


@pytest.mark.parametrize(
    ("model", "batch_size"),
    [
        ("deeplabv3plus", 1),
        ("deeplabv3plus", 2),  # the last batch of either split is a single tile
        ("deeplabv3plus", 4),  # and of training alone
        ("unet", 50),
    ],
)
def test_any_number_of_tiles_goes_with_any_batch_size(
    tmp_path: Path, data_set: DataSet, model: str, batch_size: int
) -> None:
    dataset = data_set(tmp_path / "set", train=5, val=3, channels=())
    folder = trained(dataset, tmp_path, "-m", model, "-b", batch_size)
    assert steps(folder) == 2 * -(-5 // batch_size)
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    assert score(read_masks(dataset / "val" / "gt"), masks, [255]) == pytest.approx(best_miou(folder), abs=1e-12)


# Labels.


@pytest.mark.parametrize(
    ("labels", "flags", "classes"),
    [
        ((0, -3, 70_000), ["--class-list", "-3,70000"], [-3, 70_000]),
        ((0, 1), ["--class-list", "1"], [1]),
        ((0, 1, 2, 3), ["--max-mask-val", "3", "--loss", "dice+ce"], [1, 2, 3]),
        ((1, 2), ["--max-mask-val", "2"], [1, 2]),  # without any background
        ((0, 300, 65535), ["--class-list", "65535 300"], [65535, 300]),
    ],
)
def test_masks_hold_any_labels(
    tmp_path: Path, data_set: DataSet, labels: tuple[int, ...], flags: list[str], classes: list[int]
) -> None:
    suffix = ".png" if min(labels) >= 0 and max(labels) <= 65535 else ".tif"
    dataset = data_set(tmp_path / "set", labels=labels, channels=(), suffix=suffix)
    folder = trained(dataset, tmp_path, *flags)
    columns = [name for name in read_rows(folder)[0] if name.startswith("iou/")]
    background = ["iou/background"] if set(labels) - set(classes) else []
    assert columns == [*(f"iou/{label}" for label in classes), *background]
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    assert {label for mask in masks.values() for label in np.unique(mask).tolist()} <= set(labels)
    assert score(read_masks(dataset / "val" / "gt"), masks, classes) == pytest.approx(best_miou(folder), abs=1e-12)


# How the files lie.


def other_folders(dataset: Path) -> list[str]:
    for split in ("train", "val"):
        (dataset / split / "images").rename(dataset / split / "sat")
        (dataset / split / "gt").rename(dataset / split / "labels")
    return ["--images-dir", "sat", "--masks-dir", "labels"]


def one_folder(dataset: Path) -> list[str]:
    for split in ("train", "val"):
        for folder, ending in (("images", "_sat"), ("gt", "_mask")):
            for path in (dataset / split / folder).iterdir():
                path.rename(dataset / split / f"{path.stem}{ending}{path.suffix}")
            (dataset / split / folder).rmdir()
    return ["--images-dir", ".", "--masks-dir", ".", "--image-suffix", "_sat", "--mask-suffix", "_mask"]


@pytest.mark.parametrize("arrange", [other_folders, one_folder, lists])
def test_jpeg_images_and_png_masks_lie_in_any_order(
    tmp_path: Path, data_set: DataSet, arrange: Callable[[Path], list[str]]
) -> None:
    dataset = data_set(tmp_path / "set", channels=(), suffix=".jpg")
    truth = read_masks(dataset / "val" / "gt")
    flags = arrange(dataset)
    ended = train_in(dataset, tmp_path, *flags)
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    split = dataset / ("val.txt" if arrange is lists else "val")
    masks = measures_the_same(folder, split, tmp_path / "out")
    masks = {name.removeprefix("val"): mask for name, mask in masks.items()}
    assert score(truth, masks, [255]) == pytest.approx(best_miou(folder), abs=1e-12)
    assert call("validate", *next_command(ended.out)).status == 0


# What the pixels are.


def without_data(path: Path, nodata: float | None) -> None:
    """Take away a strip of an image: by a value that its file declares, and, of floats, by NaN too."""
    with rasterio.open(path, "r+") as file:
        array = file.read()
        if nodata is not None:
            file.nodata = nodata
            array[:, :9] = nodata
        if array.dtype.kind == "f":
            array[0, :, 25:] = np.nan
        file.write(array)


@pytest.mark.parametrize(
    ("dtype", "bands", "nodata", "flags"),
    [
        ("uint16", 1, 0, []),
        ("int16", 3, -9999, ["--rgb", "3 2 1", "-a", "hard"]),
        ("float32", 6, -9999.0, ["--rgb", "[5, 3, 1]", "-a", "medium"]),
        ("float32", 1, None, ["--rgb", "1", "--fit", "pad", "--image-size", "64"]),
    ],
)
def test_pixels_of_any_type_and_bands_with_holes_in_them(
    tmp_path: Path, data_set: DataSet, dtype: str, bands: int, nodata: float | None, flags: list[str]
) -> None:
    dataset = data_set(tmp_path / "set", channels=(), dtype=dtype, bands=bands, suffix=".tif")
    for split, holes in (("train", 2), ("val", 3)):
        for path in sorted((dataset / split / "images").iterdir())[:holes]:
            without_data(path, nodata)
    folder = trained(dataset, tmp_path, *flags)
    manifest = Manifest.read(folder.run_yaml)
    assert [band.name for band in manifest.bands] == [f"image:{number + 1}" for number in range(bands)]
    assert folder.worst.is_file()
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    images = {path.stem: pixels(path) for path in (dataset / "val" / "images").iterdir()}
    there = {name: (np.isfinite(array) & (array != nodata)).all(axis=0) for name, array in images.items()}
    assert sum(not valid.all() for valid in there.values()) == 3
    found = score(read_masks(dataset / "val" / "gt"), masks, [255], there)
    assert found == pytest.approx(best_miou(folder), abs=1e-12)


def test_masks_with_holes_in_them_are_learnt_and_measured_without_those(
    tmp_path: Path, data_set: DataSet, write_image: WriteImage
) -> None:
    dataset = data_set(tmp_path / "set", labels=(1, 2), channels=(), suffix=".tif")
    for path in sorted(dataset.rglob("gt/*.tif")):
        mask = pixels(path)[0].astype(np.int16)
        mask[:, :9] = -9999
        write_image(path, mask, nodata=-9999)
    folder = trained(dataset, tmp_path, "--classes", "1,2")
    assert not Manifest.read(folder.run_yaml).labels.background
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    truth = read_masks(dataset / "val" / "gt")
    there = {name: mask >= 0 for name, mask in truth.items()}
    assert score(truth, masks, [1, 2], there) == pytest.approx(best_miou(folder), abs=1e-12)
