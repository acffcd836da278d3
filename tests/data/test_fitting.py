"""Tiles of any size become squares: resized, cropped or padded; and the cache changes nothing in what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segtune.config import RunConfig
from segtune.data.fitting import Fit
from segtune.data.labels import BACKGROUND, IGNORED
from segtune.data.reading import read_image, read_mask
from segtune.data.scan import scan
from segtune.data.store import TileStore
from tests.conftest import WriteDataSet, WriteImage

SHAPES = [(64, 64), (20, 20), (100, 100), (40, 90), (90, 20), (64, 30), (200, 65)]


def both(root: Path, **settings: Any) -> dict[str, tuple[TileStore, TileStore]]:
    """The same tiles from the cache and from the files, by split."""
    configs = [RunConfig(dataset=str(root), cache_dir=place, **settings) for place in (None, "none")]
    infos = [scan(config) for config in configs]
    found = {}
    for split in ("train", "val"):
        cached, decoded = (info.store(split, config) for info, config in zip(infos, configs, strict=True))
        assert cached.decoded
        assert not decoded.decoded
        found[split] = cached, decoded
    return found


def stores(root: Path, **settings: Any) -> tuple[TileStore, TileStore]:
    """The tiles of train from the cache and from the files."""
    return both(root, **settings)["train"]


def of_shapes(root: Path, write_image: WriteImage, bands: int = 3, dtype: str = "uint8", channel: str = "") -> Path:
    """A data set with a tile of each shape; masks hold 0, 1 and 2, and the image shows them."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, (height, width) in enumerate(SHAPES):
            mask = np.zeros((height, width), np.uint8)
            mask[: height // 2, : width // 2], mask[height // 2 :, width // 2 :] = 1, 2
            noise = random.integers(0, 20, (height, width, bands))
            image = (mask[..., None] * 60 + 40 + noise).astype(dtype)
            write_image(root / split / "images" / f"{number}.tif", image)
            write_image(root / split / "gt" / f"{number}.png", mask)
            if channel:
                write_image(root / split / "nir" / f"{number}.tif", (image[..., 0] * 2).astype(channel))
    return root


def shown(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The labels that an image of `of_shapes` shows."""
    return np.clip(np.round((image.mean(axis=2) - 50) / 60), 0, 2)


# Stores


@pytest.mark.parametrize("mode", ["resize", "crop", "pad"])
@pytest.mark.parametrize(("dtype", "channel"), [("uint8", "uint8"), ("uint8", "float32"), ("int16", "uint16")])
def test_tiles_of_every_size_together(
    tmp_path: Path, write_image: WriteImage, mode: str, dtype: str, channel: str
) -> None:
    of_shapes(tmp_path, write_image, 3, dtype, channel)
    settings: dict[str, Any] = {"fit": mode, "image_size": 64, "classes": [1, 2], "channels": ["nir"]}
    for split, found in both(tmp_path, **settings).items():
        for store in found:
            for index, (height, width) in enumerate(SHAPES):
                image, target = store.image(index), store.target(index)
                square = (max(64, height), max(64, width)) if mode == "crop" else (64, 64)
                assert image.shape == (*square, 4)
                assert image.dtype == (np.uint8 if dtype == channel == "uint8" else np.float32)
                if split == "val":
                    mask = read_mask(tmp_path / "val" / "gt" / f"{index}.png")
                    np.testing.assert_array_equal(target, mask)
                    continue
                assert target.shape == square
                inner = Fit(mode, 64).inner(height, width)
                tile = np.s_[: inner[0], : inner[1]]
                agreeing = shown(image[tile][..., :3]) == target[tile]
                assert agreeing.mean() > 0.9


@pytest.mark.parametrize(("ignore", "padding"), [([], BACKGROUND), ([7], IGNORED)])
def test_pad_keeps_the_aspect_and_pads_targets_with_what_counts_least(
    tmp_path: Path, write_image: WriteImage, ignore: list[int], padding: int
) -> None:
    of_shapes(tmp_path, write_image)
    for store in stores(tmp_path, fit="pad", image_size=64, classes=[1, 2], ignore=ignore):
        for index, (height, width) in enumerate(SHAPES):
            scale = min(1, 64 / max(height, width))  # smaller tiles are not enlarged
            inner_height, inner_width = round(height * scale), round(width * scale)
            added = np.ones((64, 64), bool)
            added[:inner_height, :inner_width] = False
            image, target = store.image(index), store.target(index)
            assert (target[added] == padding).all()
            np.testing.assert_array_equal(target[: inner_height // 2 - 1, : inner_width // 2 - 1], 1)
            # What is added has one colour, the tile's mean.
            mean = image[~added].mean(axis=0)
            np.testing.assert_allclose(image[added], np.broadcast_to(mean, image[added].shape), atol=0.5)


def test_without_background_padding_is_ignored(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, size=40, labels=(0, 1, 2))
    for store in stores(tmp_path, fit="pad", image_size=64, classes=[0, 1, 2]):
        assert (store.target(0)[40:] == IGNORED).all()
        assert (store.target(0)[:, 40:] == IGNORED).all()


@pytest.mark.parametrize("mode", ["resize", "crop", "pad"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_the_cache_gives_what_the_files_give(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, mode: str, dtype: str, bands: int
) -> None:
    """To the last bit: a result does not depend on whether there was room for a cache."""
    data_set(tmp_path, 3, 2, (50, 37), (0, 3, 7, 9), ("nir",), bands, dtype, ".tif")
    random = np.random.default_rng(1)
    for split in ("train", "val"):
        # Pixels without data: NaN and infinite ones, nodata in an image and in a channel, and a whole tile.
        for name, share in (("000", 0.3), ("001", 1.0)):
            path = tmp_path / split / "images" / f"{name}.tif"
            image = read_image(path)[0].astype(dtype)
            missing = random.random(image.shape[:2]) < share
            nodata = np.nan if dtype.startswith("float") else 0
            image[missing] = nodata
            write_image(path, image, nodata=nodata)
        path = tmp_path / split / "nir" / "000.tif"
        channel = read_image(path)[0][..., 0].astype(dtype)
        channel[5:9] = np.inf if dtype.startswith("float") else 1
        write_image(path, channel, nodata=1)
    settings: dict[str, Any] = {"fit": mode, "image_size": 32, "classes": [3, 7], "ignore": [9]}
    found = both(tmp_path, channels=["nir"], **settings)
    alone = both(tmp_path, channels=[], **settings)["train"]
    for count, (cached, decoded) in ((3, found["train"]), (3, alone), (2, found["val"])):
        assert len(cached) == len(decoded) == count
        for index in range(len(cached)):
            assert cached.name(index) == decoded.name(index)
            for one, other in (
                (cached.image(index), decoded.image(index)),
                (cached.target(index), decoded.target(index)),
            ):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
            assert np.isfinite(cached.image(index)).all()


def test_runs_with_fewer_channels_ignore_what_any_scanned_channel_lacks(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet
) -> None:
    """The trials of a search are scored on the same pixels, whichever channels they use."""
    data_set(tmp_path, dtype="uint16", suffix=".tif")
    path = tmp_path / "val" / "nir" / "000.tif"
    channel = read_image(path)[0][..., 0].copy()
    channel[:7] = 1
    write_image(path, channel, nodata=1)
    for place in (None, "none"):
        config = RunConfig(dataset=str(tmp_path), image_size=32, cache_dir=place)
        target = scan(config, ["nir"]).store("val", config).target(0)
        assert ((target == IGNORED) == (np.arange(32) < 7)[:, None]).all()


# Fit


@pytest.mark.parametrize("size", [32, 50])
def test_windows_cover_every_pixel_stay_inside_and_overlap(size: int) -> None:
    fit = Fit("crop", size)
    for height in range(size, 4 * size, 7):
        for width in (size, size + 1, 2 * size, 3 * size - 1):
            covered = np.zeros((height, width), int)
            windows = fit.windows(height, width)
            for top, left in windows:
                assert 0 <= top <= height - size
                assert 0 <= left <= width - size
                covered[top : top + size, left : left + size] += 1
            assert covered.min() >= 1
            assert len(set(windows)) == len(windows)
            for starts in zip(*windows, strict=True):
                steps = np.diff(sorted(set(starts)))
                assert (steps <= np.ceil(0.75 * size)).all()  # neighbours share what a border distorts
                assert len(steps) == 0 or steps.max() - steps.min() <= 1  # evenly spread
    assert fit.windows(size, size) == [(0, 0)]


def test_crops_reach_every_place() -> None:
    fit, random = Fit("crop", 32), np.random.default_rng(0)
    image = np.arange(34 * 33).reshape(34, 33)
    corners = {int(fit.crop(image[..., None], image, random)[1][0, 0]) for _ in range(200)}
    assert corners == {row * 33 + column for row in range(3) for column in range(2)}


@pytest.mark.parametrize("mode", ["resize", "crop", "pad"])
def test_fitting_gives_back_a_tile_of_the_right_size_itself(mode: str) -> None:
    image, target = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    fit = Fit(mode, 32)
    assert fit.pad_image(fit.keep_image(image)) is image
    assert fit.pad_target(fit.keep_mask(target), 255) is target


def test_a_very_long_tile_keeps_a_row_when_it_is_shrunk(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=2, val=1, size=(4, 400), channels=())
    for store in stores(tmp_path, fit="pad", image_size=32):
        assert store.image(0).shape == (32, 32, 3)


def test_what_is_kept_of_a_crop_serves_every_size() -> None:
    assert Fit("crop", 32).key == Fit("crop", 64).key
    assert len({Fit(mode, size).key for mode in ("resize", "pad", "crop") for size in (32, 64)}) == 5


@pytest.mark.parametrize(
    ("height", "width", "size"), [(64, 512, 64), (512, 64, 64), (48, 512, 64), (300, 1500, 512), (33, 4096, 512)]
)
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_the_side_that_shrinks_is_averaged_whatever_the_other_does(
    height: int, width: int, size: int, bands: int
) -> None:
    """White noise keeps, of its variance, at most one part for each pixel that is averaged."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, bands), dtype=np.uint8)
    kept = Fit("resize", size).keep_image(noise)
    assert kept.shape == (size, size, bands)
    averaged = max(1, height / size) * max(1, width / size)
    assert kept.std() < 1.1 * noise.std() / averaged**0.5
    assert abs(kept.mean() - noise.mean()) < 2
