"""Folds of the tiles of train and val: how they are dealt, and what their models' scores show together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segtune.config import RunConfig
from segtune.data.folds import Folded, FoldTiles
from segtune.data.scan import Progress, Wanted
from segtune.errors import InputError, counted
from segtune.evaluation.grouping import FLAG, Grouping, find_groups, grouped_intervals
from segtune.evaluation.intervals import Interval, Intervals
from segtune.evaluation.measure import Measure
from segtune.evaluation.overlap import TileCounts
from segtune.remarks import Say, unheard


@dataclass(frozen=True)
class CrossValidated:
    """The score of each fold by the objective, and of all tiles together.

    The mean is that of the folds, as people report it. The deviation from fold to fold holds the chance of tiles and
    of trainings. It does not divide into the error of the mean, since folds share their training tiles (Bengio and
    Grandvalet 2004); the interval is therefore that of all tiles together.
    """

    objective: str
    scores: tuple[float, ...]  # by fold
    together: Interval  # of all tiles
    intervals: Intervals  # of mIoU and of each class, over all tiles
    drawn: str | None  # a line about what was drawn for them, where that matters

    @property
    def mean(self) -> float:
        """The mean score of the folds."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """The standard deviation of the score from fold to fold."""
        return statistics.stdev(self.scores)

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        own = {"objective": self.objective, "scores": list(self.scores), "mean": self.mean, "deviation": self.deviation}
        return own | {"together": asdict(self.together), "intervals": self.intervals.plain()}


def deal_folds(
    config: RunConfig,
    count: int,
    pattern: str | None,
    setting: str = FLAG,
    scored: str = "each is scored by a model of the others",
    channels: Sequence[str] | None = None,
    wanted: Iterable[Wanted] | None = None,
    progress: Progress | None = None,
    say: Say = unheard,
) -> tuple[Folded, Grouping]:
    """Deal the tiles of train and val to folds, so that no group is divided; return them, and the groups.

    Parameters
    ----------
    config: the run.
    count: the number of folds.
    pattern, setting: what names groups, and what sets it; see `find_groups`.
    scored: says to the user what the folds are for.
    channels, wanted, progress: see `scan`.
    say: gets lines on the folds, and those of the scan.

    Raises InputError where the pattern does not fit the names, and as `FoldTiles` does.
    """
    found = FoldTiles(config, channels)
    grouping = find_groups(found.tiles, pattern, setting).for_folds(count)
    folded = found.deal(count, grouping.groups, progress, say, wanted)
    lines = (
        grouping.together(),
        f"{counted(count, 'fold')} of {folded.sizes()}: {scored}",
        folded.unequal(),
        *folded.shared(setting),
    )
    for line in filter(None, lines):
        say(line)
    return folded, grouping


def cross_validated(
    folds: Sequence[int], counts: Sequence[TileCounts], measure: Measure, grouping: Grouping
) -> CrossValidated:
    """Return what folds showed.

    Parameters
    ----------
    folds: the fold of each tile, from 0.
    counts: what the model of each fold counted on the fold's tiles, in the order of the tiles.
    measure: what the score is.
    grouping: which of the tiles are drawn together.

    Raises InputError where a fold has no score, since a class that the measure needs occurs in none of its masks.
    """
    scores: list[float] = []
    for fold, own in enumerate(counts, start=1):
        if (score := measure.of(own)) is None:
            name = measure.objective.name
            raise InputError(f"fold {fold} of {len(counts)} has no {name}: its masks lack a class; take fewer folds")
        scores.append(score)
    of_fold_by_fold = np.argsort(folds, kind="stable")  # the tile at each place of all folds' tiles, one after another
    every = TileCounts.joined(counts).at(np.argsort(of_fold_by_fold))
    together, single = measure.interval(every, grouping.groups), measure.interval(every)
    assert together  # each fold has all classes that the objective names, so that two tiles or groups have them
    assert single
    intervals, _ = grouped_intervals(every, measure.classes, grouping)
    assert intervals  # there are at least two folds, each with a tile
    drawn = grouping.difference(together, single)
    return CrossValidated(measure.objective.name, tuple(scores), together, intervals, drawn)
