"""The files of a tile lie at one place on the ground, or the mistake names both and the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from segtune.config import RunConfig
from segtune.data.alignment import check_georeferences
from segtune.data.scan import scan
from segtune.data.tiles import Tile
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_600_000)
SOUTH_UP = Affine(10, 0, 500_000, 0, 10, 4_600_000 - 320)
HERE = {"crs": "EPSG:32633", "transform": NORTH_UP}


def tile_of(root: Path, write_image: WriteImage, image: dict[str, Any], **others: dict[str, Any]) -> Tile:
    """A tile whose files have these profiles."""
    paths = {
        name: write_image(root / name / "a.tif", np.zeros((32, 48), np.uint8), **profile)
        for name, profile in {"image": image, "mask": image, **others}.items()
    }
    return Tile("a", paths.pop("image"), paths.pop("mask"), tuple(paths.values()))


@pytest.mark.parametrize("file", ["mask", "nir"])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"crs": "EPSG:32634"}, "its CRS is EPSG:32634, and that one's EPSG:32633"),
        ({"crs": "EPSG:4326"}, "its CRS is EPSG:4326, and that one's EPSG:32633"),
        ({"transform": NORTH_UP @ Affine.translation(20, 0)}, "20 pixels to the right of there and 0 below"),
        ({"transform": NORTH_UP @ Affine.translation(0, -1)}, "0 pixels to the right of there and -1 below"),
        ({"transform": NORTH_UP @ Affine.translation(0.5, 0.5)}, "0.5 pixels to the right of there and 0.5 below"),
        ({"transform": NORTH_UP @ Affine.scale(2)}, "its pixels are 20 x 20, and that one's 10 x 10"),
        ({"transform": SOUTH_UP}, "its rows begin in the south, and that one's in the north"),
        ({"transform": NORTH_UP @ Affine.rotation(10)}, "its axes are turned"),
        ({"crs": None, "transform": NORTH_UP @ Affine.translation(3, 0)}, "3 pixels to the right"),
    ],
)
def test_a_file_that_lies_elsewhere_is_named_with_the_difference(
    tmp_path: Path, write_image: WriteImage, file: str, other: dict[str, Any], said: str
) -> None:
    tile = tile_of(tmp_path, write_image, HERE, **{file: HERE | other})
    with pytest.raises(InputError) as caught:
        check_georeferences(tile)
    (text,) = caught.value.mistakes
    assert text.startswith(f"{tmp_path / file / 'a.tif'}: does not lie where {tile.image} does: ")
    assert said in text


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (HERE, HERE),
        (HERE, {}),
        ({}, HERE),
        ({}, {}),
        (HERE, {"transform": NORTH_UP}),
        (HERE, HERE | {"transform": Affine(10 + 1e-9, 0, 500_000.0004, 0, -10, 4_600_000 - 1e-3)}),
        (HERE, {"crs": None, "transform": Affine(1, 0, 0, 0, -1, 32)}),  # it counts pixels from below
        (HERE | {"transform": SOUTH_UP}, HERE | {"transform": SOUTH_UP}),
        (HERE, HERE | {"crs": "EPSG:25833"}),  # the same ground to a metre
    ],
)
def test_rounding_and_files_without_a_georeference_are_no_contradiction(
    tmp_path: Path, write_image: WriteImage, image: dict[str, Any], mask: dict[str, Any]
) -> None:
    check_georeferences(tile_of(tmp_path, write_image, image, mask=mask, nir=image))


def test_a_scan_refuses_what_contradicts_and_takes_a_png_beside_a_geotiff(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    data_set(tmp_path, size=(32, 48), channels=())
    image = write_image(tmp_path / "val" / "images" / "001.tif", np.full((32, 48, 3), 9, np.uint8), **HERE)
    image.with_suffix(".png").unlink()
    config = RunConfig(dataset=str(tmp_path))
    scan(config)
    mask = write_image(tmp_path / "val" / "gt" / "001.tif", np.zeros((32, 48), np.uint8), crs="EPSG:32733")
    mask.with_suffix(".png").unlink()
    scan(config)  # it has no place, only a reference system
    write_image(mask, np.zeros((32, 48), np.uint8), crs="EPSG:32733", transform=NORTH_UP)
    with pytest.raises(InputError, match="its CRS is EPSG:32733"):
        scan(config)


def test_a_world_file_beside_a_mask_says_where_it_lies(tmp_path: Path, write_image: WriteImage) -> None:
    image = write_image(tmp_path / "image" / "a.tif", np.zeros((32, 48), np.uint8), **HERE)
    mask = write_image(tmp_path / "mask" / "a.png", np.zeros((32, 48), np.uint8))
    tile = Tile("a", image, mask, ())
    world = mask.with_suffix(".pgw")
    world.write_text("10\n0\n0\n-10\n500005\n4599995\n")  # of the first pixel's centre
    check_georeferences(tile)
    world.write_text("10\n0\n0\n-10\n500035\n4599995\n")
    with pytest.raises(InputError, match=r"a\.png: does not lie where .*a\.tif does: it lies 3 pixels to the right"):
        check_georeferences(tile)
