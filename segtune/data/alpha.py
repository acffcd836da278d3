"""The band that an image declares as alpha: a mask of its transparent pixels, or a band like the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segtune.data.raster import Raster, opened
from segtune.values import Alpha

_LIKE_ALPHA = 0.9  # share of opaque or fully transparent pixels in an alpha band


@dataclass(frozen=True)
class AlphaBand:
    """The alpha band of a data set's images."""

    number: int  # counted from 1
    taken: Alpha  # "mask" or "band"


def alpha_taken(images: Iterable[Path]) -> AlphaBand | None:
    """Return what the alpha band of some images is by its values; None where none of them declares one.

    The band is transparency where most of its pixels are opaque or wholly transparent in each image. GDAL declares any
    fourth band of 8 bits in a GeoTIFF as alpha: that one is transparency only where some pixel is transparent.
    """
    number, transparent = None, False
    for path in images:
        with opened(path, "an image") as raster:
            if not raster.alpha:
                continue
            number = raster.alpha
            extreme, some = _extremes(raster, number)
            if extreme < _LIKE_ALPHA:
                return AlphaBand(number, "band")
            transparent = transparent or some or raster.source.driver != "GTiff"
    return AlphaBand(number, "mask" if transparent else "band") if number else None


def transparency(raster: Raster, alpha: Alpha, bands: int | None) -> int | None:
    """Return the number of the band that holds transparency, counted from 1; None where there is none."""
    band = raster.alpha
    if band is None or alpha == "band":
        return None
    if alpha == "auto" and bands is not None:
        return band if raster.bands != bands else None
    if alpha == "auto":
        extreme, some = _extremes(raster, band)
        return band if extreme >= _LIKE_ALPHA and (some or raster.source.driver != "GTiff") else None
    return band


def _extremes(raster: Raster, band: int) -> tuple[float, bool]:
    """Return the share of pixels that are opaque or fully transparent, and whether any pixel is fully transparent."""
    values = raster.source.read(band)
    opaque = (1, 255) if values.dtype.kind == "f" else (np.iinfo(values.dtype).max,)
    none = values == 0
    return float((none | np.isin(values, opaque)).mean()), bool(none.any())
