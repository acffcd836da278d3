"""Draw annotated objects as a mask of labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.features import rasterize

from segtune.tools.annotations import Points, Runs, Shape

Mask = npt.NDArray[Any]  # uint8 or uint16


def draw(
    shapes: Iterable[Shape], labels: Mapping[str, int], height: int, width: int, smaller_on_top: bool = False
) -> Mask:
    """Return a mask, (height, width), of the labels of objects; 0 where there is none.

    A pixel belongs to a polygon if its centre lies inside. Later objects cover earlier ones; with `smaller_on_top`,
    smaller ones cover larger ones, whatever their order.
    """
    mask: Mask = np.zeros((height, width), np.uint8 if max(labels.values(), default=0) < 256 else np.uint16)
    order = sorted(shapes, key=lambda shape: -shape.area) if smaller_on_top else shapes
    for shape in order:
        if shape.runs:
            _paste(mask, shape.runs, labels[shape.name])
        for polygon in shape.polygons:
            _fill(mask, polygon, labels[shape.name])
    return mask


def _fill(mask: Mask, polygon: tuple[Points, ...], label: int) -> None:
    """Give the pixels of a polygon, an outline and its holes, a label."""
    height, width = mask.shape
    left, top = np.clip(np.floor(polygon[0].min(axis=0)).astype(int), 0, (width, height)).tolist()
    right, bottom = np.clip(np.ceil(polygon[0].max(axis=0)).astype(int), 0, (width, height)).tolist()
    if right <= left or bottom <= top:
        return
    rings = [[*ring.tolist(), ring[0].tolist()] for ring in polygon]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": rings}
    inside = rasterize(
        [(geometry, 1)],
        out_shape=(bottom - top, right - left),
        transform=Affine.translation(left, top),
        dtype="uint8",
    )
    mask[top:bottom, left:right][inside > 0] = label


def _paste(mask: Mask, runs: Runs, label: int) -> None:
    """Give the pixels of runs a label; what lies outside of the image is cut off."""
    height, width = mask.shape
    left, top = max(runs.left, 0), max(runs.top, 0)
    right, bottom = min(runs.left + runs.width, width), min(runs.top + runs.height, height)
    if right <= left or bottom <= top:
        return
    inside = runs.pixels()[top - runs.top : bottom - runs.top, left - runs.left : right - runs.left]
    mask[top:bottom, left:right][inside] = label
