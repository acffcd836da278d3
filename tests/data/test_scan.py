"""The scan of a data set: statistics, labels, background, fingerprint, and the mistakes that it tells together."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segtune.config import RunConfig
from segtune.data.labels import Labels
from segtune.data.raster import reading_cost
from segtune.data.reading import read_image, read_mask, read_tile
from segtune.data.scan import scan
from segtune.data.tiles import Tile
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage
from tests.data.stores import mistakes, scanned

REAL_DATA = os.environ.get("SEGTUNE_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="SEGTUNE_DATA names no folder with s2india/ and nuclei/")


def masks(root: Path, split: str) -> list[npt.NDArray[Any]]:
    return [read_mask(path) for path in sorted((root / split / "gt").iterdir())]


def relabel(path: Path, write_image: WriteImage, labels: dict[int, int]) -> None:
    """Change labels of a mask."""
    mask = read_mask(path).copy()
    for old, new in labels.items():
        mask[mask == old] = new
    write_image(path, mask)


@pytest.mark.parametrize(
    ("labels", "suffix"), [((0, 255), ".png"), ((3, 1, 9, 5), ".tif"), ((0, 700, 300), ".tif"), ((0, 700), ".png")]
)
def test_label_pixels_are_counted_by_split(
    tmp_path: Path, data_set: WriteDataSet, labels: tuple[int, ...], suffix: str
) -> None:
    data_set(tmp_path, labels=labels, suffix=suffix)
    info = scanned(tmp_path, classes=list(labels[1:]))
    for split in ("train", "val"):
        counted = Counter(np.concatenate([mask.ravel() for mask in masks(tmp_path, split)]).tolist())
        assert info.pixels[split] == counted
        assert list(info.pixels[split]) == sorted(labels)


def test_signed_masks_are_counted_too(tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet) -> None:
    data_set(tmp_path, suffix=".tif")
    for split in ("train", "val"):
        for path in (tmp_path / split / "gt").iterdir():
            write_image(path, np.where(read_mask(path) == 255, 255, -1).astype(np.int16))
    info = scanned(tmp_path)
    assert list(info.pixels["train"]) == [-1, 255]
    assert info.labels.background


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", np.nan)])
def test_pixels_of_masks_without_data_are_ignored_and_make_no_background(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, dtype: str, nodata: float
) -> None:
    data_set(tmp_path, labels=(1, 2), suffix=".tif")
    for path in (*(tmp_path / "train" / "gt").iterdir(), *(tmp_path / "val" / "gt").iterdir()):
        mask = read_mask(path).astype(dtype)
        mask[:3] = nodata
        write_image(path, mask, nodata=nodata)
    config = RunConfig(dataset=str(tmp_path), classes=[1, 2], image_size=32)
    info = scan(config)
    assert not info.labels.background
    assert list(info.pixels["train"]) == [1, 2]
    assert sum(info.pixels["val"].values()) == 4 * 29 * 32
    for split in ("train", "val"):
        target = info.store(split, config).target(0)
        assert np.flatnonzero((target == 255).all(axis=1)).tolist() == [0, 1, 2]
        assert set(np.unique(target[3:])) == {1, 2}


@pytest.mark.parametrize(
    ("classes", "ignore", "found", "background", "outputs", "background_label"),
    [
        ([255], [], [0, 255], True, 1, 0),
        ([1, 2, 3], [0], [0, 1, 2, 3], False, 3, 4),
        ([1, 2, 3], [], [0, 1, 2, 3], True, 4, 0),
        ([0, 1], [], [0, 1], False, 2, 2),
        ([0, 1], [], [0, 1, 7, 5], True, 3, 5),
        ([0], [1], [0, 1, 9], True, 1, 9),
        ([2], [], [2], False, 1, 0),
    ],
)
def test_background_exists_where_a_label_is_neither_listed_nor_ignored(
    classes: list[int], ignore: list[int], found: list[int], background: bool, outputs: int, background_label: int
) -> None:
    labels = Labels.from_masks(classes, ignore, found)
    assert (labels.background, labels.outputs, labels.background_label) == (background, outputs, background_label)
    assert labels.background_label not in {*classes, *ignore}
    assert labels.binary == (len(classes) == 1)


def test_background_is_decided_by_the_training_masks_alone(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path, labels=(1, 2, 3))
    assert not scanned(tmp_path, classes=[1, 2, 3]).labels.background
    relabel(tmp_path / "val" / "gt" / "000.png", write_image, {1: 8})
    assert not scanned(tmp_path, classes=[1, 2, 3]).labels.background
    relabel(tmp_path / "train" / "gt" / "000.png", write_image, {1: 8})
    labels = scanned(tmp_path, classes=[1, 2, 3]).labels
    assert (labels.background, labels.outputs, labels.background_label) == (True, 4, 8)
    assert not scanned(tmp_path, classes=[1, 2, 3], ignore=[8]).labels.background


def test_a_class_that_no_training_mask_holds_is_told_with_what_they_hold(
    tmp_path: Path, data_set: WriteDataSet
) -> None:
    data_set(tmp_path, labels=(0, 1, 2))
    texts = mistakes(tmp_path, classes=[1, 7, 8])
    assert len(texts) == 2
    for text, label in zip(texts, (7, 8), strict=True):
        assert f"contains {label};" in text
        assert text.endswith("hold 0, 1, 2")
        assert str(tmp_path / "train" / "gt") in text


def test_a_class_in_the_validation_masks_alone_cannot_be_learnt(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path)
    relabel(tmp_path / "val" / "gt" / "000.png", write_image, {255: 9})
    assert len(mistakes(tmp_path, classes=[255, 9])) == 1


def test_validation_masks_without_any_class_cannot_score(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path)
    for path in (tmp_path / "val" / "gt").iterdir():
        relabel(path, write_image, {255: 0})
    (text,) = mistakes(tmp_path)
    assert text.startswith(str(tmp_path / "val" / "gt"))


def test_validation_masks_may_lack_some_of_the_classes(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path, labels=(0, 1, 2))
    for path in (tmp_path / "val" / "gt").iterdir():
        relabel(path, write_image, {2: 0})
    assert 2 not in scanned(tmp_path, classes=[1, 2]).pixels["val"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_with_another_number_of_bands_are_named(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, split: str
) -> None:
    data_set(tmp_path)
    odd = tmp_path / split / "images" / "002.png"
    write_image(odd, read_image(odd)[0][..., 0])
    (text,) = mistakes(tmp_path)
    assert text.startswith("1 image does not have 3 bands")
    assert f"{odd} (1)" in text


@pytest.mark.parametrize("split", ["train", "val", "north"])
@pytest.mark.parametrize(
    ("most", "other", "said"),
    [
        ("uint8", "uint16", "1 tile is not uint8, and the others are: "),
        ("uint16", "uint8", "1 tile is uint8, and the others are not: "),
    ],
)
def test_a_tile_of_8_bits_among_others_and_the_reverse_is_named(
    tmp_path: Path, data_set: WriteDataSet, split: str, most: str, other: str, said: str
) -> None:
    root = data_set(tmp_path / "set", train=3, val=3, channels=(), suffix=".tif", dtype=most)
    shutil.copytree(root / "val", root / "north")
    odd = root / split / "images" / "001.tif"
    shutil.copy(data_set(tmp_path / "odd", suffix=".tif", dtype=other) / "train" / "images" / "001.tif", odd)
    assert mistakes(root, add_val_dirs=[str(root / "north")]) == [f"{said}{odd}"]


def test_a_split_of_another_type_is_told_also_when_cached(tmp_path: Path, data_set: WriteDataSet) -> None:
    narrow, wide = (
        data_set(tmp_path / kind, train=3, val=2, channels=(), suffix=".tif", dtype=kind) for kind in ("uint8", "int16")
    )
    for root in (narrow, wide):
        scanned(root)
    (text,) = mistakes(narrow, val_dir=str(wide / "val"))
    assert text.startswith("2 tiles are not uint8, and the others are: ")
    assert str(wide / "val" / "images" / "000.tif") in text


def test_floats_of_two_widths_go_together(tmp_path: Path, data_set: WriteDataSet) -> None:
    narrow, wide = (
        data_set(tmp_path / kind, train=2, val=2, channels=(), suffix=".tif", dtype=kind)
        for kind in ("float32", "float64")
    )
    assert not scanned(narrow, val_dir=str(wide / "val")).uint8


def test_several_broken_files_are_told_together(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path)
    cut = tmp_path / "train" / "images" / "001.png"
    cut.write_bytes(cut.read_bytes()[:20])
    wide = write_image(tmp_path / "train" / "gt" / "003.png", np.zeros((32, 33), dtype=np.uint8))
    deep = write_image(tmp_path / "val" / "nir" / "000.png", np.zeros((32, 32, 3), dtype=np.uint8))
    texts = mistakes(tmp_path, channels=["nir"])
    assert [text.split(":")[0] for text in texts] == [str(path) for path in (cut, wide, deep)]


@pytest.mark.parametrize("broken", [5, 6, 9])
def test_more_than_five_broken_files_are_summed_up(tmp_path: Path, data_set: WriteDataSet, broken: int) -> None:
    data_set(tmp_path, train=6, val=4)
    names = [path for split in ("train", "val") for path in sorted((tmp_path / split / "images").iterdir())]
    for path in names[:broken]:
        path.write_bytes(b"")
    texts = mistakes(tmp_path)
    assert [text.split(":")[0] for text in texts[:5]] == [str(path) for path in names[:5]]
    if broken > 5:
        (last,) = texts[5:]
        assert f"{broken - 5} more" in last
        assert str(tmp_path) in last
    else:
        assert len(texts) == 5


def test_progress_counts_every_tile_once(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=5, val=3)
    calls: list[tuple[int, int]] = []
    scan(RunConfig(dataset=str(tmp_path)), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 8) for done in range(1, 9)]


def test_tiles_are_absolute(tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    data_set(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    for tiles in scanned(Path("set"), channels=["nir"]).tiles.values():
        assert all(path.is_absolute() for tile in tiles for path in (tile.image, tile.mask, *tile.channels))


@pytest.mark.slow
@needs_real_data
def test_s2india() -> None:
    """Sentinel-2 tiles of India: land cover 1 to 3, and 0 where it is not known."""
    info = scanned(Path(REAL_DATA or "") / "s2india", classes=[1, 2, 3], ignore=[0], channels=["nir"])
    assert {split: len(tiles) for split, tiles in info.tiles.items()} == {"train": 222, "val": 54}
    assert (info.labels.background, info.labels.outputs) == (False, 3)
    assert [band.name for band in info.bands] == ["image:1", "image:2", "image:3", "nir"]
    pixels = np.concatenate([read_image(tile.image)[0][read_image(tile.image)[1]] for tile in info.tiles["train"]])
    np.testing.assert_allclose([band.mean for band in info.bands[:3]], pixels.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose([band.std for band in info.bands[:3]], pixels.astype(np.float64).std(axis=0))


@needs_real_data
def test_nuclei() -> None:
    """Microscope pictures of several sizes."""
    info = scanned(Path(REAL_DATA or "") / "nuclei")
    sizes = {read_mask(tile.mask).shape for tile in info.tiles["train"]}
    assert len(sizes) > 1
    assert info.largest == max(max(size) for size in sizes)
    assert info.uint8
    assert info.labels == Labels((255,), (), True, 0)


def test_labels_of_pixels_without_data_do_not_count(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    data_set(tmp_path, train=2, val=2, dtype="float32", suffix=".tif", channels=())
    for tile in (tmp_path / "val" / "images").iterdir():
        image = read_image(tile)[0]
        image[read_mask(tmp_path / "val" / "gt" / tile.name) == 255] = np.nan
        write_image(tile, image)
    with pytest.raises(InputError, match="nothing can be scored"):
        scan(RunConfig(dataset=str(tmp_path)))


@pytest.mark.parametrize(("room", "most"), [(1, 1), (2, 2), (99, 4)])
def test_no_more_tiles_are_read_at_a_time_than_memory_has_room_for(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch, room: int, most: int
) -> None:
    root = data_set(tmp_path, 8, 1)
    now, seen, lock = 0, [0], threading.Lock()

    def reading(tile: Tile, *settings: Any, **more: Any) -> Any:
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
        time.sleep(0.01)
        found = read_tile(tile, *settings, **more)
        with lock:
            now -= 1
        return found

    cost = reading_cost(32, 32, 3, 1)
    monkeypatch.setattr("segtune.data.findings.read_tile", reading)
    monkeypatch.setattr("segtune.data.reading.available_cpus", lambda: 4)
    monkeypatch.setattr("segtune.data.reading.free_memory", lambda: int(2 * room * cost))
    scan(RunConfig(dataset=str(root), cache_dir="none"))
    assert max(seen) == most
