"""Draw sheets of tiles: before and after augmentation, and those that a model predicts worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segtune.data.labels import Indices, Labels
from segtune.errors import InputError
from segtune.evaluation.worst import wrong_pixels
from segtune.pictures.layout import CELL, Row, class_legend, fitted, layout, swatch
from segtune.pictures.render import WRONG, Picture, difference, overlay

_MOST_ROWS = 64  # in a sheet of previews


@dataclass(frozen=True)
class Preview:
    """A row of `preview_sheet`: a tile before and after augmentation. A mask may differ in size from its picture."""

    name: str
    picture: Picture
    mask: Indices
    augmented: Picture
    augmented_mask: Indices


@dataclass(frozen=True)
class Prediction:
    """A row of `worst_sheet`: a tile, its mask and its prediction.

    `truth` and `predicted` have the same size. The picture may be the square that the network sees; it is drawn in
    their aspect ratio.
    """

    name: str
    iou: float
    picture: Picture
    truth: Indices
    predicted: Indices


@dataclass(frozen=True)
class Shown:
    """A tile of `contact_sheet`: its picture and its mask, which may differ in size."""

    name: str
    picture: Picture
    mask: Indices


def contact_sheet(tiles: Sequence[Shown], labels: Labels, title: str, cell: int = CELL) -> Picture:
    """Draw tiles beside themselves with their masks over them, two tiles in a row.

    Each picture is at most `cell` pixels wide. Raises ValueError if there are no tiles.
    """
    if not tiles:
        raise ValueError("there must be at least one tile")
    drawn = []
    for first, *others in (tiles[number : number + 2] for number in range(0, len(tiles), 2)):
        cells = []
        for tile in (first, *others):
            picture = fitted(tile.picture, tile.mask.shape, cell)
            cells += [picture, overlay(picture, tile.mask, labels)]
        if len(tiles) > 1 and not others:  # the last one of an odd number
            cells += [np.full((1, 1, 3), 255, np.uint8)] * 2
        drawn.append(Row(first.name, "".join(tile.name for tile in others), cells))
    columns = ("tile", "mask") * min(2, len(tiles))
    return layout(title, class_legend(labels, [tile.mask for tile in tiles]), columns, drawn, cell)


def check_preview(count: int) -> None:
    """Raise InputError if a sheet cannot show this number of tiles."""
    if not 1 <= count <= _MOST_ROWS:
        raise InputError(f"--preview-augmentation: must be between 1 and {_MOST_ROWS} tiles, but got {count}")


def preview_sheet(rows: Sequence[Preview], labels: Labels, level: str, cell: int = CELL) -> Picture:
    """Draw what an augmentation level does: each tile in a row, before and after it, with and without its mask.

    Each picture is at most `cell` pixels wide. Raises ValueError if there are no rows.
    """
    if not rows:
        raise ValueError("there must be at least one row")
    drawn = []
    for row in rows:
        before = fitted(row.picture, row.mask.shape, cell)
        after = fitted(row.augmented, row.augmented_mask.shape, cell)
        cells = [before, overlay(before, row.mask, labels), after, overlay(after, row.augmented_mask, labels)]
        drawn.append(Row(row.name, "", cells))
    legend = class_legend(labels, [mask for row in rows for mask in (row.mask, row.augmented_mask)])
    return layout(f"Augmentation: {level}", legend, ("tile", "mask", "augmented", "augmented mask"), drawn, cell)


def worst_sheet(
    rows: Sequence[Prediction],
    labels: Labels,
    title: str = "Worst tiles",
    with_difference: bool = True,
    cell: int = CELL,
) -> Picture:
    """Draw tiles beside their mask, their prediction and, if `with_difference`, the pixels where the two differ.

    Each picture is at most `cell` pixels wide. Raises ValueError if there are no rows.
    """
    if not rows:
        raise ValueError("there must be at least one row")
    drawn = []
    for row in rows:
        tile = fitted(row.picture, row.truth.shape, cell)
        cells = [tile, overlay(tile, row.truth, labels), overlay(tile, row.predicted, labels)]
        if with_difference:
            cells.append(difference(tile, row.predicted, row.truth))
        drawn.append(Row(row.name, f"{wrong_pixels(row.predicted, row.truth):,} px wrong, IoU {row.iou:.3f}", cells))
    legend = class_legend(labels, [mask for row in rows for mask in (row.truth, row.predicted)])
    columns = ["image", "truth", "prediction"]
    if with_difference:
        columns.append("difference")
        legend.append(swatch("wrong", WRONG))
    return layout(title, legend, columns, drawn, cell)
