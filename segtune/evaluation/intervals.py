"""Say how far scores would move with other tiles: bootstrap intervals, and the comparison of two models.

Tiles, or groups of tiles, are drawn again and again with replacement, as many as there are. Each draw is scored as a
whole split is, and 95% of the scores lie in the interval: the percentile interval of Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", chapter 13. It tells of the choice of tiles alone, not of the seed of the training.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segtune.data.labels import BACKGROUND
from segtune.errors import InputError, counted, first_few
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import Counts, Floats, Overlap, TileCounts

_DRAWS, _SEED = 2000, 0
_LIMITS = (2.5, 97.5)  # percent
FEW = 10  # tiles or groups: below, the interval is too narrow
_EXAMPLE = r"scene_(\d+)"
_AT_ONCE = 1_000_000  # tiles or groups that are drawn at once, to keep memory small


@dataclass(frozen=True)
class Interval:
    """A score, or a difference of two, and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """The intervals of mIoU and of each class by its label, as text.

    A class has none (None) if it occurs in fewer than two tiles, or groups.
    """

    miou: Interval
    iou: dict[str, Interval | None]
    tiles: int
    groups: int | None  # None if tiles were drawn

    def basis(self) -> str:
        """Return what was drawn: "54 tiles", or "54 tiles in 12 groups"."""
        text = counted(self.tiles, "tile")
        return text if self.groups is None else f"{text} in {counted(self.groups, 'group')}"

    def remarks(self) -> list[str]:
        """Return a line if there are so few tiles or groups that the intervals are too narrow."""
        units, noun = (self.tiles, "tile") if self.groups is None else (self.groups, "group")
        if units >= FEW:
            return []
        return [f"warning: {counted(units, noun)} are few, which makes intervals too narrow; take at least {FEW}"]

    def plain(self) -> dict[str, Any]:
        """Return the intervals as they stand in metrics.json."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison(Intervals):
    """The intervals of the difference of two models on the same tiles: the first one's scores minus the other's."""

    names: tuple[str, str]

    def sentence(self) -> str:
        """Return the result as one sentence."""
        first, second = self.names
        value, low, high = self.miou.value, self.miou.low, self.miou.high
        if high < 0:
            first, second, value, low, high = second, first, -value, -high, -low
        interval = f"95% interval {low:z.3f} to {high:z.3f}, {self.basis()}"
        if low > 0:
            return f"{first} is better than {second} by {value:.3f} mIoU ({interval})."
        difference = f"{first} minus {second}: {value:z.3f} mIoU"
        return f"No difference can be shown between {first} and {second} ({difference}, {interval})."

    def plain(self) -> dict[str, Any]:
        """Return the comparison as it stands in metrics.json."""
        return super().plain() | {"names": list(self.names), "sentence": self.sentence()}


def bootstrap(tiles: TileCounts, classes: Sequence[int], groups: Sequence[Hashable] | None = None) -> Intervals:
    """Return the 95% intervals of mIoU and of the IoU of each class.

    Parameters
    ----------
    tiles: the numbers of pixels of each tile.
    classes: the labels of the K classes.
    groups: the group of each tile, such as its scene; tiles of one scene are alike, and are drawn together. Without
        groups, each tile is drawn on its own.

    Raises InputError if there are fewer than two tiles, or groups, and ValueError if no class occurs.
    """
    units = units_of(tiles, groups)
    drawn = drawn_iou(units)
    miou, iou = _scores(units)
    return Intervals(*_intervals(miou, iou, drawn, units, classes), *_sizes(tiles, units, groups))


def compare(
    names: tuple[str, str],
    tiles: tuple[TileCounts, TileCounts],
    classes: Sequence[int],
    groups: Sequence[Hashable] | None = None,
) -> Comparison:
    """Return how two models differ on the same tiles, with intervals from draws of tiles that are common to both.

    What makes a tile hard for both models falls out of the difference. Its interval is therefore narrower than those of
    the two scores. Arguments and errors are those of `bootstrap`; both models have the tiles in one order.
    """
    if len(tiles[0]) != len(tiles[1]):
        first, second = map(len, tiles)
        raise ValueError(f"two models are compared on the same tiles, but there are {first} and {second} tiles")
    units = [units_of(counts, groups) for counts in tiles]
    drawn = np.subtract(*map(drawn_iou, units))  # the same draws, because the seed is the same
    (miou, iou), (other_miou, other_iou) = map(_scores, units)
    found = _intervals(miou - other_miou, iou - other_iou, drawn, units[0], classes)
    return Comparison(*found, *_sizes(tiles[0], units[0], groups), names)


def tile_groups(names: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each tile: what the first parentheses of a regular expression match in its name.

    Raises InputError, naming --group, if the pattern is not sound, does not match every name, or finds one group alone.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group: {pattern!r} is not a regular expression ({error.msg})") from error
    if not expression.groups:
        raise InputError(
            f"--group: {pattern!r} has no parentheses; put them around the part of a tile's name that names its scene, "
            f"such as {_EXAMPLE!r}"
        )
    matches = [expression.search(name) for name in names]
    groups = [match[1] if match else None for match in matches]
    strange = [name for name, group in zip(names, groups, strict=True) if group is None]
    if strange:
        raise InputError(
            f"--group: {pattern!r} does not match {len(strange)} of {counted(len(names), 'tile')}: {first_few(strange)}"
        )
    found = [group for group in groups if group is not None]
    if len(set(found)) == 1:
        raise InputError(
            f"--group: {pattern!r} puts all {counted(len(names), 'tile')} into one group, {found[0]!r}; "
            "intervals need at least 2"
        )
    return found


def units_of(tiles: TileCounts, groups: Sequence[Hashable] | None) -> TileCounts:
    """Return the numbers of each unit that is drawn: of a tile, or the sum of a group's.

    Raises InputError if there are fewer than two.
    """
    units = tiles if groups is None else tiles.grouped(groups)
    if len(units) < 2:
        noun = "tiles" if groups is None else "groups of tiles"
        raise InputError(f"an interval needs at least 2 {noun}, but there is {len(units)}")
    return units


def _scores(units: TileCounts) -> tuple[float, Floats]:
    """Return mIoU, and the IoU of each class or NaN, of all units together."""
    total = units.total()
    miou = mean_iou(total)
    if miou is None:
        raise ValueError("none of the classes occurs in the masks")
    return miou, total.iou()[BACKGROUND + 1 :]


def drawn_iou(units: TileCounts) -> Floats:
    """Return the IoU of each class in every draw, (draws, K); NaN where it does not occur in the draw."""
    return drawn_overlap(units.numbers).iou()


def drawn_overlap(numbers: Counts) -> Overlap:
    """Return the sums of the pixels of each class in every draw, each (draws, K), from numbers of units as TileCounts.

    The draws are the same ones for all numbers of as many units, so for all models that are measured on them.
    """
    columns = numbers[..., BACKGROUND + 1 :]
    flat = columns.reshape(len(numbers), -1).astype(np.float64)
    random, count = np.random.default_rng(_SEED), len(numbers)
    at_once = max(1, _AT_ONCE // count)
    found = []
    for first in range(0, _DRAWS, at_once):
        draws = min(at_once, _DRAWS - first)
        picked = random.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
        times = np.bincount(picked.ravel(), minlength=draws * count).reshape(draws, count)
        sums = (times.astype(np.float64) @ flat).reshape(draws, *columns.shape[1:])
        found.append(sums.transpose(1, 0, 2))
    return Overlap(*np.concatenate(found, axis=1))


def _intervals(
    miou: float, iou: Floats, drawn: Floats, units: TileCounts, classes: Sequence[int]
) -> tuple[Interval, dict[str, Interval | None]]:
    """Return the interval of the mean over the classes, and of each class, around values of the whole split."""
    holding = (units.overlap.truth[:, BACKGROUND + 1 :] > 0).sum(axis=0)  # units that hold each class
    by_label = {
        str(label): interval_of(float(value), column) if number > 1 else None
        for label, value, column, number in zip(classes, iou, drawn.T, holding, strict=True)
    }
    scored = drawn[~np.isnan(drawn).all(axis=1)]  # a draw may hold no class at all
    return interval_of(miou, np.nanmean(scored, axis=1)), by_label


def interval_of(value: float, drawn: Floats) -> Interval:
    """Return the 95% interval of a score from its values in the draws, (draws); NaN in those without a score."""
    low, high = np.nanpercentile(drawn, _LIMITS)
    return Interval(value, float(low), float(high))


def _sizes(tiles: TileCounts, units: TileCounts, groups: Sequence[Hashable] | None) -> tuple[int, int | None]:
    return len(tiles), None if groups is None else len(units)
