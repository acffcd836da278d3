"""Assign tiles to splits so that each split gets its share of the tiles and of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segtune.errors import InputError, counted

Floats = npt.NDArray[np.float64]

_JITTER = 0.5  # the order of units is drawn: by their weight times 1 to 1.5
_PASSES = 5  # over all units, at most


def assign(groups: Sequence[str], pixels: Sequence[Mapping[int, int]], shares: Sequence[float], seed: int) -> list[int]:
    """Return the split of each tile, by its position in `shares`; tiles of a group stay together.

    Parameters
    ----------
    groups: of each tile.
    pixels: the pixels of each label in each tile; empty for shares of the tiles alone.
    shares: of the splits; each is above 0, and their sum is 1.
    seed: other seeds give other splits.

    Each group goes where it brings the splits nearest to their shares: the least sum of squared differences, in units
    of the share, over the tiles and the pixels of each label. Groups that hold much of a label come first, so that the
    others even out what is left, as in the iterative stratification of Sechidis, Tsoumakas and Vlahavas 2011, "On the
    Stratification of Multi-label Data". Then single groups move as long as that helps.

    Raises InputError where there are fewer groups than splits.
    """
    units = list(dict.fromkeys(groups))
    if len(units) < len(shares):
        raise InputError(
            f"--shares: {counted(len(shares), 'split')} need as many groups of tiles, but there are {len(units)}; use "
            f"smaller groups or fewer splits"
        )
    held = _held(groups, units, pixels)
    random = np.random.default_rng(seed)
    order = np.argsort(-held.max(axis=1) * random.uniform(1, 1 + _JITTER, len(units)), kind="stable")
    wanted = np.array(shares)[:, None]
    have = np.zeros((len(shares), held.shape[1]))  # of the whole, (splits, tiles and labels)
    split_of = np.zeros(len(units), np.int_)
    empty = np.ones(len(shares), bool)
    for left, unit in zip(range(len(units), 0, -1), order, strict=True):
        worse = _change(have, held[unit], wanted)
        if left == empty.sum():  # each of the last groups goes to a split without one
            worse[~empty] = np.inf
        split_of[unit] = worse.argmin()
        empty[split_of[unit]] = False
        have[split_of[unit]] += held[unit]
    _move(split_of, held, have, wanted, order)
    number = {unit: place for place, unit in enumerate(units)}
    return [int(split_of[number[group]]) for group in groups]


def _change(have: Floats, unit: Floats, wanted: Floats) -> Floats:
    """Return by how much the differences from the shares grow when a unit goes to each split."""
    return ((unit**2 + 2 * unit * (have - wanted)) / wanted).sum(axis=1)


def _move(
    split_of: npt.NDArray[np.int_], held: Floats, have: Floats, wanted: Floats, order: npt.NDArray[np.int_]
) -> None:
    """Move single units to other splits, in place, as long as that brings the splits nearer to their shares."""
    for _ in range(_PASSES):
        moved = False
        for unit in order:
            own = split_of[unit]
            have[own] -= held[unit]
            better = int(_change(have, held[unit], wanted).argmin())
            if better != own and np.count_nonzero(split_of == own) > 1:
                split_of[unit], moved = better, True
            have[split_of[unit]] += held[unit]
        if not moved:
            return


def _held(groups: Sequence[str], units: Sequence[str], pixels: Sequence[Mapping[int, int]]) -> Floats:
    """Return the shares of all tiles, and of all pixels of each label, that each unit holds: (units, 1 + labels)."""
    labels = sorted({label for one in pixels for label in one})
    place = {label: column for column, label in enumerate(labels, start=1)}
    number = {unit: row for row, unit in enumerate(units)}
    found = np.zeros((len(units), 1 + len(labels)))
    for group, counts in zip(groups, pixels, strict=True):
        found[number[group], 0] += 1
        for label, count in counts.items():
            found[number[group], place[label]] += count
    return found / np.maximum(found.sum(axis=0), 1)
