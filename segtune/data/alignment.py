"""Check that the files of a tile lie at the same place on the ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot, isfinite
from pathlib import Path

from affine import Affine
from rasterio._err import CPLE_BaseError  # errors of PROJ that rasterio does not wrap
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as reproject

from segtune.data.georeference import counts_pixels
from segtune.data.raster import Raster, opened
from segtune.data.tiles import Tile
from segtune.errors import InputError, one_line

_ROUNDING = 0.25  # pixels; smaller differences of corners come from rounding in the files

_Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Georeference:
    """Where a file lies on the ground, by its own metadata."""

    crs: CRS | None
    transform: Affine  # from pixels to the ground
    height: int
    width: int

    def corners(self) -> _Points:
        """Return the corners (x, y) of the array in pixels: upper left, upper right, lower left, lower right."""
        return [(x, y) for y in (0, self.height) for x in (0, self.width)]


def check_georeferences(tile: Tile) -> None:
    """Raise InputError where a tile's mask or channels, of the image's size, lie elsewhere than the image."""
    others = {path: read_georeference(path) for path in (tile.mask, *tile.channels)}
    if any(others.values()):
        compare(tile.image, read_georeference(tile.image), others)


def compare(path: Path, image: Georeference | None, others: Mapping[Path, Georeference | None]) -> None:
    """Raise InputError where one of the other files of a tile lies elsewhere than its image, the file `path`.

    None stands for a file without a georeference, which cannot contradict.
    """
    for other, found in others.items():
        if image and found and (differing := difference(image, found)):
            raise InputError(
                f"{other}: does not lie where {path} does: {differing}; align the two, or remove the georeference "
                f"that is wrong"
            )


def read_georeference(path: Path) -> Georeference | None:
    """Read the georeference of a file; None where it has none, InputError where the file cannot be read."""
    with opened(path, "an image", place=True) as raster:
        return georeference_of(raster)


def georeference_of(raster: Raster) -> Georeference | None:
    """Return the georeference of a file that was opened with its place; None where it has none."""
    place = raster.place
    height, width = raster.size
    transform = place.transform
    if transform is None or transform.is_degenerate or counts_pixels(transform, height):
        return None
    return Georeference(place.crs, transform, height, width)


def difference(image: Georeference, other: Georeference) -> str | None:
    """Describe where another file of a tile lies otherwise than its image; None where that is only rounding."""
    same_crs = image.crs is None or other.crs is None or image.crs == other.crs
    if same_crs and (image.transform, image.height, image.width) == (other.transform, other.height, other.width):
        return None
    places = [other.transform @ corner for corner in other.corners()]
    if not same_crs:
        places = _reprojected(places, other.crs, image.crs)
    if not places:
        return _systems(image, other)
    seen = [~image.transform @ place for place in places]
    right, down = max(
        ((x - column, y - row) for (x, y), (column, row) in zip(seen, image.corners(), strict=True)),
        key=lambda offset: hypot(*offset),
    )
    if hypot(right, down) <= _ROUNDING:
        return None
    if not same_crs:
        return _systems(image, other)
    if (other.transform.e > 0) != (image.transform.e > 0):
        begins = {True: "in the south", False: "in the north"}
        return f"its rows begin {begins[other.transform.e > 0]}, and that one's {begins[image.transform.e > 0]}"
    turned = [f"{found.transform.b:.10g} {found.transform.d:.10g}" for found in (other, image)]
    if turned[0] != turned[1]:
        return "its axes are turned against that one's"
    sizes = [f"{found.transform.a:.10g} x {-found.transform.e:.10g}" for found in (other, image)]
    if sizes[0] != sizes[1]:
        return f"its pixels are {sizes[0]}, and that one's {sizes[1]}"
    return f"it lies {right:.4g} pixels to the right of there and {down:.4g} below"


def _reprojected(places: _Points, source: CRS, target: CRS) -> _Points:
    """Reproject points to another CRS; empty where one of them lies outside of its reach."""
    try:
        xs, ys = reproject(source, target, [x for x, _ in places], [y for _, y in places])
    except (RasterioError, CPLE_BaseError):
        return []
    return list(zip(xs, ys, strict=True)) if all(map(isfinite, (*xs, *ys))) else []


def _systems(image: Georeference, other: Georeference) -> str:
    return f"its CRS is {_name(other)}, and that one's {_name(image)}"


def _name(found: Georeference) -> str:
    return one_line(found.crs.to_string()) if found.crs else "none"
