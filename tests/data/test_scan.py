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
from segtune.data.dataset import DataInfo
from segtune.data.labels import Labels
from segtune.data.raster import reading_cost
from segtune.data.reading import read_image, read_mask, read_tile
from segtune.data.scan import scan
from segtune.data.tiles import Tile
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage

REAL_DATA = os.environ.get("SEGTUNE_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="SEGTUNE_DATA names no folder with s2india/ and nuclei/")

NODATA = {"uint8": 0, "uint16": 65535, "int16": -9999, "float32": -1.0}


def scanned(root: Path, **settings: Any) -> DataInfo:
    return scan(RunConfig(dataset=str(root), **settings))


def mistakes(root: Path, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        scanned(root, **settings)
    return caught.value.mistakes


def masks(root: Path, split: str) -> list[npt.NDArray[Any]]:
    return [read_mask(path) for path in sorted((root / split / "gt").iterdir())]


def relabel(path: Path, write_image: WriteImage, labels: dict[int, int]) -> None:
    """Change labels of a mask."""
    mask = read_mask(path).copy()
    for old, new in labels.items():
        mask[mask == old] = new
    write_image(path, mask)


@pytest.mark.parametrize("declared", ["by the files", "by the setting"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_statistics_are_those_of_all_valid_training_pixels(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, dtype: str, declared: str
) -> None:
    in_files = declared == "by the files"
    data_set(tmp_path, train=5, val=2, size=(24, 40), channels=["nir", "dem"], bands=4, dtype=dtype, suffix=".tif")
    random = np.random.default_rng(0)
    valid_pixels = []
    for path in sorted((tmp_path / "train" / "images").iterdir()):
        image = read_image(path)[0].copy()
        missing = random.random(image.shape[:2]) < 0.2
        image[missing] = NODATA[dtype]
        write_image(path, image, nodata=NODATA[dtype] if in_files else None)
        extra = [read_image(tmp_path / "train" / name / path.name)[0] for name in ("nir", "dem")]
        valid_pixels.append(np.concatenate([image, *extra], axis=2)[~missing].astype(np.float64))
    expected = np.concatenate(valid_pixels)
    bands = scanned(tmp_path, channels=["nir", "dem"], nodata=None if in_files else NODATA[dtype]).bands
    assert [band.name for band in bands] == ["image:1", "image:2", "image:3", "image:4", "nir", "dem"]
    np.testing.assert_allclose([band.mean for band in bands], expected.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose([band.std for band in bands], expected.std(axis=0), rtol=1e-9)
    np.testing.assert_array_equal([band.low for band in bands], expected.min(axis=0))
    np.testing.assert_array_equal([band.high for band in bands], expected.max(axis=0))


def test_statistics_do_not_suffer_from_a_large_offset(tmp_path: Path, write_image: WriteImage) -> None:
    """A height model far above the sea: sums of squares would lose the little that varies."""
    random = np.random.default_rng(0)
    images = {split: 100_000 + random.normal(0, 0.1, (4, 32, 32)).astype(np.float32) for split in ("train", "val")}
    for split, tiles in images.items():
        for index, image in enumerate(tiles):
            write_image(tmp_path / split / "images" / f"{index}.tif", image.astype(np.float32))
            write_image(tmp_path / split / "gt" / f"{index}.tif", np.full((32, 32), 255, dtype=np.uint8))
    (band,) = scanned(tmp_path).bands
    expected = images["train"].astype(np.float64)
    assert band.mean == pytest.approx(expected.mean(), rel=1e-12)
    assert band.std == pytest.approx(expected.std(), rel=1e-6)


def test_statistics_know_nothing_of_the_validation_tiles(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path)
    before = scanned(tmp_path)
    for path in (tmp_path / "val" / "images").iterdir():
        write_image(path, 255 - read_image(path)[0])
    after = scanned(tmp_path)
    assert after.bands == before.bands
    assert after.fingerprint != before.fingerprint


def test_a_tile_without_a_valid_pixel_leaves_the_statistics_alone(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path, train=3, dtype="float32", suffix=".tif")
    before = scanned(tmp_path).bands
    write_image(tmp_path / "train" / "images" / "empty.tif", np.full((32, 32, 3), np.nan, dtype=np.float32))
    write_image(tmp_path / "train" / "gt" / "empty.tif", np.zeros((32, 32), dtype=np.uint8))
    after = scanned(tmp_path)
    assert len(after.tiles["train"]) == 4
    assert after.bands == before


def test_no_valid_pixel_at_all_is_an_error(tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=2, dtype="float32", suffix=".tif")
    for path in (tmp_path / "train" / "images").iterdir():
        write_image(path, np.full((32, 32, 3), np.nan, dtype=np.float32))
    (text,) = mistakes(tmp_path)
    assert str(tmp_path) in text
    assert "no valid pixel" in text


def test_a_band_that_never_varies_can_be_divided_by(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    data_set(tmp_path)
    for path in (tmp_path / "train" / "nir").iterdir():
        write_image(path, np.full((32, 32), 77, dtype=np.uint8))
    band = scanned(tmp_path, channels=["nir"]).bands[-1]
    assert (band.mean, band.low, band.high) == (77, 77, 77)
    assert band.std == 1


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


@pytest.mark.parametrize(
    ("size", "expected"),
    [(32, 32), (33, 64), ((40, 20), 64), ((20, 70), 96), (128, 128), ((600, 32), 512), ((512, 16), 512)],
)
def test_image_size_is_the_longest_side_as_a_multiple_of_32_up_to_512(
    tmp_path: Path, data_set: WriteDataSet, size: int | tuple[int, int], expected: int
) -> None:
    data_set(tmp_path, train=1, val=1, size=size, channels=())
    assert scanned(tmp_path).image_size() == expected


def test_image_size_follows_the_largest_training_tile(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path / "small", train=3, val=2, size=32, channels=())
    data_set(tmp_path / "large", train=1, val=1, size=(50, 90), channels=())
    for folder in ("images", "gt"):
        shutil.copy(tmp_path / "large" / "val" / folder / "000.png", tmp_path / "small" / "val" / folder / "large.png")
    assert scanned(tmp_path / "small").image_size() == 32
    for folder in ("images", "gt"):
        shutil.copy(
            tmp_path / "large" / "train" / folder / "000.png", tmp_path / "small" / "train" / folder / "large.png"
        )
    assert scanned(tmp_path / "small").image_size() == 96


@pytest.mark.parametrize("folder", ["train/images", "train/gt", "train/nir", "val/images", "val/gt", "val/nir"])
def test_fingerprint_changes_with_a_single_pixel(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, folder: str
) -> None:
    data_set(tmp_path)
    before = scanned(tmp_path, channels=["nir"]).fingerprint
    path = tmp_path / folder / "001.png"
    changed = read_image(path)[0].copy()
    changed[3, 4, 0] = 0 if changed[3, 4, 0] == 255 else 255
    write_image(path, changed)
    assert scanned(tmp_path, channels=["nir"]).fingerprint != before


def test_fingerprint_changes_with_what_is_learnt_and_with_a_name(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, labels=(0, 1, 2))
    learnt: list[dict[str, list[int]]] = [
        {"classes": [1, 2]},
        {"classes": [2, 1]},
        {"classes": [1]},
        {"classes": [1], "ignore": [0]},
    ]
    prints = [scanned(tmp_path, **settings).fingerprint for settings in learnt]
    for folder in ("images", "gt", "nir"):
        (tmp_path / "train" / folder / "000.png").rename(tmp_path / "train" / folder / "zzz.png")
    prints.append(scanned(tmp_path, **learnt[0]).fingerprint)
    assert len(set(prints)) == len(prints)


def test_fingerprint_stays_when_files_are_touched_moved_or_packed_otherwise(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_set(tmp_path / "here", suffix=".tif")
    before = scanned(root).fingerprint
    for path in root.rglob("*.tif"):
        os.utime(path, (1, 1))
    assert scanned(root).fingerprint == before
    shutil.move(root, tmp_path / "there")
    assert scanned(tmp_path / "there").fingerprint == before
    monkeypatch.chdir(tmp_path)
    assert scanned(Path("there")).fingerprint == before
    for path in (tmp_path / "there" / "train" / "images").iterdir():
        write_image(path, read_image(path)[0], compress="deflate")
    assert scanned(tmp_path / "there").fingerprint == before


def test_fingerprint_does_not_depend_on_the_machine(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set(tmp_path)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr("segtune.data.reading.available_cpus", lambda threads=threads: threads)
        info = scanned(tmp_path, cache_dir="none")
        found.append((info.fingerprint, info.bands, info.pixels))
    assert found[0] == found[1]


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


def test_all_of_a_split_being_of_another_type_is_told_though_the_cache_knows_each(
    tmp_path: Path, data_set: WriteDataSet
) -> None:
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
    cut.write_bytes(cut.read_bytes()[:50])
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


def test_a_scan_with_more_channels_than_a_run_uses(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, channels=["nir", "dem", "sar"])
    info = scan(RunConfig(dataset=str(tmp_path), channels=["dem"]), ["nir", "dem", "sar"])
    image = ["image:1", "image:2", "image:3"]
    assert [path.parent.name for path in info.tiles["train"][0].channels] == ["nir", "dem", "sar"]
    for channels, sources in {
        (): [0],
        ("nir",): [0, 1],
        ("sar",): [0, 3],
        ("dem", "nir"): [0, 2, 1],
        ("nir", "dem", "sar"): [0, 1, 2, 3],
    }.items():
        assert info.sources(channels) == sources
        assert [band.name for band in info.input_bands(channels)] == [*image, *channels]


@pytest.mark.parametrize(
    ("image", "channel", "expected"),
    [("uint8", "uint8", True), ("uint16", "uint8", False), ("uint8", "float32", False)],
)
def test_batches_are_uint8_only_where_all_sources_are(
    tmp_path: Path, data_set: WriteDataSet, image: str, channel: str, expected: bool
) -> None:
    data_set(tmp_path, dtype=image, suffix=".tif")
    data_set(tmp_path / "other", dtype=channel, suffix=".tif")
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "other" / split / "nir", tmp_path / split / "nir", dirs_exist_ok=True)
    assert scanned(tmp_path, channels=["nir"]).uint8 is expected


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


def test_tiles_are_sent_along_unless_the_cache_has_all_that_is_wanted(tmp_path: Path, data_set: WriteDataSet) -> None:
    config = RunConfig(dataset=str(data_set(tmp_path / "set")), cache_dir=str(tmp_path / "cache"), image_size=32)
    assert scan(config).light().tiles == {}
    full = config.model_copy(update={"cache_gb": 1e-9})
    info = scan(full, wanted=[("resize", 32), ("resize", 64)]).light()
    assert len(info.store("train", config.model_copy(update={"image_size": 64}))) == 6
    assert info.store("train", config).decoded


@pytest.mark.parametrize(("room", "most"), [(1, 1), (2, 2), (99, 4)])
def test_no_more_tiles_are_read_at_a_time_than_memory_has_room_for(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch, room: int, most: int
) -> None:
    root = data_set(tmp_path, 8, 1)
    now, seen, lock = 0, [0], threading.Lock()

    def reading(tile: Tile, *settings: Any) -> Any:
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
        time.sleep(0.01)
        found = read_tile(tile, *settings)
        with lock:
            now -= 1
        return found

    cost = reading_cost(32, 32, 3, 1)
    monkeypatch.setattr("segtune.data.findings.read_tile", reading)
    monkeypatch.setattr("segtune.data.reading.available_cpus", lambda: 4)
    monkeypatch.setattr("segtune.data.reading.free_memory", lambda: int(2 * room * cost))
    scan(RunConfig(dataset=str(root), cache_dir="none"))
    assert max(seen) == most
