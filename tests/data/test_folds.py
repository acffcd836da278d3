"""Folds: every tile validates once, groups stay whole, and a fold's data is that of a data set with its tiles."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.folds import Folded, FoldTiles
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage
from tests.data.caching import Counted
from tests.data.stores import scanned


def folded(root: Path, count: int, groups: list[str] | None = None, **settings: Any) -> Folded:
    return FoldTiles(RunConfig(dataset=str(root), **settings)).deal(count, groups)


def names(info: DataInfo, root: Path, split: str, **settings: Any) -> list[str]:
    config = RunConfig(dataset=str(root), image_size=32, **settings)
    store = info.store(split, config)
    return [store.name(index) for index in range(len(store))]


def test_every_tile_validates_once_and_trains_all_other_folds(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=7, val=4)
    found = folded(tmp_path, 3)
    every = [f"train/{i:03d}" for i in range(7)] + [f"val/{i:03d}" for i in range(4)]
    assert list(found.names) == every
    assert sorted(Counter(found.folds).values()) == [3, 4, 4]
    assert found.sizes() == "3 to 4 tiles"
    validated = [names(info, tmp_path, "val") for info in found.infos]
    assert sorted(name for fold in validated for name in fold) == every
    for fold, (own, info) in enumerate(zip(validated, found.infos, strict=True)):
        assert own == [name for name, other in zip(every, found.folds, strict=True) if other == fold]
        assert names(info, tmp_path, "train") == [name for name in every if name not in own]
        assert info.counts == {"train": 11 - len(own), "val": len(own)}
    assert len({info.fingerprint for info in found.infos}) == 3
    assert folded(tmp_path, 3).folds == found.folds


@pytest.mark.parametrize("cached", [True, False])
def test_a_fold_is_as_a_data_set_of_its_tiles(tmp_path: Path, data_set: WriteDataSet, cached: bool) -> None:
    root, classes = data_set(tmp_path / "set", labels=(3, 1, 9), size=40), [1, 9]
    settings: dict[str, Any] = {"classes": classes, "channels": ["nir"], "cache_dir": None if cached else "none"}
    found = folded(root, 3, **settings)
    copies = tmp_path / "copies"
    for name, fold in zip(found.names, found.folds, strict=True):
        split, tile = name.split("/")
        for layer in ("images", "gt", "nir"):
            place = copies / ("val" if fold == 1 else "train") / layer
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / split / layer / f"{tile}.png", place / f"{split}_{tile}.png")
    own, alone = found.infos[1], scanned(copies, **settings)
    assert own.pixels == alone.pixels
    assert own.holders == alone.holders
    assert own.labels == alone.labels
    for band, other in zip(own.bands, alone.bands, strict=True):
        assert band.name == other.name
        np.testing.assert_allclose(
            (band.mean, band.std, band.low, band.high), (other.mean, other.std, other.low, other.high), rtol=1e-12
        )
    for split in ("train", "val"):
        config = RunConfig(dataset=str(root), image_size=own.image_size(), **settings)
        store, plain = own.store(split, config), alone.store(split, config)
        assert len(store) == len(plain)
        assert store.decoded is plain.decoded is cached
        for index in range(len(store)):
            assert store.name(index).replace("/", "_") == plain.name(index)
            np.testing.assert_array_equal(store.image(index), plain.image(index))
            np.testing.assert_array_equal(store.target(index), plain.target(index))


def test_tiles_are_decoded_once_for_all_folds(tmp_path: Path, data_set: WriteDataSet, reads: Counted) -> None:
    data_set(tmp_path)
    calls: list[int] = []
    first = FoldTiles(RunConfig(dataset=str(tmp_path))).deal(5, progress=lambda done, total: calls.append(total))
    assert set(calls) == {20}  # each of the 10 tiles as a training tile and as one that validates
    entries = {tuple(info.entries.items()) for info in first.infos}
    assert len(entries) == 1
    again = FoldTiles(RunConfig(dataset=str(tmp_path))).deal(4, progress=lambda done, total: calls.append(-1))
    assert -1 not in calls
    assert {tuple(info.entries.items()) for info in again.infos} == entries
    assert len(reads.tiles) == 20  # nor are they decoded once more to be dealt
    same = FoldTiles(RunConfig(dataset=str(tmp_path))).deal(5)
    assert same == first  # to the last digit of the statistics
    assert not any(info.each for info in first.infos)
    whole = FoldTiles(RunConfig(dataset=str(tmp_path), cache_dir="none")).deal(5)
    assert (whole.folds, [info.bands for info in whole.infos]) == (first.folds, [info.bands for info in first.infos])
    assert len(reads.tiles) == 40


def test_tiles_that_train_and_validate_are_no_leak(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, suffix=".tif")
    for number, path in enumerate(sorted(tmp_path.glob("*/images/*.tif"))):
        with rasterio.open(path, "r+") as file:
            file.crs, file.transform = "EPSG:32633", Affine(1, 0, 1000 + 100 * number, 0, -1, 1000)
    said: list[str] = []
    FoldTiles(RunConfig(dataset=str(tmp_path))).deal(2, say=said.append)
    assert not [line for line in said if "warning" in line]


def test_groups_stay_whole_and_rare_classes_are_spread(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    data_set(tmp_path, train=16, val=4)
    rare = [2, 3, 8, 17]  # tiles that hold the only pixels of class 255
    for number in range(20):
        place = tmp_path / "train" / "gt" / f"{number:03d}.png"
        if number >= 16:
            place = tmp_path / "val" / "gt" / f"{number - 16:03d}.png"
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[4:20, 4:20] = 7
        mask[25:, 25:] = 255 if number in rare else 0
        write_image(place, mask)
    single = folded(tmp_path, 4, classes=[7, 255])
    assert {single.folds[number] for number in rare} == {0, 1, 2, 3}
    assert set(Counter(single.folds).values()) == {5}
    groups = [str(number // 2) for number in range(20)]
    grouped = folded(tmp_path, 3, groups, classes=[7, 255])
    assert all(grouped.folds[i] == grouped.folds[i + 1] for i in range(0, 20, 2))
    assert {grouped.folds[number] for number in (2, 8, 17)} == {0, 1, 2}


def test_a_class_that_a_fold_lacks_is_told(tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage) -> None:
    data_set(tmp_path, train=4, val=2)
    mask = np.full((32, 32), 255, dtype=np.uint8)
    mask[:5] = 9
    write_image(tmp_path / "train" / "gt" / "002.png", mask)
    said: list[str] = []
    found = FoldTiles(RunConfig(dataset=str(tmp_path), classes=[255, 9])).deal(2, say=said.append)
    (line,) = [line for line in said if "is in no tile of fold" in line]
    own = found.folds[2] + 1
    assert line == (
        f"warning: class 9 is in no tile of fold {3 - own}, whose score leaves it out; fold {own} trains without it"
    )


def test_what_cannot_be_dealt_is_refused(tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage) -> None:
    data_set(tmp_path, train=2, val=1)
    write_image(tmp_path / "train" / "gt" / "001.png", np.full((32, 32), 9, dtype=np.uint8))
    with pytest.raises(InputError, match="4 folds need as many tiles, but there are 3"):
        folded(tmp_path, 4)
    with pytest.raises(InputError, match="3 folds need as many groups, but there are 2"):
        folded(tmp_path, 3, ["a", "b", "a"])
    with pytest.raises(InputError, match=r"fold [12] of 2 has no pixel of class 9, which objective needs; take fewer"):
        folded(tmp_path, 2, classes=[255, 9], objective="iou/9")
    with pytest.raises(InputError, match="use_only_add_val: folds are scored on the tiles of train and val"):
        folded(tmp_path, 2, use_only_add_val=True, add_val_dirs=[str(tmp_path / "val")])
