"""Stores: tiles from the cache, or decoded from the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtune.config import RunConfig
from segtune.data.fitting import Fit
from segtune.data.labels import BACKGROUND, IGNORED
from segtune.data.reading import read_image, read_mask, read_tile
from segtune.data.scan import scan
from segtune.data.store import DecodedTiles
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage
from tests.data.stores import scanned, store_of


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_a_tile_of_the_right_size_is_kept_as_it_is(
    tmp_path: Path, data_set: WriteDataSet, cached: bool, dtype: str, bands: int
) -> None:
    data_set(tmp_path, train=3, val=1, bands=bands, dtype=dtype, suffix=".tif")
    store = store_of(tmp_path, cached, channels=["nir"])
    assert len(store) == 3
    for index, tile in enumerate(scanned(tmp_path, channels=["nir"]).tiles["train"]):
        sources, _, mask = read_tile(tile)
        image, target = store.image(index), store.target(index)
        assert store.name(index) == tile.name
        assert image.dtype == (np.uint8 if dtype == "uint8" else np.float32)
        np.testing.assert_array_equal(image, np.concatenate(sources, axis=2))
        assert target.dtype == np.uint8
        np.testing.assert_array_equal(target, (mask == 255) * 1)


def test_the_network_sees_the_sources_asked_for_in_their_order(
    tmp_path: Path, data_set: WriteDataSet, cached: bool
) -> None:
    """One scan with all the channels of a search serves runs with some of them."""
    data_set(tmp_path, train=1, val=1, channels=["nir", "dem"])
    config = RunConfig(dataset=str(tmp_path), cache_dir=None if cached else "none", image_size=32)
    info = scan(config, ["nir", "dem"])
    (tile,) = info.tiles["train"]
    image, nir, dem = (read_image(path)[0] for path in (tile.image, *tile.channels))
    wanted: dict[tuple[str, ...], list[npt.NDArray[Any]]] = {
        (): [image],
        ("dem",): [image, dem],
        ("dem", "nir"): [image, dem, nir],
    }
    for channels, expected in wanted.items():
        store = info.store("train", config.model_copy(update={"channels": list(channels)}))
        np.testing.assert_array_equal(store.image(0), np.concatenate(expected, axis=2))


@pytest.mark.parametrize("shape", [(20, 20), (100, 100), (40, 90), (90, 20)])
@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_tile_is_resized_to_the_square(
    tmp_path: Path, data_set: WriteDataSet, shape: tuple[int, int], bands: int, dtype: str
) -> None:
    data_set(tmp_path, train=2, val=2, size=shape, bands=bands, dtype=dtype, suffix=".tif", channels=())
    tiles = scanned(tmp_path, image_size=64).tiles
    for split in ("train", "val"):
        store = store_of(tmp_path, split=split, image_size=64)
        for index, tile in enumerate(tiles[split]):
            image, mask = store.image(index), read_mask(tile.mask) == 255
            assert (image.shape, image.dtype) == ((64, 64, bands), np.dtype(dtype))
            original = read_image(tile.image)[0]
            np.testing.assert_allclose(image.mean(axis=(0, 1)), original.mean(axis=(0, 1)), rtol=0.05)
            if split == "val":
                np.testing.assert_array_equal(store.target(index), mask * 1)
                continue
            assert store.target(index).shape == (64, 64)
            # The object stays where it is: a resized image is brightest where the resized mask is set.
            inside = store.target(index) == 1
            assert image[inside].mean() > 2 * image[~inside].mean()


@pytest.mark.parametrize(("size", "method"), [(64, cv2.INTER_LINEAR), (40, cv2.INTER_AREA)])
def test_more_bands_than_opencv_resizes_at_once(
    tmp_path: Path, data_set: WriteDataSet, cached: bool, size: int, method: int
) -> None:
    data_set(tmp_path, train=1, val=1, size=50, bands=9, suffix=".tif", channels=())
    image = store_of(tmp_path, cached, image_size=size).image(0)
    original = read_image(tmp_path / "train" / "images" / "000.tif")[0]
    for band in range(9):
        expected = cv2.resize(original[..., band], (size, size), interpolation=method)
        np.testing.assert_array_equal(image[..., band], expected)


def test_resizing_makes_no_new_labels(tmp_path: Path, data_set: WriteDataSet, cached: bool) -> None:
    data_set(tmp_path, train=2, val=1, size=(50, 37), labels=(0, 7, 3, 200))
    for size in (32, 64):
        store = store_of(tmp_path, cached, image_size=size, classes=[7, 3], ignore=[200])
        assert np.unique(store.target(0)).tolist() == [BACKGROUND, 1, 2, IGNORED]


@pytest.mark.parametrize(("dtype", "value"), [("float32", np.nan), ("int16", -9999), ("uint8", 0)])
def test_pixels_without_data_hold_their_tiles_mean_and_are_ignored(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, cached: bool, dtype: str, value: float
) -> None:
    data_set(tmp_path, dtype=dtype, suffix=".tif")
    missing = np.random.default_rng(0).random((32, 32)) < 0.3
    means: dict[str, list[npt.NDArray[Any]]] = {"train": [], "val": []}
    for split, tiles in scanned(tmp_path, channels=["nir"]).tiles.items():
        for number, tile in enumerate(tiles):
            sources, _, _ = read_tile(tile)
            image = sources[0].copy() // (number + 1)  # means that differ
            image[missing] = value
            write_image(tile.image, image, nodata=value)
            pixels = np.concatenate([image, sources[1]], axis=2)[~missing]
            means[split].append(pixels.mean(axis=0, dtype=np.float64))
    for split, expected in means.items():
        store = store_of(tmp_path, cached, split, channels=["nir"])
        for index, mean in enumerate(expected):
            filled = np.round(mean) if dtype != "float32" else mean
            image = store.image(index)
            assert np.isfinite(image).all()
            if dtype == "int16":  # the channel is a file of its own, and filled in its own type
                assert image[missing].std(axis=0).max() == 0
            np.testing.assert_allclose(image[missing], np.broadcast_to(filled, image[missing].shape), rtol=1e-6)
            np.testing.assert_array_equal(store.target(index) == IGNORED, missing)


def test_a_tile_without_any_data_is_all_ignored(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, cached: bool
) -> None:
    data_set(tmp_path, dtype="float32", suffix=".tif", channels=())
    write_image(tmp_path / "train" / "images" / "001.tif", np.full((32, 32, 3), np.nan, np.float32))
    store = store_of(tmp_path, cached)
    assert (store.target(1) == IGNORED).all()
    assert np.isfinite(store.image(1)).all()


def test_pixels_of_the_nodata_setting_are_ignored_in_loss_and_metric(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, cached: bool
) -> None:
    data_set(tmp_path, dtype="int16", suffix=".tif")
    for folder, rows in (("images", slice(4)), ("nir", slice(28, None))):
        image = read_image(tmp_path / "val" / folder / "001.tif")[0].copy()
        image[rows] = -9999
        write_image(tmp_path / "val" / folder / "001.tif", image)
    found = store_of(tmp_path, cached, "val", channels=["nir"], nodata=-9999)
    assert (np.flatnonzero((found.target(1) == IGNORED).all(axis=1)) == [0, 1, 2, 3, 28, 29, 30, 31]).all()
    assert found.image(1).min() > -9999


def test_missing_pixels_do_not_spread_when_a_tile_is_resized(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, cached: bool
) -> None:
    data_set(tmp_path, train=1, val=1, size=48, dtype="float32", suffix=".tif")
    path = tmp_path / "train" / "images" / "000.tif"
    image = read_image(path)[0].copy()
    image[:, :24] = np.nan
    write_image(path, image)
    store = store_of(tmp_path, cached, image_size=32)
    assert np.isfinite(store.image(0)).all()
    assert (store.target(0)[:, :16] == IGNORED).all()
    assert (store.target(0)[:, 16:] != IGNORED).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_change_the_order(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    data_set(tmp_path, train=19, val=1)
    monkeypatch.setattr("segtune.data.reading.available_cpus", lambda: threads)
    store, decoded = store_of(tmp_path), store_of(tmp_path, cached=False)
    for index in range(19):
        assert store.name(index) == decoded.name(index) == f"{index:03d}"
        np.testing.assert_array_equal(store.image(index), decoded.image(index))


@pytest.mark.parametrize("split", ["train", "val"])
def test_wider_pixels_than_the_model_knows_are_refused(tmp_path: Path, data_set: WriteDataSet, split: str) -> None:
    narrow = scanned(data_set(tmp_path / "narrow", suffix=".tif"))
    wide = scanned(data_set(tmp_path / "wide", suffix=".tif", dtype="uint16"))
    tiles = wide.tiles[split]
    store = DecodedTiles(tiles, narrow.labels, narrow.bands, [0], Fit("resize", 32), narrow.uint8, None)
    with pytest.raises(InputError, match="uint16, but the model was trained on uint8"):
        store.image(0)


def test_tiles_of_other_bands_than_the_models_are_refused_by_name(tmp_path: Path, data_set: WriteDataSet) -> None:
    info = scanned(data_set(tmp_path, bands=3, suffix=".tif"))
    store = DecodedTiles(info.tiles["val"], info.labels, info.bands[:2], [0], Fit("resize", 32), True, None)
    with pytest.raises(InputError, match=r"000\.tif: has 3 bands in all, but the model was trained on 2"):
        store.image(0)
