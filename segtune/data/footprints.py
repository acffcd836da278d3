"""Where tiles lie on the ground, and which of them overlap, touch or show the same place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from rasterio._err import CPLE_BaseError  # errors of PROJ that rasterio does not wrap
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as reproject
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segtune.data.raster import Raster, opened
from segtune.data.threads import reading_threads
from segtune.machine import available_cpus

_SAME = 0.5  # share of the smaller footprint from which two tiles show the same place
_NEAR = 0.1  # of a tile's side: a gap up to twice this makes neighbours
_TOUCH = 0.5  # pixels: a smaller gap between tiles comes from rounding in their files
_SAMPLED = 16  # images that tell whether a set is georeferenced
_COMMON = CRS.from_epsg(4326)  # in which places are compared when tiles have different systems

Relation = Literal["same", "overlap", "near"]
Ring = npt.NDArray[np.float64]  # corners in order around the tile, (4, 2)


@dataclass(frozen=True)
class Footprint:
    """The corners of a tile on the ground, in its own coordinate system."""

    crs: CRS | None
    ring: Ring
    side: int  # the shorter one, in pixels


@dataclass(frozen=True)
class Meeting:
    """Two tiles, by their positions in a list, and how they lie to each other."""

    first: int
    second: int
    relation: Relation
    share: float  # of the smaller one that lies in the other


def footprint_of(raster: Raster) -> Footprint | None:
    """Return the footprint of a file that was opened with its place; None where the place is not known.

    Ground control points count; rational polynomials, which need a height, do not.
    """
    place = raster.place
    height, width = raster.source.shape
    if not place.located(height):
        return None
    ring = place.on_map(np.array([[0.0, 0], [width, 0], [width, height], [0, height]]))
    return None if ring is None or not np.isfinite(ring).all() else Footprint(place.crs, ring, min(height, width))


def read_footprints(images: Sequence[Path]) -> list[Footprint | None]:
    """Read the footprints of images from their files; raise InputError where one cannot be read.

    Where none of some images from all over the list has a place, the others are not opened, and count as without one.
    """

    def read(path: Path) -> Footprint | None:
        with opened(path, "an image", place=True) as raster:
            return footprint_of(raster)

    with reading_threads(available_cpus()) as pool:
        sample = images[:: max(1, len(images) // _SAMPLED)]
        placed = len(sample) == len(images) or any(pool.map(read, sample))
        return list(pool.map(read, images)) if placed else [None] * len(images)


def patches(footprints: Sequence[Footprint | None]) -> list[int]:
    """Return the number of the patch that each tile is part of: tiles that touch or overlap, directly or by others.

    Tiles of the same place at different dates are one patch. A tile whose place is not known is one of its own.
    """
    count = len(footprints)
    reach = _TOUCH / 2 / min((found.side for found in footprints if found), default=1)
    pairs = [(each.first, each.second) for each in meetings(footprints, list(map(str, range(count))), reach)]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs), dtype=bool), (rows, columns)), shape=(count, count))
    numbers: npt.NDArray[np.int32] = connected_components(links, directed=False)[1]
    return numbers.tolist()


def meetings(footprints: Sequence[Footprint | None], groups: Sequence[str], reach: float = _NEAR) -> list[Meeting]:
    """Find all pairs of tiles of different groups that overlap or lie beside each other, in order of their positions.

    Two tiles are neighbours where the gap between them is less than twice `reach`, as a share of a side. Tiles without
    a place meet none; nor do tiles without a coordinate system meet those that have one.
    """
    known = [position for position, found in enumerate(footprints) if found]
    systems = {found.crs.to_wkt() if found.crs else None for found in footprints if found}
    alike = len(systems) <= 1
    found: list[Meeting] = []
    for without in (False, True):
        own = [i for i in known if (footprints[i].crs is None) == without]  # type: ignore[union-attr]
        rings = _rings([footprints[i] for i in own], as_they_are=alike or without)  # type: ignore[misc]
        inside = [(i, ring) for i, ring in zip(own, rings, strict=True) if np.isfinite(ring).all()]
        found += _meetings([i for i, _ in inside], [ring for _, ring in inside], footprints, groups, reach)
    return sorted(found, key=lambda meeting: (meeting.first, meeting.second))


def _rings(found: Sequence[Footprint], as_they_are: bool) -> list[Ring]:
    """Return the corners in one coordinate system; not finite where they lie outside of its reach."""
    if as_they_are:
        return [footprint.ring for footprint in found]
    by_system: dict[str, list[int]] = {}
    for position, footprint in enumerate(found):
        by_system.setdefault(footprint.crs.to_wkt() if footprint.crs else "", []).append(position)
    rings = [np.full((4, 2), np.nan)] * len(found)
    for positions in by_system.values():
        points = np.concatenate([found[position].ring for position in positions])
        try:
            xs, ys = reproject(found[positions[0]].crs, _COMMON, points[:, 0].tolist(), points[:, 1].tolist())
        except (RasterioError, CPLE_BaseError):
            continue
        for position, ring in zip(positions, np.stack([xs, ys], axis=1).reshape(-1, 4, 2), strict=True):
            rings[position] = ring
    return rings


def _meetings(
    positions: Sequence[int],
    rings: Sequence[Ring],
    footprints: Sequence[Footprint | None],
    groups: Sequence[str],
    reach: float,
) -> Iterator[Meeting]:
    if not rings:
        return
    corners = np.stack(rings)
    low, high = corners.min(axis=1), corners.max(axis=1)
    low, high = low - reach * (high - low), high + reach * (high - low)
    kinds = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    group = np.array([kinds[groups[position]] for position in positions])
    order = np.argsort(low[:, 0], kind="stable")
    low, high, group, corners = low[order], high[order], group[order], corners[order]
    ends = np.searchsorted(low[:, 0], high[:, 0])  # later tiles begin farther right
    for i, end in enumerate(ends.tolist()):
        later = slice(i + 1, end)
        near = (low[later, 1] < high[i, 1]) & (low[i, 1] < high[later, 1]) & (group[later] != group[i])
        for j in (np.flatnonzero(near) + i + 1).tolist():
            first, second = sorted((positions[order[i]], positions[order[j]]))
            sides = [found.side for k in (first, second) if (found := footprints[k])]
            if relation := _relation(corners[i], corners[j], min(sides), reach):
                yield Meeting(first, second, *relation)


def _relation(one: Ring, other: Ring, side: int, reach: float) -> tuple[Relation, float] | None:
    """Return how two footprints lie to each other; None where they do not meet. `side` is in pixels."""
    low = one.min(axis=0)
    scale = one.max(axis=0) - low  # coordinates in float32 keep no metres in large numbers
    a, b = ((ring - low) / scale for ring in (one, other))
    smaller = min(_area(a), _area(b))
    if smaller <= 0:
        return None
    share = _common(a, b) / smaller
    if share >= _SAME:
        return "same", share
    if share > 1 / side:  # less than a row of pixels is rounding
        return "overlap", share
    return ("near", share) if _common(_grown(a, reach), _grown(b, reach)) > 0 else None


def _area(ring: Ring) -> float:
    return float(cv2.contourArea(ring.astype(np.float32)))


def _common(one: Ring, other: Ring) -> float:
    return float(cv2.intersectConvexConvex(one.astype(np.float32), other.astype(np.float32))[0])


def _grown(ring: Ring, reach: float) -> Ring:
    middle = ring.mean(axis=0)
    return middle + (1 + 2 * reach) * (ring - middle)
