"""Where tiles lie in a scene, what they are called, and which of them are cut together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LASTS = ("shift", "pad")  # what becomes of the last row and column of tiles
TILE_NAME = re.compile(r"(?P<scene>.+)_r(?P<row>\d+)_c(?P<column>\d+)")
_DIGITS = 4  # of a row or a column in a name, at least


@dataclass(frozen=True)
class Window:
    """A tile's place in its scene, in pixels."""

    top: int
    left: int
    name: str  # of the tile: SCENE_r0512_c1024, its scene, its first row and its first column


def starts(length: int, size: int, stride: int, last: str) -> list[int]:
    """Return where tiles of `size` pixels begin along a side of `length` pixels, every `stride` pixels.

    What they leave at the end is covered by one more: shifted back so that it ends there (`last` is shift), or at its
    place in the grid, so that it reaches beyond (pad).
    """
    found = list(range(0, max(1, length - size + 1), stride))
    following = found[-1] + stride
    if found[-1] + size < length and following < length:
        found.append(length - size if last == "shift" else following)
    return found


def windows(scene: str, shape: tuple[int, int], tops: Sequence[int], lefts: Sequence[int]) -> list[list[Window]]:
    """Return the tiles of a scene of this height and width, row by row."""
    digits = max(_DIGITS, len(str(max(shape))))
    return [[Window(top, left, f"{scene}_r{top:0{digits}d}_c{left:0{digits}d}") for left in lefts] for top in tops]


def chunks(rows: Sequence[Sequence[Window]], size: int, most: int) -> list[list[Window]]:
    """Group the tiles of a scene into parts of at most `most` pixels, and of one tile at least, to be read together.

    A part is as wide as possible first: files are often stored in rows.
    """
    lefts, tops = [window.left for window in rows[0]], [row[0].top for row in rows]
    columns = _groups(lefts, size, most // size)
    width = max(lefts[last - 1] - lefts[first] + size for first, last in columns)
    return [
        [window for row in rows[top:bottom] for window in row[left:right]]
        for top, bottom in _groups(tops, size, most // width)
        for left, right in columns
    ]


def _groups(places: Sequence[int], size: int, most: int) -> list[tuple[int, int]]:
    """Return the first and the end of groups of tiles that cover at most `most` pixels of a side, or are alone."""
    ends = [0]
    for number in range(1, len(places)):
        if places[number] - places[ends[-1]] + size > most:
            ends.append(number)
    return list(zip(ends, [*ends[1:], len(places)], strict=True))
