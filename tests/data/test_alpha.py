"""The band that a file declares as alpha: transparency, or a band like the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image

from segtune.config import RunConfig
from segtune.data.alpha import AlphaBand, alpha_taken
from segtune.data.reading import read_image
from segtune.data.scan import scan
from segtune.data.tiles import ReadSettings
from tests.data.files import SHAPE, noise, profile


def alpha_file(path: Path, alpha: npt.NDArray[Any]) -> Path:
    """A picture of three colours and this alpha band, (H, W)."""
    pixels = np.dstack([noise(), alpha.astype(np.uint8)])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        with rasterio.open(path, "w", **profile(4), photometric="rgb", alpha="yes") as target:
            target.write(pixels.transpose(2, 0, 1))
    return path


OPAQUE = np.full(SHAPE, 255)
HALF = np.where(np.arange(SHAPE[1]) < 8, 0, OPAQUE)
INFRARED = noise(4)[..., 3]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("alpha", "taken"), [(HALF, "mask"), (INFRARED, "band")])
def test_alpha_is_what_its_values_say(tmp_path: Path, suffix: str, alpha: npt.NDArray[Any], taken: str) -> None:
    path = alpha_file(tmp_path / f"a{suffix}", alpha)
    image, valid = read_image(path)
    assert image.shape[2] == (4 if taken == "band" else 3)
    np.testing.assert_array_equal(valid, (alpha > 0) | (taken == "band"))
    assert alpha_taken([path]) == AlphaBand(4, taken)


@pytest.mark.parametrize(("suffix", "bands"), [(".png", 3), (".tif", 4)])
def test_alpha_that_is_opaque_everywhere_stays_a_band_of_a_geotiff(tmp_path: Path, suffix: str, bands: int) -> None:
    assert read_image(alpha_file(tmp_path / f"a{suffix}", OPAQUE))[0].shape[2] == bands


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_setting_and_a_number_of_bands_decide_before_values(tmp_path: Path, suffix: str) -> None:
    path = alpha_file(tmp_path / f"a{suffix}", HALF)
    assert read_image(path, ReadSettings(alpha="band"))[0].shape[2] == 4
    assert read_image(path, ReadSettings(bands=4))[0].shape[2] == 4
    assert read_image(path, ReadSettings(bands=3))[0].shape[2] == 3
    infrared = alpha_file(tmp_path / f"b{suffix}", INFRARED)
    assert read_image(infrared, ReadSettings(alpha="mask"))[0].shape[2] == 3


def test_a_data_set_takes_alpha_for_one_thing_and_says_so(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number, alpha in enumerate([HALF, OPAQUE]):
            alpha_file(tmp_path / split / "images" / f"{number}.tif", alpha)
            (tmp_path / split / "gt").mkdir(parents=True, exist_ok=True)
            labels = np.where(noise(1)[..., 0] > 99, 255, 0).astype(np.uint8)
            Image.fromarray(labels).save(tmp_path / split / "gt" / f"{number}.png")
    for alpha, bands, lines in (("auto", 3, 1), ("auto", 3, 1), ("band", 4, 0), ("mask", 3, 0)):
        said: list[str] = []
        config = RunConfig(dataset=str(tmp_path), alpha=alpha, image_size=32)
        info = scan(config, say=said.append)
        assert len(info.bands) == bands
        assert len([line for line in said if "declared as alpha" in line]) == lines
        assert info.store("val", config).image(1).shape[2] == bands
        assert scan(config.model_copy(update={"cache_dir": "none"})).store("val", config).image(1).shape[2] == bands
