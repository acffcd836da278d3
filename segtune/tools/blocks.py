"""Where tiles lie beside each other: square blocks of them, and those that are too near to tiles of another split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from segtune.data.footprints import footprint_of
from segtune.data.raster import opened
from segtune.errors import InputError
from segtune.tools.windows import TILE_NAME

_ROUNDING = 0.01  # pixels


@dataclass(frozen=True)
class Spot:
    """The place of a tile in its frame."""

    frame: str  # tiles of different frames cannot be compared: a coordinate system, or a scene without one
    left: float
    top: float
    right: float
    bottom: float  # larger than top
    pixel: float = 1.0  # its side, in the same unit

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the tile."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def spot_of(name: str, image: Path) -> Spot:
    """Return the place of a tile in map units by its georeference, or else in pixels by a name as `tile` gives.

    Raises InputError where neither tells it, or where the file cannot be read.
    """
    with opened(image, "an image", place=True) as raster:
        height, width = raster.size
        footprint = footprint_of(raster)
    if footprint:
        (left, bottom), (right, top) = footprint.ring.min(axis=0), footprint.ring.max(axis=0)
        pixel = min(right - left, top - bottom) / min(height, width)
        system = footprint.crs.to_string() if footprint.crs else ""
        return Spot(system, left, -top, right, -bottom, pixel)
    found = TILE_NAME.fullmatch(name)
    if not found:
        raise InputError(
            f"{image}: has no place: neither a georeference nor a name such as SCENE_r0512_c1024, which `tile` gives; "
            f"split at random or with --group"
        )
    top, left = float(found["row"]), float(found["column"])
    return Spot(found["scene"], left, top, left + width, top + height)


def in_pixels(spots: Sequence[Spot]) -> list[Spot]:
    """Return places in pixels: of several resolutions in a frame, the median counts."""
    unit = {frame: float(np.median([spots[i].pixel for i in own])) for frame, own in _by_frame(spots).items()}
    return [
        Spot(spot.frame, *(edge / unit[spot.frame] for edge in (spot.left, spot.top, spot.right, spot.bottom)))
        for spot in spots
    ]


def _by_frame(spots: Sequence[Spot]) -> dict[str, list[int]]:
    """Return the positions of the places in each frame."""
    found: dict[str, list[int]] = {}
    for number, spot in enumerate(spots):
        found.setdefault(spot.frame, []).append(number)
    return found


def blocks_of(spots: Sequence[Spot], side: float) -> list[str]:
    """Return a name for the square block of `side` pixels in which each tile has its centre."""
    first: dict[str, tuple[float, float]] = {}
    for spot in spots:
        left, top = first.get(spot.frame, (math.inf, math.inf))
        first[spot.frame] = min(left, spot.left), min(top, spot.top)
    found = []
    for spot in spots:
        column, row = (
            math.floor((at - start) / side) for at, start in zip(spot.centre, first[spot.frame], strict=True)
        )
        found.append(f"{spot.frame} {row} {column}")
    return found


def too_near(spots: Sequence[Spot], splits: Sequence[int], gap: float) -> npt.NDArray[np.bool_]:
    """Return which tiles lie nearer than `gap` pixels to a tile of a later split that stays, or overlap one.

    So what is left out are tiles of training first: `splits` counts from 0, the training.
    """
    pairs = _near_pairs(spots, gap)
    gone = np.zeros(len(spots), bool)
    for split in range(max(splits, default=0), -1, -1):  # the last split loses none
        for one, other in pairs:
            for own, later in ((one, other), (other, one)):
                if splits[own] == split < splits[later] and not gone[later]:
                    gone[own] = True
    return gone


def _near_pairs(spots: Sequence[Spot], gap: float) -> list[tuple[int, int]]:
    """Return pairs of tiles of one frame that overlap or have less than `gap` pixels between them."""
    found: list[tuple[int, int]] = []
    for own in _by_frame(spots).values():
        edges = np.array([[spots[i].left, spots[i].top, spots[i].right, spots[i].bottom] for i in own])
        low, high = edges[:, :2], edges[:, 2:]
        pairs = cKDTree((low + high) / 2).query_pairs(float((high - low).max()) + gap, p=np.inf, output_type="ndarray")
        one, other = pairs.T
        between = np.maximum(low[one] - high[other], low[other] - high[one]).max(axis=1)
        found += [(own[i], own[j]) for i, j in pairs[between < gap - _ROUNDING]]
    return found
