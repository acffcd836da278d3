"""Tiles as pictures: what augmentation does to them, and which ones a model gets wrong.

Every run of a search draws its worst tiles, so a sheet takes milliseconds: OpenCV alone draws, no plotting library.
A picture is (H, W, 3), uint8, red, green, blue. Masks are indices as in `data.labels`: 0 is background, 1 to K are
the classes in their order, 255 is ignored.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.labels import IGNORED, Band, Indices, Labels
from segtune.errors import InputError
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.files.atomic import replaced_file

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_MOST_ROWS = 64  # of a sheet of previews
CELL = 256  # width in pixels of a tile on a sheet
_TALLEST = 2.0  # height of a tile on a sheet, at most, in widths
_MARGIN, _GAP = 16, 8  # around a sheet, and between its cells
_LINE, _TEXT, _TITLE = 24, 15, 19  # height of a line, and sizes of its text and of a title's, in pixels
_BASELINE = 17  # from the top of a line
_SWATCH = (14, 22)  # height and width of a colour in the legend
_FEW = 20  # classes; a legend lists so many even where they are not seen
_REGULAR, _BOLD = 400, 600
_WHITE, _INK, _GREY = (255, 255, 255), (32, 32, 32), (110, 110, 110)
_WRONG = (255, 0, 0)

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
    distance = np.min([_unlike(grid, colour) for colour in (*_OKABE_ITO, (0, 0, 0), _WHITE, _WRONG)], axis=0)
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


# Tiles


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
    return _tinted(grey, wrong, (_WRONG,), opacity=0.8, outlined=False)


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
    _hatch(tinted, nearest == IGNORED)
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


def _hatch(picture: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> None:
    """Grey with light diagonal lines, which can be seen on dark and on bright ground; changes the picture itself."""
    rows, columns = np.nonzero(where)
    lines = np.where((rows + columns) % 8 < 2, 235, 95).astype(np.float32)
    picture[where] = 0.25 * picture[where] + 0.75 * lines[:, None]


# The worst tiles of a split


@dataclass(frozen=True)
class WorstTile:
    """A tile among those that a model gets most wrong."""

    score: float
    index: int  # the tile's position in its split
    predicted: Indices  # (H, W)


class Worst:
    """The `count` tiles with the lowest scores of those seen; never holds more predictions than that."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tiles: list[WorstTile] = []

    def add(self, score: float, index: int, predicted: Indices) -> None:
        """Show it a tile: its score, its position in the split, and its predicted indices, (H, W)."""
        place = bisect_right(self._tiles, (score, index), key=lambda tile: (tile.score, tile.index))
        if place < self._count:
            # A copy: what was predicted may be a view of a whole batch.
            self._tiles.insert(place, WorstTile(score, index, predicted.copy()))
            del self._tiles[self._count :]

    def tiles(self) -> list[WorstTile]:
        """The worst tile first; of equal ones, the one that comes first in the split."""
        return list(self._tiles)


def wrong_pixels(predicted: Indices, truth: Indices) -> int:
    """Pixels of a tile, (H, W), that were predicted wrong, without those that are ignored: what it costs the score."""
    return int(np.count_nonzero((predicted != truth) & (truth != IGNORED)))


def tile_iou(predicted: Indices, truth: Indices, classes: int) -> float | None:
    """Mean IoU over the classes that occur in one tile, in its truth or in what was predicted.

    Both are (H, W), with indices up to `classes`; pixels whose truth is ignored do not count. A class that was
    predicted where it does not occur counts 0 here, unlike in the score of a split: false alarms are mistakes worth
    looking at. None where there is nothing but background in both.
    """
    matrix = ConfusionMatrix(range(1, classes + 1))
    matrix.update(predicted, truth)
    hits = np.diag(matrix.counts)
    union = matrix.counts.sum(axis=0) + matrix.counts.sum(axis=1) - hits
    occurring = np.flatnonzero(union[1:]) + 1  # without background
    return float(np.mean(hits[occurring] / union[occurring])) if len(occurring) else None


# Sheets


@dataclass(frozen=True)
class Preview:
    """A row of `preview_sheet`: a tile before and after augmentation. Masks may differ from pictures in size."""

    name: str
    picture: Picture
    mask: Indices
    augmented: Picture
    augmented_mask: Indices


@dataclass(frozen=True)
class Prediction:
    """A row of `worst_sheet`: a tile and what was predicted for it.

    `truth` and `predicted` have one size; the picture, which may be the square that the network saw, is drawn in
    their aspect.
    """

    name: str
    iou: float
    picture: Picture
    truth: Indices
    predicted: Indices


def check_preview(count: int) -> None:
    """InputError for a number of tiles that fits on no sheet."""
    if not 1 <= count <= _MOST_ROWS:
        raise InputError(f"--preview-augmentation: must be between 1 and {_MOST_ROWS} tiles, but got {count}")


def preview_sheet(rows: Sequence[Preview], labels: Labels, level: str, cell: int = CELL) -> Picture:
    """What an augmentation level does: a row per tile, `cell` pixels wide each time, with and without its mask.

    Raises ValueError where there is no row.
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
    """Tiles beside their truth and what was predicted, and, with `with_difference`, where the two differ.

    Each is drawn `cell` pixels wide. Raises ValueError where there is no row.
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
        legend.append(("wrong", np.full((*_SWATCH, 3), _WRONG, dtype=np.uint8)))
    return _sheet(title, legend, columns, drawn, cell)


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture, whole or not at all, to a path that may hold any characters; raises OSError on failure."""
    try:
        data = encoded(picture, ".png")
    except ValueError as error:
        raise OSError(f"{path}: {error}") from None
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)


def encoded(picture: Picture, suffix: str) -> bytes:
    """A picture as the bytes of a file of this suffix, .png or .jpg; ValueError where that cannot be."""
    try:
        written, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:  # an empty picture; one that is too large is not written
        written = False
    if not written:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as {suffix[1:].upper()}")
    return data.tobytes()


@dataclass(frozen=True)
class _Row:
    name: str
    note: str  # stands on the right
    cells: Sequence[Picture]


_Legend = list[tuple[str, Picture]]  # a text, and the swatch that it explains


def _sheet(title: str, legend: _Legend, columns: Sequence[str], rows: Sequence[_Row], cell: int) -> Picture:
    """Strips of one width, one below the other: title, legend, the columns' names, and a caption before each row."""
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
    """A picture in the aspect of a mask of this shape, (h, w), as large as fits a cell."""
    height, width = shape
    scale = min(cell / width, _TALLEST * cell / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrinks = size[0] < picture.shape[1] and size[1] < picture.shape[0]
    fitted: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return fitted


def _cells(pictures: Sequence[Picture], cell: int) -> Picture:
    """Pictures side by side, each in the middle of its cell."""
    width = len(pictures) * cell + (len(pictures) - 1) * _GAP + 2 * _MARGIN
    strip = _blank(max(len(picture) for picture in pictures), width)
    for number, picture in enumerate(pictures):
        left = _MARGIN + number * (cell + _GAP) + (cell - picture.shape[1]) // 2
        top = (len(strip) - len(picture)) // 2
        strip[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return strip


def _legend(labels: Labels, masks: Sequence[Indices]) -> _Legend:
    """The classes by their labels in the masks, of many only those that are seen; and hatching, where it is seen."""
    seen = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0) > 0
    colours = palette(len(labels.classes))
    entries: _Legend = [
        (f"class {label}", np.full((*_SWATCH, 3), colour, dtype=np.uint8))
        for index, (label, colour) in enumerate(zip(labels.classes, colours, strict=True), start=1)
        if seen[index] or len(colours) <= _FEW
    ]
    if seen[IGNORED]:
        hatched = np.full((*_SWATCH, 3), 128, dtype=np.float32)
        _hatch(hatched, np.ones(_SWATCH, dtype=bool))
        entries.append(("ignored", hatched.astype(np.uint8)))
    return entries


def _legend_lines(legend: _Legend, width: int) -> list[Picture]:
    """The legend in columns, on as many lines as it takes."""
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


# Text


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), _WHITE, dtype=np.uint8)


def _line(width: int, text: str, note: str = "", size: int = _TEXT, weight: int = _REGULAR) -> Picture:
    """A strip with a text on the left and a note on the right."""
    strip = _blank(_LINE, width)
    taken = _text_width(note, size, weight) if note else 0
    if note:
        _write(strip, note, width - _MARGIN - taken, taken, size, weight)
    _write(strip, text, _MARGIN, width - 2 * _MARGIN - taken - _GAP, size, weight)
    return strip


def _write(
    strip: Picture, text: str, left: int, room: int, size: int = _TEXT, weight: int = _REGULAR, colour: Colour = _INK
) -> None:
    """Write on a strip, the middle left out where there is not room enough."""
    text = _printable(text)
    shown = text
    while _text_width(shown, size, weight) > room and len(text) > 2:
        middle = len(text) // 2
        text = text[:middle] + text[middle + 1 :]
        shown = f"{text[: len(text) // 2]}…{text[len(text) // 2 :]}"
    # A variable font keeps its weight, so each text has a face of its own; it costs microseconds.
    cv2.putText(strip, shown, (left, _BASELINE), colour, cv2.FontFace("sans"), size, weight)


def _text_width(text: str, size: int, weight: int) -> int:
    box = cv2.getTextSize((0, 0), _printable(text), (0, 0), cv2.FontFace("sans"), size, weight)
    return int(box[0] + box[2])


def _printable(text: str) -> str:
    """A file's name as OpenCV can draw it: its letters composed, and nothing that is not a character.

    A name that is not valid UTF-8 holds lone surrogates in Python; given one, OpenCV 5.0 ends the process.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in unicodedata.normalize("NFC", text))
