"""Lay out tiles in rows with captions, column names and a legend.

Every run of a search draws its worst tiles, so a sheet must take milliseconds. OpenCV draws it, not a plotting library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segtune.data.labels import IGNORED, Indices, Labels
from segtune.pictures.render import WHITE, Colour, Picture, class_titles, hatch, palette

CELL = 256  # width in pixels of a tile on a sheet
_TALLEST = 2.0  # greatest height of a tile on a sheet, as a multiple of its cell's width
_MARGIN, GAP = 16, 8  # around a sheet, and between its cells
_LINE, _TEXT, _TITLE = 24, 15, 19  # height of a line, and text sizes of a line and of the title, in pixels
_BASELINE = 17  # from the top of a line
SWATCH = (14, 22)  # height and width of a colour in the legend
_FEW = 20  # a legend lists up to this many classes even if they do not occur
_REGULAR, _BOLD = 400, 600
_INK, _GREY = (32, 32, 32), (110, 110, 110)


@dataclass(frozen=True)
class Row:
    """Pictures that stand side by side, below a caption if there is one: a name on the left, a note on the right."""

    name: str
    note: str
    cells: Sequence[Picture]


Entry = tuple[str, Picture]  # a text and the swatch that it explains
Legend = list[Entry]


def layout(
    title: str,
    legend: Legend,
    columns: Sequence[str],
    rows: Sequence[Row],
    cell: int,
    note: str = "",
    gap: int = GAP,
) -> Picture:
    """Stack strips of the same width: title and note, legend, column names, and the rows, each below its caption.

    A cell is `cell` pixels wide, and `gap` pixels are between two cells.
    """
    width = len(columns) * cell + (len(columns) - 1) * gap + 2 * _MARGIN
    heading = _line(width, title, note, size=_TITLE, weight=_BOLD)
    strips = [_blank(GAP, width), heading, *_legend_lines(legend, width), _blank(GAP, width)]
    names = _blank(_LINE, width)
    for number, name in enumerate(columns):
        _write(names, name, _MARGIN + number * (cell + gap), cell, colour=_GREY)
    strips.append(names)
    for row in rows:
        if row.name or row.note:
            strips.append(_line(width, row.name, row.note, weight=_BOLD))
        strips += [_cells(row.cells, cell, gap), _blank(GAP, width)]
    return np.vstack([*strips, _blank(_MARGIN - GAP, width)])


def fitted_size(shape: tuple[int, ...], cell: int) -> tuple[int, int]:
    """Return the largest (height, width) that has the aspect ratio of `shape`, (h, w), and fits a cell."""
    height, width = shape
    scale = min(cell / width, _TALLEST * cell / height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def fitted(picture: Picture, shape: tuple[int, ...], cell: int, smooth: bool = True) -> Picture:
    """Resize a picture to the aspect ratio of a mask of this shape, (h, w), as large as fits a cell.

    smooth: interpolate where the picture is enlarged; otherwise each of its pixels becomes a rectangle.
    """
    height, width = fitted_size(shape, cell)
    shrinks = width < picture.shape[1] and height < picture.shape[0]
    enlarging = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST_EXACT
    resized: Picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else enlarging)
    return resized


def captioned(above: str, below: str, pictures: Sequence[Picture], cell: int) -> Picture:
    """Draw pictures side by side, each in its cell, between a line above them and one below, if there is one."""
    width = len(pictures) * (cell + GAP) - GAP + 2 * _MARGIN
    strips = [_line(width, above, weight=_BOLD), _cells(pictures, cell, GAP)]
    strips += [_line(width, below)] if below else []
    return np.vstack(strips)[:, _MARGIN:-_MARGIN]


def _cells(pictures: Sequence[Picture], cell: int, gap: int) -> Picture:
    """Draw pictures side by side, each in the middle of its cell."""
    width = len(pictures) * cell + (len(pictures) - 1) * gap + 2 * _MARGIN
    strip = _blank(max(len(picture) for picture in pictures), width)
    for number, picture in enumerate(pictures):
        left = _MARGIN + number * (cell + gap) + (cell - picture.shape[1]) // 2
        top = (len(strip) - len(picture)) // 2
        strip[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return strip


def swatch(text: str, colour: Colour) -> Entry:
    """Return the entry of a legend that explains one colour."""
    return text, np.full((*SWATCH, 3), colour, dtype=np.uint8)


def class_legend(labels: Labels, masks: Sequence[Indices]) -> Legend:
    """Return the entries for the classes, by label, and for ignored pixels if there are any.

    If there are more than a few classes, only those that occur in the masks are listed.
    """
    seen = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0) > 0
    colours = palette(len(labels.classes))
    entries = [
        swatch(title, colour)
        for index, (title, colour) in enumerate(zip(class_titles(labels)[1:], colours, strict=True), start=1)
        if seen[index] or len(colours) <= _FEW
    ]
    return [*entries, *ignored_legend(masks)]


def ignored_legend(masks: Sequence[Indices]) -> Legend:
    """Return the entry for ignored pixels if the masks have any."""
    if not any((mask == IGNORED).any() for mask in masks):
        return []
    hatched = np.full((*SWATCH, 3), 128, dtype=np.float32)
    hatch(hatched, np.ones(SWATCH, dtype=bool))
    return [("ignored", hatched.astype(np.uint8))]


def _legend_lines(legend: Legend, width: int) -> list[Picture]:
    """Draw the legend on one line if it fits there, and otherwise in columns of the same width."""
    if not legend:
        return []
    height = SWATCH[0]
    sizes = [picture.shape[1] + GAP + _text_width(text, _TEXT, _REGULAR) + _MARGIN for text, picture in legend]
    if sum(sizes) <= width - _MARGIN:
        columns, lefts = len(legend), [_MARGIN + sum(sizes[:number]) for number in range(len(legend))]
    else:
        columns = max(1, (width - _MARGIN) // max(sizes))
        lefts = [_MARGIN + column * max(sizes) for column in range(columns)]
    lines = [_blank(_LINE, width) for _ in range(-(-len(legend) // columns))]
    top = (_LINE - height) // 2
    for number, (text, picture) in enumerate(legend):
        line, left = lines[number // columns], lefts[number % columns]
        across = picture.shape[1]
        line[top : top + height, left : left + across] = picture
        _write(line, text, left + across + GAP, width - left - across - GAP)
    return lines


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), WHITE, dtype=np.uint8)


def _line(width: int, text: str, note: str = "", size: int = _TEXT, weight: int = _REGULAR) -> Picture:
    """Draw a strip with a text on the left and a note on the right."""
    strip = _blank(_LINE, width)
    taken = _text_width(note, size, weight) if note else 0
    if note:
        _write(strip, note, width - _MARGIN - taken, taken, size, weight)
    _write(strip, text, _MARGIN, width - 2 * _MARGIN - taken - GAP, size, weight)
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
