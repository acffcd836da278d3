"""Write tiles as GeoTIFF at their place on the ground."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from segtune.data.georeference import Place
from segtune.data.reading import Valid
from segtune.tools.layers import Form, Pixels


def place_of_tile(scene: Place, top: int, left: int) -> Place:
    """Return the place of a tile that begins at this row and column of a scene."""
    gcps = tuple(
        GroundControlPoint(point.row - top, point.col - left, point.x, point.y, point.z, point.id, point.info)
        for point in scene.gcps
    )
    rpcs = copy.copy(scene.rpcs)
    if rpcs:
        rpcs.line_off, rpcs.samp_off = rpcs.line_off - top, rpcs.samp_off - left
    transform = scene.transform and scene.transform @ Affine.translation(left, top)
    return replace(scene, transform=transform, gcps=gcps, rpcs=rpcs)


def write_tile(path: Path, pixels: Pixels, valid: Valid, form: Form, place: Place) -> None:
    """Write the pixels of a tile, (bands, H, W), and which of them hold data, (H, W), where values do not tell that."""
    bands, height, width = pixels.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "compress": "deflate",
        "interleave": "pixel",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": form.dtype,
        "nodata": form.nodata,
        # Left to itself, GDAL makes the fourth of four uint8 bands transparency.
        "photometric": "rgb" if form.rgb else "palette" if form.palette else "minisblack",
        "alpha": "yes" if form.alpha == bands else "no",
    }
    with rasterio.open(path, "w", **profile, **place.profile) as target:
        if form.palette:
            target.write_colormap(1, form.palette)
        if any(form.descriptions):
            target.descriptions = form.descriptions
        target.write(pixels)
        if not np.array_equal(valid, form.seen(pixels)):
            target.write_mask(valid)
