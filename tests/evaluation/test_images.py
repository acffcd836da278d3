"""An open data set of rasterio is read as its file is read by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from segtune.errors import InputError
from segtune.evaluation.images import ImageLike, image_source
from tests.evaluation.scenes import manifest, picture, write_scene

NIR = manifest(channels=("nir",))


def bands(image: ImageLike) -> Any:
    """Return what a model of three bands and nir reads, (H, W, 4)."""
    with image_source(image, NIR) as source:
        sources, _ = source.read(((0, source.height), (0, source.width)))
    return np.dstack(sources)


def rgba(path: Path, alpha: Any) -> Path:
    """Write an image whose fourth band is declared as alpha."""
    pixels = np.dstack([picture(20, 30), alpha])
    return write_scene(path, pixels, photometric="RGB", alpha="yes")


@pytest.mark.parametrize("alpha", ["opaque", "values"])
def test_alpha_is_no_channel_where_the_channel_lies_beside(tmp_path: Path, alpha: str) -> None:
    fourth = np.full((20, 30), 255, np.uint8) if alpha == "opaque" else picture(20, 30, 1, seed=5)[..., 0]
    path = rgba(tmp_path / "scene.tif", fourth)
    write_scene(tmp_path / "scene_nir.tif", np.full((20, 30, 1), 7, np.uint8))
    by_path = bands(path)
    assert (by_path[..., 3] == 7).all()
    with rasterio.open(path) as opened:
        assert opened.colorinterp[3] == ColorInterp.alpha
        assert np.array_equal(bands(opened), by_path)


def test_transparency_is_no_channel_where_there_is_none(tmp_path: Path) -> None:
    clear = np.where(np.arange(30) < 9, 0, 255).astype(np.uint8)[None].repeat(20, axis=0)
    path = rgba(tmp_path / "scene.tif", clear)
    with rasterio.open(path) as opened, pytest.raises(InputError, match="needs its channel nir"):
        bands(opened)
    with MemoryFile(path.read_bytes()) as memory, memory.open() as opened, pytest.raises(InputError, match="nir"):
        bands(opened)


def test_a_fourth_band_that_holds_values_is_the_channel(tmp_path: Path) -> None:
    """GDAL declares any fourth band of 8 bits as alpha, near infrared too."""
    fourth = picture(20, 30, 1, seed=5)[..., 0]
    with rasterio.open(rgba(tmp_path / "scene.tif", fourth)) as opened:
        assert np.array_equal(bands(opened)[..., 3], fourth)
