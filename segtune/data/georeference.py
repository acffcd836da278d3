"""The georeference of a file: a transform, ground control points or rational polynomials (RPC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio import Affine, DatasetReader, Env
from rasterio._err import CPLE_BaseError  # errors of PROJ that rasterio does not wrap
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.rpc import RPC
from rasterio.transform import GCPTransformer
from rasterio.warp import transform as reproject

_AXIS, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # of the Earth's ellipsoid (WGS 84), in metres
_TRUE = 0.02  # an area on a map that differs by less from that on the ground is taken as it is

Points = npt.NDArray[np.float64]  # (N, 2)


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

    def resolution(self, height: int, width: int) -> float | None:
        """Return the metres per pixel in the middle of an image of this size; None where place or unit is not known.

        It is the side of a square of the same area, where a pixel is not square on the ground.
        """
        areas = self.pixel_areas(np.array([[width / 2, height / 2]]), height)
        return float(areas[0] ** 0.5) if areas is not None and areas[0] > 0 else None

    def pixel_sides(self, height: int, width: int) -> tuple[float, float] | None:
        """Return how wide and how high a pixel in the middle is on the ground, in metres; None where not known."""
        steps = self._steps(np.array([[width / 2, height / 2]]), height)
        if steps is None:
            return None
        across, down = np.linalg.norm(steps[1][0], axis=1).tolist()
        return (across, down) if across > 0 and down > 0 else None

    def pixel_areas(self, points: Points, height: int) -> Points | None:
        """Return how many square metres, (N,), a pixel at each point covers; None where place or unit is not known.

        `points` are columns and rows. In a projected system whose scale is true within 1%, such as UTM, this is the
        area on the map. Elsewhere it is the area on the ellipsoid: a pixel of the Web Mercator of web maps covers a
        quarter at a latitude of 60 degrees.
        """
        steps = self._steps(points, height)
        if steps is None or self.crs is None:
            return None
        on_map, on_ground = (np.abs(np.linalg.det(found)) for found in steps)
        if self.crs.is_geographic:
            return on_ground
        on_map = on_map * self.crs.linear_units_factor[1] ** 2
        far = np.abs(on_ground - on_map) > _TRUE * on_map
        return np.where(far, on_ground, on_map)

    def on_map(self, points: Points) -> Points | None:
        """Return the coordinates in `crs` of points in pixels, (column, row); None where they are not known."""
        if self.gcps:
            try:
                with Env(), GCPTransformer(self.gcps) as transformer:  # as gdalwarp does
                    return np.stack(transformer.xy(points[:, 1], points[:, 0], offset="ul"), axis=1)
            except (RasterioError, CPLE_BaseError):  # too few points, or all on one line
                return None
        if self.transform is None or self.transform.is_degenerate:
            return None
        a, b, c, d, e, f = self.transform[:6]
        return points @ np.array([[a, d], [b, e]]) + np.array([c, f])

    def located(self, height: int) -> bool:
        """Return whether `on_map` knows more of an image of this height than a count of its pixels."""
        counted = self.transform is not None and counts_pixels(self.transform, height)
        return not counted and self.on_map(np.zeros((1, 2))) is not None

    def _steps(self, points: Points, height: int) -> tuple[Points, Points] | None:
        """Return where one column and one row lead at points, (N, 2, 2), on the map and in metres on the ground."""
        if self.crs is None or not (self.crs.is_geographic or self.crs.is_projected) or not self.located(height):
            return None
        ends = np.concatenate([points + half for half in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))])
        places = self.on_map(ends)
        if places is None:
            return None
        left, right, top, bottom = places.reshape(4, -1, 2)
        on_map = np.stack([right - left, bottom - top], axis=1)
        if self.transform is not None and not self.gcps:  # without the rounding of large coordinates
            a, b, _, d, e, _ = self.transform[:6]
            on_map[:] = [[a, d], [b, e]]
        try:
            with Env():
                found = reproject(self.crs, CRS.from_epsg(4326), places[:, 0], places[:, 1])
        except (RasterioError, CPLE_BaseError):  # outside of the reach of the projection
            return None
        left, right, top, bottom = np.stack(found, axis=1).reshape(4, -1, 2)
        degrees = np.stack([right - left, bottom - top], axis=1)
        degrees[..., 0] = (degrees[..., 0] + 180) % 360 - 180
        return on_map, np.radians(degrees) * _radii((top[:, 1] + bottom[:, 1]) / 2)[:, None]

    def known(self, height: int) -> bool:
        """Return whether the place of an image of this height is known, not only a count of its pixels."""
        return bool(self.gcps or self.rpcs or (self.transform and not counts_pixels(self.transform, height)))


def read_place(source: DatasetReader) -> Place:
    """Read the place of an open file: that of its pixels as they are stored."""
    gcps, crs = source.gcps
    transform = source.transform
    return Place(
        crs=(crs if gcps else source.crs) or None,
        # Files without a transform have the identity.
        transform=None if gcps or transform == Affine.identity() else transform,
        gcps=tuple(gcps),
        rpcs=source.rpcs,
    )


def counts_pixels(transform: Affine, height: int) -> bool:
    """Return whether a transform only counts pixels, from the top or, as some programs do, from the bottom."""
    a, b, c, d, e, f = transform[:6]
    return (a, b, c, d) == (1, 0, 0, 0) and (e, f) in ((1, 0), (-1, 0), (-1, height))


def _radii(latitudes: Points) -> Points:
    """Return the metres per radian of longitude and of latitude, (N, 2), at latitudes in degrees, (N,)."""
    squared = _FLATTENING * (2 - _FLATTENING)  # of the eccentricity
    sine, cosine = np.sin(np.radians(latitudes)), np.cos(np.radians(latitudes))
    root = np.sqrt(1 - squared * sine**2)
    return np.stack([_AXIS / root * cosine, _AXIS * (1 - squared) / root**3], axis=1)
