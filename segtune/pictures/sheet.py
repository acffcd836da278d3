"""Lay out sheets: rows of tiles with captions, column names and a legend.

Every run of a search draws its worst tiles, so a sheet must take milliseconds. OpenCV draws it, not a plotting library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segtune.data.labels import IGNORED, Indices, Labels
from segtune.errors import InputError
from segtune.evaluation.worst import wrong_pixels
from segtune.pictures.render import WHITE, WRONG, Colour, Picture, difference, hatch, overlay, palette

_MOST_ROWS = 64  # in a sheet of previews
CELL = 256  # width in pixels of a tile on a sheet
_TALLEST = 2.0  # greatest height of a tile on a sheet, as a multiple of its cell's width
_MARGIN, _GAP = 16, 8  # around a sheet, and between its cells
_LINE, _TEXT, _TITLE = 24, 15, 19  # height of a line, and text sizes of a line and of the title, in pixels
_BASELINE = 17  # from the top of a line
_SWATCH = (14, 22)  # height and width of a colour in the legend
_FEW = 20  # a legend lists up to this many classes even if they do not occur
_REGULAR, _BOLD = 400, 600
_INK, _GREY = (32, 32, 32), (110, 110, 110)


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
        before = _fitted(row.picture, row.mask.shape, cell)
        after = _fitted(row.augmented, row.augmented_mask.shape, cell)
        cells = [before, overlay(before, row.mask, labels), after, overlay(after, row.augmented_mask, labels)]
        drawn.append(_Row(row.name, "", cells))
    legend = _legend(labels, [mask for row in rows for mask in (row.mask, row.augmented_mask)])
    return _sheet(f"Augmentation: {level}", legend, ("tile", "mask", "augmented", "augmented mask"), drawn, cell)


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
        tile = _fitted(row.picture, row.truth.shape, cell)
        cells = [tile, overlay(tile, row.truth, labels), overlay(tile, row.predicted, labels)]
        if with_difference:
            cells.append(difference(tile, row.predicted, row.truth))
        drawn.append(_Row(row.name, f"{wrong_pixels(row.predicted, row.truth):,} px wrong, IoU {row.iou:.3f}", cells))
    legend = _legend(labels, [mask for row in rows for mask in (row.truth, row.predicted)])
    columns = ["image", "truth", "prediction"]
    if with_difference:
        columns.append("difference")
        legend.append(("wrong", np.full((*_SWATCH, 3), WRONG, dtype=np.uint8)))
    return _sheet(title, legend, columns, drawn, cell)


@dataclass(frozen=True)
class _Row:
    name: str
    note: str  # written on the right
    cells: Sequence[Picture]


_Legend = list[tuple[str, Picture]]  # texts, each with the swatch that it explains


def _sheet(title: str, legend: _Legend, columns: Sequence[str], rows: Sequence[_Row], cell: int) -> Picture:
    """Stack strips of the same width: title, legend, column names, and the rows, each below its caption."""
    width = len(columns) * cell + (len(columns) - 1) * _GAP + 2 * _MARGIN
    heading = _line(width, title, size=_TITLE, weight=_BOLD)
    strips = [_blank(_GAP, width), heading, *_legend_lines(legend, width), _blank(_GAP, width)]
    names = _blank(_LINE, width)
    for number, name in enumerate(columns):
        _write(names, name, _MARGIN + number * (cell + _GAP), cell, colour=_GREY)
    strips.append(names)
    for row in rows:
        strips += [_line(width, row.name, row.note, weight=_BOLD), _cells(row.cells, cell), _blank(_GAP, width)]
    return np.vstack([*strips, _blank(_MARGIN - _GAP, width)])


def _fitted(picture: Picture, shape: tuple[int, ...], cell: int) -> Picture:
    """Resize a picture to the aspect ratio of a mask of this shape, (h, w), as large as fits a cell."""
    height, width = shape
    scale = min(cell / width, _TALLEST * cell / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrinks = size[0] < picture.shape[1] and size[1] < picture.shape[0]
    fitted: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return fitted


def _cells(pictures: Sequence[Picture], cell: int) -> Picture:
    """Draw pictures side by side, each in the middle of its cell."""
    width = len(pictures) * cell + (len(pictures) - 1) * _GAP + 2 * _MARGIN
    strip = _blank(max(len(picture) for picture in pictures), width)
    for number, picture in enumerate(pictures):
        left = _MARGIN + number * (cell + _GAP) + (cell - picture.shape[1]) // 2
        top = (len(strip) - len(picture)) // 2
        strip[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return strip


def _legend(labels: Labels, masks: Sequence[Indices]) -> _Legend:
    """Return the entries for the classes, by label, and for ignored pixels if there are any.

    If there are more than a few classes, only those that occur in the masks are listed.
    """
    seen = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0) > 0
    colours = palette(len(labels.classes))
    entries: _Legend = [
        (labels.text(label) if labels.names else f"class {label}", np.full((*_SWATCH, 3), colour, dtype=np.uint8))
        for index, (label, colour) in enumerate(zip(labels.classes, colours, strict=True), start=1)
        if seen[index] or len(colours) <= _FEW
    ]
    if seen[IGNORED]:
        hatched = np.full((*_SWATCH, 3), 128, dtype=np.float32)
        hatch(hatched, np.ones(_SWATCH, dtype=bool))
        entries.append(("ignored", hatched.astype(np.uint8)))
    return entries


def _legend_lines(legend: _Legend, width: int) -> list[Picture]:
    """Draw the legend in columns, on as many lines as necessary."""
    if not legend:
        return []
    height, across = _SWATCH
    needed = across + _GAP + max(_text_width(text, _TEXT, _REGULAR) for text, _ in legend)
    columns = max(1, (width - _MARGIN) // (needed + _MARGIN))
    lines = [_blank(_LINE, width) for _ in range(-(-len(legend) // columns))]
    top = (_LINE - height) // 2
    for number, (text, swatch) in enumerate(legend):
        line, left = lines[number // columns], _MARGIN + number % columns * (needed + _MARGIN)
        line[top : top + height, left : left + across] = swatch
        _write(line, text, left + across + _GAP, width - left - across - _GAP)
    return lines


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), WHITE, dtype=np.uint8)


def _line(width: int, text: str, note: str = "", size: int = _TEXT, weight: int = _REGULAR) -> Picture:
    """Draw a strip with a text on the left and a note on the right."""
    strip = _blank(_LINE, width)
    taken = _text_width(note, size, weight) if note else 0
    if note:
        _write(strip, note, width - _MARGIN - taken, taken, size, weight)
    _write(strip, text, _MARGIN, width - 2 * _MARGIN - taken - _GAP, size, weight)
    return strip


def _write(
    strip: Picture, text: str, left: int, room: int, size: int = _TEXT, weight: int = _REGULAR, colour: Colour = _INK
) -> None:
    """Write a text on a strip in place; if it is wider than `room`, leave out its middle."""
    text = _printable(text)
    shown = text
    while _text_width(shown, size, weight) > room and len(text) > 2:
        middle = len(text) // 2
        text = text[:middle] + text[middle + 1 :]
        shown = f"{text[: len(text) // 2]}…{text[len(text) // 2 :]}"
    # A new face for each text, because a variable font keeps the weight it was used with; this takes microseconds.
    cv2.putText(strip, shown, (left, _BASELINE), colour, cv2.FontFace("sans"), size, weight)


def _text_width(text: str, size: int, weight: int) -> int:
    box = cv2.getTextSize((0, 0), _printable(text), (0, 0), cv2.FontFace("sans"), size, weight)
    return int(box[0] + box[2])


def _printable(text: str) -> str:
    """Return a file name with composed letters and "?" for everything that OpenCV cannot draw.

    A name that is not valid UTF-8 holds lone surrogates in Python, and OpenCV 5.0 ends the process when it gets one.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in unicodedata.normalize("NFC", text))
