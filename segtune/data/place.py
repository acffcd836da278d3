"""Where a tile lies on the ground: by a transform, ground control points or a sensor's polynomials (RPC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from segtune.data.formats import Orientation
from segtune.data.raster import Raster


@dataclass(frozen=True)
class Place:
    """The georeference of an image as it is shown, of whatever kind its file, or one beside it, has."""

    crs: CRS | None
    transform: Affine | None
    gcps: tuple[GroundControlPoint, ...]
    rpcs: RPC | None

    @property
    def profile(self) -> dict[str, Any]:
        """The keywords by which rasterio writes it."""
        found = {"crs": self.crs, "transform": self.transform, "gcps": self.gcps, "rpcs": self.rpcs}
        return {name: value for name, value in found.items() if value}


def read_place(raster: Raster) -> Place:
    """Read where an open file lies."""
    source, shown = raster.source, _shown(raster)
    gcps, crs = source.gcps
    return Place(
        crs=(crs if gcps else source.crs) or None,
        # The identity is what a file without a transform has.
        transform=None if gcps or source.transform == Affine.identity() else source.transform @ ~shown,
        gcps=tuple(_point(point, shown) for point in gcps),
        rpcs=source.rpcs and _polynomials(source.rpcs, raster.orientation, shown),
    )


def _shown(raster: Raster) -> Affine:
    """From the (column, row) of stored pixels to that of shown ones."""
    turn, (height, width) = raster.orientation, raster.size
    shown = Affine(0, 1, 0, 1, 0, 0) if turn.swapped else Affine.identity()
    shown = Affine(1, 0, 0, 0, -1, height) @ shown if turn.rows_back else shown
    return Affine(-1, 0, width, 0, 1, 0) @ shown if turn.columns_back else shown


def _point(point: GroundControlPoint, shown: Affine) -> GroundControlPoint:
    column, row = shown @ (point.col, point.row)
    return GroundControlPoint(row, column, point.x, point.y, point.z, point.id, point.info)


def _polynomials(rpcs: RPC, turn: Orientation, shown: Affine) -> RPC:
    """The polynomials of a picture that is shown turned: lines and samples change places, or run backwards."""
    parts = rpcs.to_dict()
    column, row = shown @ (rpcs.samp_off + 0.5, rpcs.line_off + 0.5)  # theirs are the pixels' centres
    turned = {"samp_off": column - 0.5, "line_off": row - 0.5}
    for name, other, back in (("line", "samp", turn.rows_back), ("samp", "line", turn.columns_back)):
        origin = other if turn.swapped else name
        turned[f"{name}_scale"] = parts[f"{origin}_scale"]
        turned[f"{name}_den_coeff"] = parts[f"{origin}_den_coeff"]
        turned[f"{name}_num_coeff"] = [-number if back else number for number in parts[f"{origin}_num_coeff"]]
    return RPC(**parts | turned)
