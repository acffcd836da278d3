"""Statistics of the input's bands: those of the valid pixels of the training tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segtune.data.reading import read_image
from tests.conftest import WriteDataSet, WriteImage
from tests.data.stores import mistakes, scanned

NODATA = {"uint8": 0, "uint16": 65535, "int16": -9999, "float32": -1.0}


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
