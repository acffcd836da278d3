"""Draw sheets of tiles: before and after augmentation, and those that a model predicts worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segtune.data.labels import Indices, Labels
from segtune.errors import InputError
from segtune.evaluation.worst import wrong_pixels
from segtune.pictures.layout import CELL, GAP, Row, captioned, class_legend, fitted, layout, swatch
from segtune.pictures.render import WRONG, Picture, difference, overlay

_MOST_ROWS = 64  # in a sheet of previews
_BETWEEN = 3 * GAP  # pixels between two tiles of a contact sheet; a tile and its mask are nearer


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
    note: str = ""  # below it


def contact_sheet(rows: Sequence[Sequence[Shown]], labels: Labels, title: str, cell: int = CELL) -> Picture:
    """Draw one tile or several in each row: below its name, beside itself with its mask over it, above its note.

    Each picture is at most `cell` pixels wide. Raises ValueError if there are no tiles.
    """
    if not all(rows) or not rows:
        raise ValueError("there must be at least one tile in each row")
    drawn = [Row("", "", _of_one_height([_with_mask(tile, labels, cell) for tile in row])) for row in rows]
    legend = class_legend(labels, [tile.mask for row in rows for tile in row])
    columns = ("each tile, and with its mask over it", *[""] * (max(map(len, rows)) - 1))
    return layout(title, legend, columns, _as_wide(drawn), 2 * cell + GAP, gap=_BETWEEN)


def _with_mask(tile: Shown, labels: Labels, cell: int) -> Picture:
    picture = fitted(tile.picture, tile.mask.shape, cell)
    return captioned(tile.name, tile.note, [picture, overlay(picture, tile.mask, labels)], cell)


def _of_one_height(pictures: Sequence[Picture]) -> list[Picture]:
    """Fill pictures up below, so that their captions stand on one line."""
    height = max(map(len, pictures))
    return [np.pad(one, ((0, height - len(one)), (0, 0), (0, 0)), constant_values=255) for one in pictures]


def _as_wide(rows: Sequence[Row]) -> list[Row]:
    """Fill rows up with empty cells."""
    empty = np.full((1, 1, 3), 255, np.uint8)
    most = max(len(row.cells) for row in rows)
    return [replace(row, cells=[*row.cells, *[empty] * (most - len(row.cells))]) for row in rows]


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
