"""The cache of decoded tiles: read once, never wrong, never in the way, whatever is killed, full or damaged."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.data.batches import Batches
from segtune.data.reading import read_mask
from segtune.data.scan import scan
from tests.conftest import WriteDataSet, WriteImage
from tests.data.caching import TRAIN, VAL, Counted, config_of, content, entries, said, scanned

# Once


def test_the_second_scan_reads_no_tile_and_finds_the_same(root: Path, reads: Counted) -> None:
    first = scanned(root)
    assert len(reads.tiles) == TRAIN + VAL
    expected = content(root, first)
    reads.refuse = True
    second = scanned(root)
    assert second == first
    assert content(root, second) == expected


def test_the_second_scan_opens_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scanned(root, image_size=None)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an image is opened")

    monkeypatch.setattr("segtune.data.raster.driver_of", fail)
    assert scanned(root, image_size=None) == first


def test_a_scan_that_reads_nothing_reports_no_progress(root: Path) -> None:
    scanned(root)
    scan(config_of(root), progress=lambda done, total: pytest.fail("progress of nothing"))


def test_statistics_come_back_to_the_last_bit(tmp_path: Path, data_set: WriteDataSet) -> None:
    root = data_set(tmp_path / "set", labels=(0, 255, 700), dtype="float32", suffix=".tif")
    first, second = (scanned(root, channels=["nir"], classes=[255, 700]) for _ in range(2))
    plain = scanned(root, channels=["nir"], classes=[255, 700], cache_dir="none")
    assert first == second == replace(plain, entries=first.entries)


@pytest.mark.parametrize("folder", ["images", "gt", "nir"])
@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_noticed(
    root: Path, write_image: WriteImage, reads: Counted, folder: str, change: str
) -> None:
    before = content(root, scanned(root, channels=["nir"]), channels=["nir"])
    reads.tiles.clear()
    path = root / "train" / folder / "002.png"
    if change == "size":
        array = read_mask(path) if folder != "images" else None
        changed = np.zeros((32, 32, 3), np.uint8) if array is None else np.where(array == 255, 0, array + 1)
        write_image(path, changed.astype(np.uint8))
    else:
        os.utime(path, (1, 1))
    after = scanned(root, channels=["nir"])
    assert len(reads.tiles) == TRAIN  # the other split is known
    assert (content(root, after, channels=["nir"]) == before) == (change == "time")


def test_a_tile_that_joins_is_noticed(root: Path) -> None:
    scanned(root)
    for folder in ("images", "gt"):
        shutil.copy(root / "train" / folder / "000.png", root / "train" / folder / "900.png")
    info = scanned(root)
    assert (info.counts["train"], len(info.store("train", config_of(root)))) == (TRAIN + 1, TRAIN + 1)


@pytest.mark.parametrize("settings", [{"classes": [0]}, {"ignore": [0]}, {"classes": [0, 255]}])
def test_other_classes_need_no_new_pixels(root: Path, reads: Counted, settings: dict[str, Any]) -> None:
    first = scanned(root)
    reads.refuse = True
    other = scanned(root, **settings)
    assert other.entries == first.entries
    found = content(root, other, **settings)
    reads.refuse = False
    assert found != content(root, first)
    assert found == content(root, scanned(root, **settings, cache_dir="none"), **settings)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "int64"])
def test_labels_of_every_type_are_kept(tmp_path: Path, write_image: WriteImage, dtype: str) -> None:
    random, limits = np.random.default_rng(0), np.iinfo(dtype)
    labels = sorted({0, 7, max(limits.min + 1, -(2**40)), min(limits.max, 2**40)})
    for split in ("train", "val"):
        write_image(tmp_path / split / "images" / "a.tif", random.integers(0, 255, (48, 48, 3), np.uint8))
        write_image(tmp_path / split / "gt" / "a.tif", random.choice(labels, (48, 48)).astype(dtype))
    kept, made = (
        [
            info.store(split, config_of(tmp_path, classes=labels)).target(0).tolist()
            for info in [scanned(tmp_path, classes=labels, cache_dir=folder)]
            for split in ("train", "val")
        ]
        for folder in (str(tmp_path / "cache"), "none")
    )
    assert kept == made
    assert {index for target in kept for row in target for index in row} == set(range(1, len(labels) + 1))


@pytest.mark.parametrize("settings", [{"channels": ["nir"]}, {"limit_tiles": 2}, {"masks_dir": "other"}])
def test_what_is_read_otherwise_has_entries_of_its_own(root: Path, reads: Counted, settings: dict[str, Any]) -> None:
    for split in ("train", "val"):
        shutil.copytree(root / split / "gt", root / split / "other")
    first = scanned(root)
    reads.tiles.clear()
    other = scanned(root, **settings)
    assert len(reads.tiles) == min(TRAIN, settings.get("limit_tiles", TRAIN)) + min(
        VAL, settings.get("limit_tiles", VAL)
    )
    assert not set(first.entries.values()) & set(other.entries.values())
    assert content(root, other, **settings) == content(root, scanned(root, **settings, cache_dir="none"), **settings)


def test_another_size_is_another_entry_and_only_the_pixels_are_read_again(root: Path, reads: Counted) -> None:
    first = scanned(root)
    other = scanned(root, image_size=64)
    assert replace(other, entries={}, wanted=()) == replace(first, entries={}, wanted=())
    assert not set(first.entries.values()) & set(other.entries.values())
    assert len(entries(root)) == 4
    assert len({path.parent for path in entries(root)}) == 2  # beside one another
    reads.refuse = True
    assert other.store("train", config_of(root, image_size=64)).image(0).shape == (64, 64, 3)
    assert scanned(root) == first


def test_a_search_reads_each_tile_once_for_all_its_sizes_and_fits(root: Path, reads: Counted) -> None:
    wanted = [("resize", 32), ("resize", 64), ("pad", 64), ("crop", 32), ("crop", 64), ("resize", None)]
    info = scan(config_of(root), ["nir"], wanted=wanted)
    assert sorted(reads.tiles) == sorted([f"{i:03d}" for count in (TRAIN, VAL) for i in range(count)])
    assert {kept for _, kept in info.entries} == {"resize-32", "resize-64", "pad-64", "whole"}
    reads.refuse = True
    for fit, size in wanted:
        store = info.store("train", config_of(root, fit=fit, image_size=size or info.image_size()))
        assert store.decoded
        assert store.image(TRAIN - 1).ndim == 3


def test_one_cache_serves_a_folder_under_two_spellings_of_its_path(
    root: Path, reads: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(root)
    reads.refuse = True
    monkeypatch.chdir(root.parent)
    assert scan(config_of(root).model_copy(update={"dataset": "set"})).counts == {"train": TRAIN, "val": VAL}


def test_a_set_that_is_added_twice_over_is_read_once(root: Path, reads: Counted) -> None:
    """The validation folder among the added ones: one entry serves both."""
    info = scanned(root, add_val_dirs=[str(root / "val")])
    assert len(reads.tiles) == TRAIN + VAL
    assert info.entries["val", "resize-32"] == info.entries["add_val/val", "resize-32"]


# No room


def test_a_cache_that_allows_too_little_is_done_without(root: Path, reads: Counted) -> None:
    expected = content(root, scanned(root, cache_dir="none"))
    info, text = said(root, cache_gb=1e-6)
    assert "no cache: decoded tiles need about" in text
    assert "cache_gb allows 1e-06 GB" in text
    assert not info.entries
    assert not entries(root)
    assert content(root, info, cache_gb=1e-6) == expected
    reads.tiles.clear()
    again, text = said(root, cache_gb=1e-6)
    assert not reads.tiles  # what was learnt is kept all the same
    assert "no cache" in text
    assert again == info


def test_a_disk_without_space_is_done_without(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))  # type: ignore[attr-defined]
    info, text = said(root)
    assert "the disk is short" in text
    assert not info.entries
    assert len(content(root, info)) == 3 * (TRAIN + VAL)


# Making room


Places = dict[str, tuple[Path, ...]]


def build_several(tmp_path: Path, data_set: WriteDataSet, hours: dict[str, float]) -> tuple[Places, int]:
    """Data sets of one size, last used so many hours ago: the folders of their entries, and the bytes of each."""
    places: Places = {}
    for name, unused in hours.items():
        info = scanned(data_set(tmp_path / name, 3, 2, channels=()))
        places[name] = tuple(info.entries.values())
        for place in places[name]:
            os.utime(place, (time.time() - 3600 * unused,) * 2)
    size = sum(file.stat().st_size for place in next(iter(places.values())) for file in place.iterdir())
    return places, size


def there(places: Places) -> str:
    """The data sets whose entries are there."""
    return "".join(name for name, folders in places.items() if all(folder.is_dir() for folder in folders))


def test_what_was_unused_longest_makes_room(tmp_path: Path, data_set: WriteDataSet) -> None:
    places, size = build_several(tmp_path, data_set, {"a": 2, "b": 4, "c": 3, "d": 0})
    new = data_set(tmp_path / "new", 3, 2, channels=())
    assert len(scanned(new, cache_gb=4.5 * size / 1e9).entries) == 2
    assert there(places) == "acd"
    newer = data_set(tmp_path / "newer", 3, 2, channels=())
    assert len(scanned(newer, cache_gb=3.5 * size / 1e9).entries) == 2
    assert there(places) == "d"


def test_what_was_used_just_now_is_not_deleted_and_nothing_in_vain(tmp_path: Path, data_set: WriteDataSet) -> None:
    places, size = build_several(tmp_path, data_set, {"a": 2, "b": 0})
    large = data_set(tmp_path / "large", 6, 4, channels=())  # without a, it would still have no room beside b
    info, text = said(large, cache_gb=2.5 * size / 1e9)
    assert not info.entries
    assert "cache_gb allows" in text
    assert there(places) == "ab"


def test_a_scan_marks_what_it_finds_as_used(tmp_path: Path, data_set: WriteDataSet) -> None:
    places, size = build_several(tmp_path, data_set, {"a": 3, "b": 2})
    scanned(tmp_path / "a")
    scanned(data_set(tmp_path / "new", 3, 2, channels=()), cache_gb=2.5 * size / 1e9)
    assert there(places) == "a"


def test_a_short_disk_is_made_room_on_too(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cache_gb may be more than the disk has: then old entries must not fill it for ever."""
    places, size = build_several(tmp_path, data_set, {"a": 2, "b": 3})
    usage = shutil._ntuple_diskusage(10 * size, 10 * size - size // 2, size // 2)  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert len(scanned(data_set(tmp_path / "new", 3, 2, channels=())).entries) == 2
    assert there(places) == "a"


def test_what_is_sent_to_trials_does_not_grow_with_the_tiles(tmp_path: Path, data_set: WriteDataSet) -> None:
    """Of equal numbers of digits, since counts are numbers too."""
    sizes, plain = [], []
    for name, count in (("few", 10), ("all", 80)):
        root = data_set(tmp_path / name, count, 10, channels=())
        info = scanned(root)
        assert info.light(with_holders=False).counts == info.counts == {"train": count, "val": 10}
        sizes.append(len(pickle.dumps(info.light(with_holders=False))))
        plain.append(len(pickle.dumps(info)))
    assert abs(sizes[1] - sizes[0]) < 20
    assert plain[1] > plain[0] + 1000


def test_batches_are_the_same_with_and_without_a_cache(root: Path) -> None:
    def pixels(**settings: Any) -> list[bytes]:
        store = scanned(root, **settings).store("train", config_of(root))
        with Batches(store, 2, 3) as batches:
            return [np.asarray(images).tobytes() for images, _ in batches.epoch(1)]

    assert pixels() == pixels(cache_dir="none")
