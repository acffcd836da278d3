"""Draw one tile as people look at it: its image, what the model says, and what is true, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segtune.data.labels import Indices, Labels
from segtune.pictures.layout import (
    CELL,
    SWATCH,
    Legend,
    Row,
    class_legend,
    fitted,
    fitted_size,
    ignored_legend,
    layout,
    swatch,
)
from segtune.pictures.render import CERTAIN, GROUND, Picture, class_titles, painted, shaded

_LARGEST = 512  # width in pixels of a tile: larger ones are shrunk
_GRADIENT = 96  # width in pixels of the shades in the legend


@dataclass(frozen=True)
class Panels:
    """A tile and its prediction: (H, W), at the size of the tile's mask; the picture may have another size."""

    name: str
    picture: Picture
    predicted: Indices
    probability: npt.NDArray[np.float32] | None  # of a single class; None if there are several
    truth: Indices | None  # None without masks
    iou: float | None  # as of `tile_iou`; None without masks, and where mask and prediction hold no class


def panels(tile: Panels, labels: Labels, threshold: float) -> Picture:
    """Draw image, output and truth side by side, or image and output where there is no truth.

    A single class: the output is the probability, in blue where the class is predicted and in grey elsewhere.
    Several classes: the output is the predicted mask in the colours of the classes. Ignored pixels of the truth are
    hatched. Each picture is as wide as the tile, but not less than 256 pixels and not more than 512.
    """
    shape = tile.predicted.shape
    cell = min(max(shape[1], CELL), _LARGEST)
    size = fitted_size(shape, cell)
    if labels.binary:
        if tile.probability is None:
            raise ValueError("a single class is drawn from its probability")
        output = fitted(shaded(tile.probability, tile.predicted, threshold), shape, cell, smooth=False)
    else:
        output = painted(tile.predicted, labels, size)
    cells = [fitted(tile.picture, shape, cell), output]
    columns = ["image", "output"]
    if tile.truth is not None:
        cells.append(painted(tile.truth, labels, size))
        columns.append("truth")
    rows = [Row("", "", [_framed(picture) for picture in cells])]
    note = "" if tile.truth is None else "IoU: no class here" if tile.iou is None else f"IoU {tile.iou:.3f}"
    return layout(tile.name, _legend(tile, labels, threshold), columns, rows, cell, note)


def panels_name(tile: Panels) -> str:
    """Return the name of the file for a tile's panels, such as ``0.734_TILE.png``.

    The IoU stands first, so any file browser lists the worst tiles first, and at the end those without any class in
    mask and prediction: ``empty_TILE.png``. Without masks, the name is ``TILE.png``.
    """
    if tile.truth is None:
        return f"{tile.name}.png"
    return f"{'empty' if tile.iou is None else f'{tile.iou:.3f}'}_{tile.name}.png"


def _legend(tile: Panels, labels: Labels, threshold: float) -> Legend:
    masks = [tile.predicted] if tile.truth is None else [tile.predicted, tile.truth]
    if not labels.binary:
        background = [swatch("background", (GROUND,) * 3)] if any((mask == 0).any() for mask in masks) else []
        return [*background, *class_legend(labels, masks)]
    steps = np.linspace(0, 1, _GRADIENT, dtype=np.float32)[None].repeat(SWATCH[0], axis=0)
    shades = shaded(steps, (steps > threshold).astype(np.uint8), threshold)
    entries = [(f"probability from 0 to 1, blue above {threshold:.3g}", _framed(shades))]
    if tile.truth is not None:
        entries += [swatch(class_titles(labels)[1], CERTAIN), *ignored_legend(masks)]
    return entries


def _framed(picture: Picture) -> Picture:
    """Return a picture with a thin grey line around it, because much of a mask is as light as the paper."""
    framed = picture.copy()
    framed[[0, -1]] = framed[:, [0, -1]] = 150
    return framed
