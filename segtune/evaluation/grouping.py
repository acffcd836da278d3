"""Which tiles of a split are drawn together for intervals: those of one scene, by their names or by their places."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segtune.data.footprints import patches, read_footprints
from segtune.data.tiles import Tile
from segtune.errors import InputError, first_few
from segtune.evaluation.intervals import Interval, Intervals, bootstrap, tile_groups
from segtune.evaluation.overlap import TileCounts

By = Literal["names", "places"]

FLAG = "--group"
# Names that tell row and column, or offsets, in a scene; the first pattern that fits all names is suggested.
_SCENES = (r"(.+)_r\d+_c\d+", r"(.+)_row\d+_col\d+", r"(.+)_x\d+_y\d+", r"(.+)_\d+_\d+", r"(.+)-\d+-\d+")
_ALIKE = 0.05  # a width that differs by a smaller share from that of single tiles is not worth a word


@dataclass(frozen=True)
class Grouping:
    """The group of each tile; None where tiles are drawn one by one."""

    groups: tuple[str, ...] | None = None
    by: By | None = None
    remark: str | None = None  # a line for the user where it is not known which tiles belong together

    def for_folds(self, count: int) -> Grouping:
        """Return the grouping for so many folds: places that are fewer are not kept together, and a remark says so."""
        if self.by != "places" or len(set(self.groups or ())) >= count:
            return self
        return Grouping(
            remark=f"warning: tiles of {self._counted()} cannot fill {count} folds, so tiles are dealt one by one: "
            "neighbours in different folds make scores too good"
        )

    def together(self) -> str | None:
        """Return a line about what stays in one fold, or what could be done where that is not known; None for none."""
        return self.remark if self.groups is None else f"tiles of {self._counted()} stay together"

    def difference(self, grouped: Interval, single: Interval, what: str = "the interval") -> str | None:
        """Return a line that says how much wider an interval is than from single tiles; None where it hardly is."""
        if self.groups is None or single.high <= single.low:
            return None
        times = (grouped.high - grouped.low) / (single.high - single.low)
        if abs(times - 1) < _ALIKE:
            return None
        return (
            f"tiles of {self._counted()} are drawn together: {what} is {times:.1f} times as wide as from single tiles"
        )

    def _counted(self) -> str:
        kind = "scenes" if self.by == "names" else "places (neighbours on the ground)"
        return f"{len(set(self.groups or ()))} {kind}"


def find_groups(tiles: Sequence[Tile], pattern: str | None = None, setting: str = FLAG) -> Grouping:
    """Return which tiles are drawn together: by a pattern for their names, or else by where their images lie.

    Tiles that touch or overlap on the ground, directly or by others, belong together. Where all tiles do, or where
    places are not known, each is drawn on its own, and a remark says what could be done.

    Parameters
    ----------
    tiles: in the order in which they were measured.
    pattern: a regular expression whose first parentheses match the scene in a name.
    setting: what sets the pattern, as the user knows it.

    Raises InputError where the pattern does not fit the names, and where an image cannot be read.
    """
    names = [tile.name for tile in tiles]
    if pattern is not None:
        return groups_by_name(names, pattern, setting)
    found = patches(read_footprints([tile.image for tile in tiles]))
    count = len(set(found))
    if 1 < count < len(found):
        return Grouping(tuple(map(str, found)), "places")
    if line := _suggestion(names, setting):
        return Grouping(remark=line)
    if count == 1 < len(found):
        return Grouping(
            remark="all tiles are neighbours on the ground, so that their places do not tell scenes apart: tiles are "
            f"drawn one by one; {setting} names scenes"
        )
    return Grouping()


def groups_by_name(names: Sequence[str], pattern: str, setting: str = FLAG) -> Grouping:
    """Return the groups that a pattern finds in names; InputError, naming the setting, where it does not fit them."""
    try:
        return Grouping(tuple(tile_groups(names, pattern)), "names")
    except InputError as error:
        raise InputError(line.replace(FLAG, setting, 1) for line in error.mistakes) from None


def grouped_intervals(
    counts: TileCounts, classes: Sequence[int], grouping: Grouping
) -> tuple[Intervals | None, str | None]:
    """Return the intervals of a split, and a line about what was drawn where that matters; None for a single tile.

    Raises InputError where there is one group alone.
    """
    if len(counts) < 2:
        return None, None
    found = bootstrap(counts, classes, grouping.groups)
    if grouping.groups is None:
        return found, grouping.remark
    return found, grouping.difference(found.miou, bootstrap(counts, classes).miou)


def suggested_pattern(names: Sequence[str]) -> str | None:
    """Return a pattern for the scene in names; None where not all names have one, or not two scenes several tiles."""
    for pattern in _SCENES:
        matches = [re.fullmatch(pattern, name) for name in names]
        sizes = Counter(match[1] for match in matches if match)
        if all(matches) and sum(size > 1 for size in sizes.values()) > 1:
            return pattern
    return None


def _suggestion(names: Sequence[str], setting: str) -> str | None:
    pattern = suggested_pattern(names)
    if pattern is None:
        return None
    scenes = dict.fromkeys(tile_groups(names, pattern))
    return (
        f"tiles are drawn one by one, and names look like those of {len(scenes)} scenes ({first_few(scenes, 3)}): "
        f"{setting} '{pattern}' draws tiles of one scene together"
    )
