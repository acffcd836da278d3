"""Tiles that touch or overlap on the ground, directly or by others, are one patch."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.warp import transform as reproject

from segtune.data.footprints import Footprint, patches, read_footprints
from segtune.errors import InputError

SIDE = 16  # pixels
UTM = CRS.from_epsg(32633)


def tile(path: Path, transform: Affine | None, crs: CRS | None = UTM, **more: object) -> Path:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "width": SIDE, "height": SIDE, "crs": crs}
    with rasterio.open(path, "w", **profile, **({"transform": transform} if transform else {}), **more) as target:
        target.write(np.ones((1, SIDE, SIDE), dtype=np.uint8))
    return path


def at(column: float, row: float, pixel: float = 10.0) -> Affine:
    """The transform of a tile that begins so many pixels to the right of an origin and below it."""
    return Affine(pixel, 0, 500_000 + 10 * column, 0, -pixel, 5_000_000 - 10 * row)


def numbers(folder: Path, *transforms: Affine | None) -> list[int]:
    found = patches(read_footprints([tile(folder / f"{i}.tif", each) for i, each in enumerate(transforms)]))
    return [found.index(number) for number in found]  # the position of the patch's first tile


def test_tiles_that_touch_or_overlap_are_one_patch(tmp_path: Path) -> None:
    beside, corner, over = at(SIDE, 0), at(2 * SIDE, SIDE), at(2 * SIDE + 5, SIDE + 5)
    far, apart = at(100, 0), at(100 + SIDE + 2, 0)
    assert numbers(tmp_path, at(0, 0), far, beside, apart, corner, over) == [0, 1, 0, 3, 0, 0]


def test_rounding_in_files_separates_nothing_and_joins_nothing(tmp_path: Path) -> None:
    assert numbers(tmp_path, at(0, 0), at(SIDE + 0.2, 0), at(-SIDE - 1, 0)) == [0, 0, 2]


def test_the_same_place_at_another_date_is_the_same_patch(tmp_path: Path) -> None:
    assert numbers(tmp_path, at(0, 0), at(50, 0), at(0, 0), at(52, 3)) == [0, 1, 0, 1]


def test_turned_tiles_meet_where_their_outlines_do(tmp_path: Path) -> None:
    turned = at(0, 0) @ Affine.rotation(45)  # its box on the map is larger than its area
    beside, corner = turned @ Affine.translation(SIDE, 0), at(6, 4 - SIDE)
    assert numbers(tmp_path, turned, beside, corner) == [0, 0, 2]


def test_tiles_with_pixels_of_other_sizes_meet(tmp_path: Path) -> None:
    assert numbers(tmp_path, at(0, 0, 40), at(4 * SIDE, 3 * SIDE), at(4 * SIDE, 6 * SIDE)) == [0, 0, 2]


def test_other_systems_are_compared_on_the_ground_and_points_count(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 500_000 + 10 * c, 5_000_000 - 10 * r) for r in (0, SIDE) for c in (0, SIDE)]
    other = tile(tmp_path / "b.tif", at(0, 0), CRS.from_epsg(32634))
    images = [tile(tmp_path / "a.tif", at(0, 0)), other, tile(tmp_path / "c.tif", None, gcps=points)]
    found = patches(read_footprints(images))
    assert found[0] == found[2] != found[1]
    (x,), (y,) = reproject(UTM, CRS.from_epsg(4326), [500_080], [4_999_920])
    degrees = tile(tmp_path / "d.tif", Affine(1e-5, 0, x, 0, -1e-5, y), CRS.from_epsg(4326))
    assert len(set(patches(read_footprints([images[0], degrees])))) == 1


def test_a_tile_without_a_place_is_a_patch_of_its_own(tmp_path: Path) -> None:
    images = [tile(tmp_path / f"{i}.tif", transform, None) for i, transform in enumerate((None, None, at(0, 0)))]
    images.append(tile(tmp_path / "counted.tif", Affine(1, 0, 0, 0, -1, SIDE), None))
    found = read_footprints(images)
    assert [area is not None for area in found] == [False, False, True, False]
    assert len(set(patches(found))) == 4


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"II*\0 no image")
    with pytest.raises(InputError, match=r"x\.tif"):
        read_footprints([tmp_path / "x.tif"])


def test_a_set_without_places_is_not_opened_whole(tmp_path: Path) -> None:
    plain = tile(tmp_path / "plain.tif", None, None)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 no image")
    assert read_footprints([plain, broken, *([plain] * 50)]) == [None] * 52
    with pytest.raises(InputError, match=r"broken\.tif"):
        read_footprints([tile(tmp_path / "a.tif", at(0, 0)), broken, *([plain] * 50)])


def test_a_large_set_takes_seconds() -> None:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    found = [Footprint(UTM, 1.0 * corners + (i, j), 64) for i in range(100) for j in range(100) if j != 50]
    start = time.perf_counter()
    assert len(set(patches(found))) == 2
    assert time.perf_counter() - start < 20
