"""Tiles and masks as pictures: pixels to colours.

A picture is (H, W, 3), uint8, red, green, blue. Masks are indices as in `data.labels`: 0 is background, 1 to K are
the classes in their order, 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.bands import Band
from segtune.data.labels import IGNORED, Indices, Labels

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
WRONG: Colour = (255, 0, 0)

# Okabe and Ito's palette, which people with the usual kinds of colour blindness can tell apart, without its black and
# with green and blue first: built-up, vegetation and water is the order of many land-cover data sets.
_OKABE_ITO: tuple[Colour, ...] = (
    *((230, 159, 0), (0, 158, 115), (86, 180, 233), (240, 228, 66)),
    *((204, 121, 167), (0, 114, 178), (213, 94, 0)),
)


@cache
def palette(count: int) -> tuple[Colour, ...]:
    """A colour for each of `count` classes; a class has the same one whatever the count.

    The first seven can be told apart by colour-blind people. Each further one is, of a grid of colours, the one least
    like all before it and like black and white.
    """
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 12, dtype=np.uint8)] * 3), axis=-1).reshape(-1, 3)
    colours = list(_OKABE_ITO[:count])
    distance = np.min([_unlike(grid, colour) for colour in (*_OKABE_ITO, (0, 0, 0), WHITE, WRONG)], axis=0)
    while len(colours) < count:
        red, green, blue = (int(value) for value in grid[distance.argmax()])
        colours.append((red, green, blue))
        distance = np.minimum(distance, _unlike(grid, colours[-1]))
    return tuple(colours)


def _unlike(colours: npt.NDArray[np.uint8], other: Colour) -> npt.NDArray[np.float32]:
    """How different colours, (N, 3), look from another one: their distance in CIELAB."""
    both = np.vstack([colours, np.array([other], dtype=np.uint8)])[None].astype(np.float32) / 255
    lab = cv2.cvtColor(both, cv2.COLOR_RGB2Lab)[0]
    distance: npt.NDArray[np.float32] = np.linalg.norm(lab[:-1] - lab[-1], axis=1)
    return distance


def render(image: npt.NDArray[Any], bands: Sequence[Band], rgb: Sequence[int]) -> Picture:
    """An image as a picture: each band that is shown is stretched over its usual range.

    Parameters
    ----------
    image: (H, W, bands), of any type, not normalised.
    bands: statistics of the image's bands, in their order. What is shown reaches from two standard deviations below
        the mean to two above, within the lowest and highest value, so that a cloud leaves the ground visible.
    rgb: positions of red, green and blue among the bands, or of one band that is shown grey, as
        `segtune.data.labels.rgb_positions` gives them.
    """
    if len(rgb) not in (1, 3):
        raise ValueError(f"rgb must be one position or three, but got {tuple(rgb)}")
    shown = [bands[position] for position in rgb]
    low = np.array([max(band.low, band.mean - 2 * band.std) for band in shown], dtype=np.float32)
    high = np.array([min(band.high, band.mean + 2 * band.std) for band in shown], dtype=np.float32)
    chosen = np.ascontiguousarray(image[..., list(rgb)], dtype=np.float32)
    scaled = np.clip((chosen - low) * (255 / np.maximum(high - low, 1e-12)), 0, 255)
    picture = np.nan_to_num(scaled).round().astype(np.uint8)
    return np.repeat(picture, 3, axis=2) if len(rgb) == 1 else picture


def overlay(picture: Picture, indices: Indices, labels: Labels) -> Picture:
    """A picture with its mask over it: classes tinted and outlined in their colours, ignored pixels hatched.

    The mask, (h, w), may have another size than the picture; background is left as it is. Returns a new picture.
    """
    return _tinted(picture, indices, palette(len(labels.classes)), opacity=0.45, outlined=True)


def difference(picture: Picture, predicted: Indices, truth: Indices) -> Picture:
    """A picture in grey where the wrong pixels are red and the ignored ones hatched.

    `predicted` and `truth` are (h, w), of one size that may be another than the picture's. Returns a new picture.
    """
    wrong = np.where(truth == IGNORED, IGNORED, predicted != truth).astype(np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _tinted(grey, wrong, (WRONG,), opacity=0.8, outlined=False)


def _tinted(picture: Picture, indices: Indices, colours: Sequence[Colour], opacity: float, outlined: bool) -> Picture:
    """Index 1 and up in these colours, 255 hatched, the rest as it was."""
    height, width = picture.shape[:2]
    nearest = cv2.resize(indices, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    table = np.zeros((256, 4), dtype=np.uint8)  # red, green, blue, and whether there is a colour
    table[1 : len(colours) + 1] = [(*colour, 255) for colour in colours]
    # Where the mask is larger, colours are averaged: the nearest pixels would tear a narrow road.
    shrinks = indices.shape[0] > height or indices.shape[1] > width
    tint = cv2.resize(table[indices], (width, height), interpolation=cv2.INTER_AREA) if shrinks else table[nearest]
    tint = tint * np.float32(opacity)
    tinted = picture * (1 - tint[..., 3:] / 255) + tint[..., :3]
    if outlined:
        edges = _edges(nearest) & (table[nearest, 3] > 0)
        tinted[edges] = table[nearest[edges], :3]
    hatch(tinted, nearest == IGNORED)
    return tinted.round().astype(np.uint8)


def _edges(indices: Indices) -> npt.NDArray[np.bool_]:
    """Pixels one of whose four neighbours has another index."""
    edges = np.zeros(indices.shape, dtype=bool)
    down, across = indices[1:] != indices[:-1], indices[:, 1:] != indices[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    return edges


def hatch(picture: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> None:
    """Grey with light diagonal lines, which can be seen on dark and on bright ground; changes the picture itself."""
    rows, columns = np.nonzero(where)
    lines = np.where((rows + columns) % 8 < 2, 235, 95).astype(np.float32)
    picture[where] = 0.25 * picture[where] + 0.75 * lines[:, None]
