"""The georeference of a file: a transform, ground control points or rational polynomials (RPC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rasterio import Affine, DatasetReader
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

_METRES_PER_DEGREE = 111_195.0  # of latitude, on a sphere of the Earth's mean radius


@dataclass(frozen=True)
class Place:
    """The georeference of an image, of any kind, from its file or from one beside it."""

    crs: CRS | None
    transform: Affine | None
    gcps: tuple[GroundControlPoint, ...]
    rpcs: RPC | None

    @property
    def profile(self) -> dict[str, Any]:
        """The keywords for rasterio that write this place."""
        found = {"crs": self.crs, "transform": self.transform, "gcps": self.gcps, "rpcs": self.rpcs}
        return {name: value for name, value in found.items() if value}

    def resolution(self, height: int) -> float | None:
        """Return the metres per pixel of an image of this height; None where its place or the unit is not known."""
        if self.transform is None or self.crs is None or counts_pixels(self.transform, height):
            return None
        a, b, _, d, e, _ = self.transform[:6]
        side = abs(a * e - b * d) ** 0.5
        if self.crs.is_geographic:
            return abs(e) * _METRES_PER_DEGREE  # from north to south, where a degree has the same length everywhere
        return side * self.crs.linear_units_factor[1] if self.crs.is_projected else None

    def known(self, height: int) -> bool:
        """Return whether the place of an image of this height is known, not only a count of its pixels."""
        return bool(self.gcps or self.rpcs or (self.transform and not counts_pixels(self.transform, height)))


def read_place(source: DatasetReader) -> Place:
    """Read the place of an open file: that of its pixels as they are stored."""
    gcps, crs = source.gcps
    return Place(
        crs=(crs if gcps else source.crs) or None,
        # Files without a transform have the identity.
        transform=None if gcps or source.transform == Affine.identity() else source.transform,
        gcps=tuple(gcps),
        rpcs=source.rpcs,
    )


def counts_pixels(transform: Affine, height: int) -> bool:
    """Return whether a transform only counts pixels, from the top or, as some programs do, from the bottom."""
    a, b, c, d, e, f = transform[:6]
    return (a, b, c, d) == (1, 0, 0, 0) and (e, f) in ((1, 0), (-1, 0), (-1, height))
