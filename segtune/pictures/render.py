"""Draw tiles and masks as pictures.

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
from segtune.evaluation.predicted_masks import Category

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
WRONG: Colour = (255, 0, 0)
GROUND: int = 240  # grey of background in a mask of several classes, some of whose colours are light
# Of a probability: just below the threshold, just above it, and of 1. The lightness falls all the way.
_DOUBTFUL, _LIKELY, CERTAIN = (165, 165, 165), (107, 164, 222), (8, 48, 107)

# Okabe and Ito's palette, whose colours people with the usual kinds of colour blindness can tell apart, without its
# black. Green and blue come early because many land-cover data sets begin with built-up, vegetation and water.
_OKABE_ITO: tuple[Colour, ...] = (
    *((230, 159, 0), (0, 158, 115), (86, 180, 233), (240, 228, 66)),
    *((204, 121, 167), (0, 114, 178), (213, 94, 0)),
)


@cache
def palette(count: int) -> tuple[Colour, ...]:
    """Return a colour for each of `count` classes; the colour of a class does not depend on `count`.

    Colour-blind people can tell the first seven apart. Each further colour is the one in a grid of colours that
    differs most from all colours before it and from black, white and the red of wrong pixels.
    """
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 12, dtype=np.uint8)] * 3), axis=-1).reshape(-1, 3)
    colours = list(_OKABE_ITO[:count])
    distance = np.min([_unlike(grid, colour) for colour in (*_OKABE_ITO, (0, 0, 0), WHITE, WRONG)], axis=0)
    while len(colours) < count:
        red, green, blue = (int(value) for value in grid[distance.argmax()])
        colours.append((red, green, blue))
        distance = np.minimum(distance, _unlike(grid, colours[-1]))
    return tuple(colours)


def class_titles(labels: Labels) -> list[str]:
    """Return the names of all indices, as charts and legends show them: background, then the classes in their order."""
    titled = (labels.text(label) if labels.names else f"class {label}" for label in labels.classes)
    return ["background", *titled]


def categories(labels: Labels) -> list[Category]:
    """Return the colour of each class, and of background, with their names where the classes have names."""
    names = labels.names or ("",) * len(labels.classes)
    classes = map(Category, labels.classes, names, palette(len(labels.classes)))
    background = Category(labels.background_label, "background" if labels.names else "", (0, 0, 0))
    return [*([background] if labels.predicts_background else []), *classes]


def _unlike(colours: npt.NDArray[np.uint8], other: Colour) -> npt.NDArray[np.float32]:
    """Return how different colours, (N, 3), look from another one, (N,): their distances in CIELAB."""
    both = np.vstack([colours, np.array([other], dtype=np.uint8)])[None].astype(np.float32) / 255
    lab = cv2.cvtColor(both, cv2.COLOR_RGB2Lab)[0]
    distance: npt.NDArray[np.float32] = np.linalg.norm(lab[:-1] - lab[-1], axis=1)
    return distance


def render(image: npt.NDArray[Any], bands: Sequence[Band], rgb: Sequence[int]) -> Picture:
    """Draw an image as a picture in which each band is stretched over its usual range.

    Parameters
    ----------
    image: (H, W, bands), of any type, not normalized.
    bands: statistics of the image's bands, in their order. The range that is shown reaches from two standard
        deviations below the mean to two above it, within the lowest and highest value. So the ground stays visible
        beside a bright cloud.
    rgb: positions among the bands of red, green and blue, or of one band that is shown grey, as
        `segtune.data.bands.rgb_positions` returns them.
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
    """Return a picture with its mask drawn over it: classes tinted and outlined, ignored pixels hatched.

    The mask, (h, w), may have another size than the picture. Background pixels do not change.
    """
    return _tinted(picture, indices, palette(len(labels.classes)), opacity=0.45, outlined=True)


def painted(indices: Indices, labels: Labels, size: tuple[int, int]) -> Picture:
    """Draw a mask alone, at a size of (height, width): classes in their colours, ignored pixels hatched.

    Background is nearly white. A single class is drawn as `shaded` draws a probability of 1.
    """
    colours = (CERTAIN,) if labels.binary else palette(len(labels.classes))
    ground = np.full((*size, 3), 255 if labels.binary else GROUND, dtype=np.uint8)
    return _tinted(ground, indices, colours, opacity=1.0, outlined=False)


def shaded(probability: npt.NDArray[np.float32], predicted: Indices, threshold: float) -> Picture:
    """Draw the probability of a single class, (H, W): in blue where the class is predicted, and in grey elsewhere.

    Both become darker as the probability rises, from white at 0 to dark blue at 1. `predicted` are indices, (H, W).
    """
    table = np.array([WHITE, _DOUBTFUL, _LIKELY, CERTAIN], dtype=np.float32)
    probability = np.nan_to_num(probability)
    below = np.clip(probability / max(threshold, 1e-6), 0, 1)[..., None]
    above = np.clip((probability - threshold) / max(1 - threshold, 1e-6), 0, 1)[..., None]
    grey = table[0] + below * (table[1] - table[0])
    blue = table[2] + above * (table[3] - table[2])
    return np.where((predicted == 1)[..., None], blue, grey).round().astype(np.uint8)


def difference(picture: Picture, predicted: Indices, truth: Indices) -> Picture:
    """Return a picture in grey in which wrong pixels are red and ignored ones hatched.

    `predicted` and `truth` are (h, w), both of the same size, which may differ from the picture's.
    """
    wrong = np.where(truth == IGNORED, IGNORED, predicted != truth).astype(np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _tinted(grey, wrong, (WRONG,), opacity=0.8, outlined=False)


def _tinted(picture: Picture, indices: Indices, colours: Sequence[Colour], opacity: float, outlined: bool) -> Picture:
    """Return a picture with index 1 and up tinted in these colours and index 255 hatched."""
    height, width = picture.shape[:2]
    nearest = cv2.resize(indices, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    table = np.zeros((256, 4), dtype=np.uint8)  # red, green, blue, and 255 if there is a colour
    table[1 : len(colours) + 1] = [(*colour, 255) for colour in colours]
    # If the mask is larger, its colours are averaged. With the nearest pixel, a narrow road would get gaps.
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
    """Return which pixels have one of their four neighbours with another index."""
    edges = np.zeros(indices.shape, dtype=bool)
    down, across = indices[1:] != indices[:-1], indices[:, 1:] != indices[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    return edges


def hatch(picture: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> None:
    """Hatch pixels in place: grey with light diagonal lines, visible on dark and on bright ground."""
    rows, columns = np.nonzero(where)
    lines = np.where((rows + columns) % 8 < 2, 235, 95).astype(np.float32)
    picture[where] = 0.25 * picture[where] + 0.75 * lines[:, None]
