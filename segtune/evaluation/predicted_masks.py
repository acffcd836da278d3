"""Write predicted masks as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from segtune.data.listing import FACTS
from segtune.data.raster import alone, beside, opened
from segtune.data.tiles import Tile
from segtune.files.atomic import replaced_file

Mask = npt.NDArray[np.integer]


def write_mask(folder: Path, tile: Tile, mask: Mask) -> Path:
    """Write a predicted mask, (H, W), under the tile's name and with the tile's georeference; return its path.

    The file is a GeoTIFF if the tile's image is one or if PNG cannot hold the mask's type, else a PNG. The
    georeference of a PNG is in a file beside it, with .aux.xml after its name.
    """
    tiff = tile.image.suffix.lower() in (".tif", ".tiff") or mask.dtype not in (np.uint8, np.uint16)
    path = folder / f"{tile.name}{'.tif' if tiff else '.png'}"
    profile: dict[str, Any] = {"driver": "GTiff", "compress": "deflate"} if tiff else {"driver": "PNG"}
    height, width = mask.shape
    profile |= {"height": height, "width": width, "count": 1, "dtype": mask.dtype}
    with opened(tile.image, "an image", place=True) as raster:
        profile |= raster.place.profile
    with replaced_file(path) as temporary:
        with alone(), rasterio.open(temporary, "w", **profile) as target:
            target.write(mask, 1)
        facts = beside(temporary, FACTS)
        if facts.exists():
            os.replace(facts, beside(path, FACTS))
    return path
