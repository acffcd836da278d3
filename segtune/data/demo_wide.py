"""A wide demo scene: one georeferenced image with near infrared, and the outlines of its buildings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import features
from rasterio.warp import transform_geom
from rasterio.windows import Window

from segtune.data.demo import CRS, ORIGIN_M, PIXEL_M, unprogressed
from segtune.data.demo_scene import BUILDING, draw_tile

SCENE, NIR, OUTLINES = "scene.tif", "scene_nir.tif", "buildings.geojson"
_BLOCK = 256  # pixels of the side of a block of GeoTIFF
_SCENE = 2  # seeds of parts; 0 and 1 are those of the tiles of train/ and val/
_DIGITS = 9  # of degrees in GeoJSON: a tenth of a millimetre


def write_wide_scene(
    folder: Path,
    rows: int,
    columns: int,
    size: int = 128,
    seed: int = 0,
    on_done: Callable[[int, int], None] = unprogressed,
) -> int:
    """Write a scene of `rows` x `columns` parts of `size` x `size` pixels of one metre; return the number of buildings.

    - scene.tif: uint8, red, green, blue
    - scene_nir.tif: uint8, near infrared
    - buildings.geojson: the outline of each building along its pixels, in longitude and latitude, with its area in
      square metres; an outline holds exactly the pixels that are building in the drawing

    The parts are drawn one by one, as tiles of the demo data set are: what lies across their borders does not go on.
    The same arguments give the same pixels. `folder` must exist. `on_done` is called with the parts drawn, and all.
    """
    height, width = rows * size, columns * size
    buildings = np.zeros((height, width), np.uint8)
    transform = rasterio.Affine(PIXEL_M, 0, ORIGIN_M[0], 0, -PIXEL_M, ORIGIN_M[1])
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": "uint8",
        "width": width,
        "height": height,
        "compress": "deflate",
        "crs": CRS,
        "transform": transform,
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
    }
    with (
        rasterio.open(folder / SCENE, "w", count=3, photometric="rgb", **profile) as image,
        rasterio.open(folder / NIR, "w", count=1, **profile) as nir,
    ):
        for row in range(rows):
            strip = np.empty((size, width, 4), np.uint8)
            for column in range(columns):
                part = slice(column * size, (column + 1) * size)
                random = np.random.default_rng([seed, _SCENE, row, column])
                strip[:, part], classes = draw_tile(size, random)
                buildings[row * size : (row + 1) * size, part] = classes == BUILDING
                on_done(row * columns + column + 1, rows * columns)
            window = Window(0, row * size, width, size)
            image.write(np.moveaxis(strip[..., :3], -1, 0), window=window)
            nir.write(strip[..., 3], 1, window=window)
    found = list(_outlines(buildings, transform))
    content = {"type": "FeatureCollection", "name": "buildings", "features": found}
    (folder / OUTLINES).write_text(json.dumps(content) + "\n", encoding="utf-8")
    return len(found)


def _outlines(buildings: NDArray[np.uint8], transform: rasterio.Affine) -> Iterator[dict[str, Any]]:
    """Yield the features of GeoJSON, which is always in longitude and latitude (RFC 7946)."""
    for number, (shape, _) in enumerate(features.shapes(buildings, buildings > 0, transform=transform), start=1):
        yield {
            "type": "Feature",
            "properties": {"id": number, "class": "building", "area_m2": _area(shape["coordinates"])},
            "geometry": transform_geom(CRS, "EPSG:4326", shape, precision=_DIGITS),
        }


def _area(rings: list[list[tuple[float, float]]]) -> float:
    """Return the area inside the first ring and outside the others, by the shoelace formula."""
    areas = []
    for ring in rings:
        x, y = np.transpose(ring)
        areas.append(abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2)
    return areas[0] - sum(areas[1:])
