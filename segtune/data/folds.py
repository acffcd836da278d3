"""Folds: parts of the training and validation tiles, each of which validates a model that is trained on the others.

Every tile is scored once, by a model that has not seen it: cross-validation (Stone 1974).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.diagnosis import Finding
from segtune.data.exclusion import exclusion_lines
from segtune.data.fast_check import fast_findings
from segtune.data.findings import TileFacts
from segtune.data.scan import Progress, Wanted, bands_of, scan
from segtune.data.splits import find_data_set
from segtune.data.statistics import Moments
from segtune.data.tiles import TRAIN, VAL, Split, Tile
from segtune.errors import InputError, counted, first_few
from segtune.objectives import Objective
from segtune.remarks import Say, unheard

_SEED = 0  # the same for all runs: configurations are compared on the same folds
_SHARED = {  # kinds of leaks, and what to say of their tiles
    "duplicate": "hold the same pixels as",
    "same_place": "show the same place as",
    "overlap": "overlap on the ground with",
}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Folded:
    """The tiles of train and val, the fold of each, and what each fold's run trains and validates on."""

    names: tuple[str, ...]  # split/name
    folds: tuple[int, ...]  # of each tile, from 0
    infos: tuple[DataInfo, ...]  # by fold: it validates, all others train
    leaks: tuple[Finding, ...] = ()  # files and places that folds share

    def unequal(self) -> str | None:
        """Return a line where one fold has more than twice as many tiles as another one; None elsewhere."""
        numbers = sorted(Counter(self.folds).values())
        if numbers[-1] <= 2 * numbers[0]:
            return None
        return "warning: folds differ much in size, since groups stay whole; with fewer folds they may differ less"

    def sizes(self) -> str:
        """Say how many tiles a fold has: "18 tiles", or "17 to 18 tiles"."""
        numbers = sorted(Counter(self.folds).values())
        few = "" if numbers[0] == numbers[-1] else f"{numbers[0]} to "
        return f"{few}{counted(numbers[-1], 'tile')}"

    def shared(self, setting: str) -> list[str]:
        """Return a line about each kind of copies that folds share; `setting` is what keeps tiles together.

        Neighbours are not told again: what groups the tiles says what it knows of them.
        """
        lines = []
        for kind, what in _SHARED.items():
            found = (pair for leak in self.leaks if leak.kind == kind for pair in leak.pairs)
            pairs = sorted(tuple(sorted(name.partition("/")[2] for name in pair)) for pair in found)
            if pairs:
                number, listed = len({name for pair in pairs for name in pair}), first_few(map(" and ".join, pairs), 3)
                lines.append(
                    f"warning: {number} of the {counted(len(self.names), 'tile')} {what} a tile of another fold "
                    f"({listed}), so scores are too good; {setting} keeps tiles together"
                )
        return lines


class FoldTiles:
    """The tiles of train and val that are dealt to folds; finding them reads no pixels.

    `channels` are the extra channels to read; None for those of the run.

    Raises InputError where the data set is not sound, or where the run is scored on other tiles.
    """

    def __init__(self, config: RunConfig, channels: Sequence[str] | None = None) -> None:
        if config.use_only_add_val:
            raise InputError("use_only_add_val: folds are scored on the tiles of train and val; leave it out")
        self._config, self._channels = config, tuple(config.channels if channels is None else channels)
        self._sets = find_data_set(config, self._channels)

    @property
    def tiles(self) -> list[Tile]:
        """The tiles, with their names in their own splits."""
        return [tile for split in (TRAIN, VAL) for tile in self._sets[split]]

    def scan(
        self, progress: Progress | None = None, wanted: Iterable[Wanted] | None = None, say: Say = unheard
    ) -> DataInfo:
        """Scan all tiles as those of train, and as those of val; see `scan`."""
        joined = Split.joined({split: self._sets[split] for split in (TRAIN, VAL)})
        return scan(self._config, self._channels, progress, wanted, say, self._sets | {TRAIN: joined, VAL: joined})

    def deal(
        self,
        count: int,
        groups: Sequence[Hashable] | None = None,
        progress: Progress | None = None,
        say: Say = unheard,
        wanted: Iterable[Wanted] | None = None,
    ) -> Folded:
        """Scan the tiles, deal them to folds, and return what each fold's run trains and validates on.

        Tiles are decoded once for all folds. Every fold normalizes with the statistics of its own training tiles.

        Parameters
        ----------
        count: the number of folds.
        groups: the group of each of `tiles`; a group is never divided. None: each tile on its own.
        progress, say, wanted: see `scan`.

        Raises InputError where there are fewer tiles, or groups, than folds, and as `scan` does.
        """
        config = self._config
        units = len(set(groups)) if groups is not None else len(self.tiles)
        if units < count:
            what = "tile" if groups is None else "group"
            raise InputError(f"{config.dataset}: {count} folds need as many {what}s, but there are {units}")
        for line in exclusion_lines(self._sets[split].excluded for split in (TRAIN, VAL)):
            say(line)
        every = self.scan(progress, wanted, say)
        joined = every.tiles[TRAIN]
        found = every.each
        amounts = [[1.0, *(tile.labels.get(label, 0) for label in config.classes)] for tile in found]
        folds = _deal(np.array(amounts), groups, count)
        _check_scored(found, folds, config, every)
        for line in _absent(found, folds, config, every):
            say(line)
        infos = tuple(_info(every, found, folds, fold, config.dataset) for fold in range(count))
        numbered = list(zip(joined, folds, strict=True))
        parts = {f"fold {fold + 1}": [tile for tile, own in numbered if own == fold] for fold in range(count)}
        return Folded(joined.names, tuple(folds), infos, tuple(fast_findings(parts)))


def _deal(amounts: Floats, groups: Sequence[Hashable] | None, count: int) -> list[int]:
    """Return the fold of each tile, such that folds hold alike numbers of tiles and of pixels of each class.

    Groups, those with the largest share of anything first, go one by one to the fold that holds least of what they
    hold. `amounts` are the numbers of each tile, (tiles, columns).
    """
    positions: dict[Hashable, int] = {}
    own = range(len(amounts)) if groups is None else groups
    units = np.array([positions.setdefault(group, len(positions)) for group in own])
    sums = np.zeros((len(positions), amounts.shape[1]))
    np.add.at(sums, units, amounts)
    shares = sums / np.maximum(sums.sum(axis=0), 1)
    order = np.random.default_rng(_SEED).permutation(len(shares))
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    held, fold_of = np.zeros((count, shares.shape[1])), np.zeros(len(shares), dtype=np.int64)
    for unit in order:
        fold_of[unit] = fold = int(np.argmin(held @ shares[unit]))
        held[fold] += shares[unit]
    found: list[int] = fold_of[units].tolist()
    return found


def _info(every: DataInfo, found: Sequence[TileFacts], folds: Sequence[int], fold: int, dataset: str) -> DataInfo:
    """Return what the run of a fold trains and validates on, as a scan of these tiles alone would tell it."""
    picked = {
        TRAIN: tuple(position for position, own in enumerate(folds) if own != fold),
        VAL: tuple(position for position, own in enumerate(folds) if own == fold),
    }
    moments: Moments | None = None
    for position in picked[TRAIN]:
        if own := found[position].moments:
            moments = moments.merge(own) if moments else own
    known = repr((every.fingerprint, list(folds), fold))
    return replace(
        every,
        counts=dict(every.counts) | {split: len(positions) for split, positions in picked.items()},
        left_out={},
        pixels=dict(every.pixels) | {split: _pixels(found, positions) for split, positions in picked.items()},
        holders={
            label: tuple(i for i, position in enumerate(picked[TRAIN]) if label in found[position].labels)
            for label in every.holders
        },
        bands=bands_of(moments, [band.name for band in every.bands], dataset),
        fingerprint=hashlib.blake2b(known.encode(), digest_size=6).hexdigest(),
        scanned=every.fingerprint,
        picked=picked,
        each=(),
    )


def _pixels(found: Sequence[TileFacts], positions: Sequence[int]) -> Mapping[int, int]:
    total: Counter[int] = Counter()
    for position in positions:
        total.update(found[position].labels)
    return dict(sorted(total.items()))


def _check_scored(found: Sequence[TileFacts], folds: Sequence[int], config: RunConfig, every: DataInfo) -> None:
    """Raise InputError where a fold holds no pixel of any class, or none of a class that the objective names."""
    named = Objective.of(config.objective).labels
    for fold in sorted(set(folds)):
        own = {label for tile, other in zip(found, folds, strict=True) if other == fold for label in tile.labels}
        missing = [label for label in named if label not in own]
        if missing or not own & set(config.classes):
            what = f"class {every.labels.text(missing[0])}, which objective needs" if missing else "any class"
            raise InputError(
                f"{config.dataset}: fold {fold + 1} of {len(set(folds))} has no pixel of {what}; take fewer folds"
            )


def _absent(found: Sequence[TileFacts], folds: Sequence[int], config: RunConfig, every: DataInfo) -> list[str]:
    """Return a line about each class that some folds lack: their scores leave it out, or are 0 for it."""
    lines = []
    for label in config.classes:
        holding = {fold for fold, tile in zip(folds, found, strict=True) if label in tile.labels}
        missing = sorted(set(folds) - holding)
        if missing and holding:
            which = ", ".join(str(fold + 1) for fold in missing)
            alone = f"; fold {min(holding) + 1} trains without it" if len(holding) == 1 else ""
            name = every.labels.text(label)
            lines.append(f"warning: class {name} is in no tile of fold {which}, whose score leaves it out{alone}")
    return lines
