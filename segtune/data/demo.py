"""The built-in demo data set: synthetic aerial scenes with ponds, to try a search without own data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from segtune.data.demo_scene import WATER, draw_tile
from segtune.files.temporary import workplace

MIN_SIZE = 32
_SPLITS = ("train", "val")
CRS = "EPSG:32643"
PIXEL_M = 1.0
ORIGIN_M = (712_000.0, 1_433_000.0)  # easting, northing of the first training tile's upper left corner
_TILES_PER_ROW = 8


def unprogressed(done: int, total: int) -> None:
    """Take note of progress that nobody watches."""


def _write_tile(split_folder: Path, split: int, index: int, size: int, seed: int) -> None:
    """Draw one tile and write its four files."""
    image, classes = draw_tile(size, np.random.default_rng([seed, split, index]))
    row, column = divmod(index, _TILES_PER_ROW)
    extent = size * PIXEL_M
    # The validation tiles lie in a block of their own, east of the training tiles.
    easting = ORIGIN_M[0] + (column + split * (_TILES_PER_ROW + 2)) * extent
    transform = rasterio.Affine(PIXEL_M, 0, easting, 0, -PIXEL_M, ORIGIN_M[1] - row * extent)
    layers: dict[str, NDArray[np.uint8]] = {
        "images": image[..., :3],
        "nir": image[..., 3:],
        "gt": np.where(classes == WATER, 255, 0).astype(np.uint8)[..., None],
        "gt_classes": classes[..., None],
    }
    for name, pixels in layers.items():
        profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "width": size,
            "height": size,
            "compress": "deflate",
            "count": pixels.shape[2],
            "crs": CRS,
            "transform": transform,
            "interleave": "pixel",
            "photometric": "rgb" if pixels.shape[2] == 3 else "minisblack",
        }
        with rasterio.open(split_folder / name / f"tile_{index:04d}.tif", "w", **profile) as target:
            target.write(np.moveaxis(pixels, -1, 0))


def write_demo(
    folder: Path,
    train_tiles: int = 64,
    val_tiles: int = 24,
    size: int = 128,
    seed: int = 0,
    on_done: Callable[[int, int], None] = unprogressed,
) -> None:
    """Write the demo data set: georeferenced GeoTIFF tiles of `size` x `size` pixels of one metre.

    `folder`/train and `folder`/val each hold four folders with a tile_0000.tif, tile_0001.tif, ... a tile:

    - images: uint8, 3 bands, red, green, blue
    - nir: uint8, 1 band, near infrared (water dark, vegetation bright)
    - gt: uint8, 1 band, 255 = pond (water), 0 = anything else
    - gt_classes: uint8, 1 band, 0 other, 1 building, 2 field or vegetation, 3 water (the pixels of gt);
      fields count as 2 whether cropped or ploughed, open grassland as 0

    The same arguments give the same bytes, and a tile depends only on (size, seed, split, its number), so a
    smaller set is the beginning of a larger one. The set appears at `folder` whole or not at all. Raises
    FileExistsError when `folder` exists, ValueError for a count below one or a size below MIN_SIZE.
    `on_done` is called with the number of tiles drawn, and of all.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder} exists already; the demo data set is only written to a new folder")
    if min(train_tiles, val_tiles) < 1 or size < MIN_SIZE:
        raise ValueError(
            f"the demo needs at least one tile a split and tiles of {MIN_SIZE} pixels or more, "
            f"got train_tiles={train_tiles}, val_tiles={val_tiles}, size={size}"
        )
    with workplace(folder) as work:
        partial = work / "set"
        for split, (name, tiles) in enumerate(zip(_SPLITS, (train_tiles, val_tiles), strict=True)):
            for layer in ("images", "nir", "gt", "gt_classes"):
                (partial / name / layer).mkdir(parents=True)
            for index in range(tiles):
                _write_tile(partial / name, split, index, size, seed)
                on_done(split * train_tiles + index + 1, train_tiles + val_tiles)
        os.replace(partial, folder)
