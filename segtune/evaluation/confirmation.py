"""Compare configurations that were trained with several seeds each: which is the best, and how sure is that?

A mean over seeds moves with the seeds, and all means move with the tiles. The tiles are common to all configurations,
so that what makes a tile hard for all of them falls out of a difference; they are drawn as in `intervals`. The seeds
are not: the deviation from seed to seed is taken to be that of one normal distribution for all configurations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from segtune.errors import counted
from segtune.evaluation.chance import critical, probability_above_zero
from segtune.evaluation.intervals import FEW, Interval, units_of
from segtune.evaluation.measure import MEAN_IOU, Measure
from segtune.evaluation.overlap import Floats, TileCounts
from segtune.objectives import MIOU

_FEW_SEEDS = 3  # of a configuration: below, its deviation is hardly known
_CHANCE = 0.025  # as often, chance alone exceeds the interval's lower end: an end of a 95% interval


@dataclass(frozen=True)
class Repeats:
    """What the runs of one configuration counted, all on the same tiles in the same order."""

    name: str
    tiles: tuple[TileCounts, ...]  # by seed


@dataclass(frozen=True)
class Mean:
    """The scores of one configuration, by seed, and their mean."""

    name: str
    scores: tuple[float, ...]
    mean: float
    deviation: float | None  # standard deviation from seed to seed; None for a single seed
    interval: Interval | None = None  # of the mean, for other seeds and other tiles; None for fewer than two tiles

    @property
    def median(self) -> int:
        """The position of the run with the median score; of two in the middle, that of the lower score."""
        order = sorted(range(len(self.scores)), key=lambda position: self.scores[position])
        return order[(len(order) - 1) // 2]


@dataclass(frozen=True)
class Gain:
    """How much better the mean of the best configuration is than that of another one."""

    over: str  # the other one's name
    miou: Interval
    probability: float  # that the gain is above zero, from this pair alone

    @property
    def shown(self) -> bool:
        """Whether the gain is more than chance brings."""
        return self.miou.low > 0


@dataclass(frozen=True)
class Confirmation:
    """The configurations by their means, and the gains of the best; without gains and intervals where `unsure`."""

    means: tuple[Mean, ...]  # the best one first; of equal ones, in the order given; those outside come last
    gains: tuple[Gain, ...]  # over each of the others, in the order of the means
    tiles: int
    groups: int | None  # None if tiles were drawn
    over_reference: Mapping[str, Gain] = field(default_factory=dict)  # how much better each one is than that, by name
    objective: str = MIOU  # what all scores are
    unsure: str | None = None  # why there are no intervals, as in `Measure.unsure`

    @property
    def best(self) -> Mean:
        """The configuration with the best mean."""
        return self.means[0]

    def gain_over(self, name: str) -> Gain | None:
        """Return the gain of the best configuration over one of the others; None for the best itself."""
        return next((gain for gain in self.gains if gain.over == name), None)

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def confirm(
    repeats: Sequence[Repeats],
    groups: Sequence[Hashable] | None = None,
    reference: str | None = None,
    measure: Measure = MEAN_IOU,
    outside: Collection[str] = (),
) -> Confirmation:
    """Return the configurations by their mean score over seeds, with the gains of the best over each of the others.

    The 95% intervals allow for the choice of the best: their half-width is the standard error of the difference times
    the critical value of Dunnett's one-sided test, as in multiple comparisons with the best (Hsu 1984). If all
    configurations are equal, at most one gain in 20 is said to be above zero. The variance of a difference is that of
    the means over tiles, plus that of the seeds without what a seed and a tile make together, which the first part
    already has: the components of a crossed design (Owen 2007, "The pigeonhole bootstrap", doi:10.1214/07-AOAS122).
    Degrees of freedom are Satterthwaite's.

    Parameters
    ----------
    repeats: at least two configurations, and one of them with two seeds or more.
    groups: the group of each tile, such as its scene; tiles of one scene are alike, and are drawn together.
    reference: the name of the configuration with which each of the others is compared as well, such as a baseline.
    measure: what the score is.
    outside: names of configurations that cannot be the best while another one can, as they cost too much. They come
        last, and the gain over one of them may be below zero.

    Raises InputError if there are fewer than two tiles, or groups, and ValueError where the runs have not the same
    number of tiles, where no class occurs, or where no configuration has two seeds.
    """
    sizes = {len(counts) for each in repeats for counts in each.tiles}
    if len(sizes) != 1 or len(repeats) < 2:
        raise ValueError(f"configurations are compared on the same tiles, at least two of them, but got {sizes} tiles")
    means = [_mean(each, measure) for each in repeats]
    draws = [np.stack([measure.drawn(units_of(counts, groups)) for counts in each.tiles]) for each in repeats]
    order = sorted(range(len(means)), key=lambda position: (means[position].name in outside, -means[position].mean))
    units = len(units_of(repeats[0].tiles[0], groups))
    name, count = measure.objective.name, None if groups is None else units
    if why := measure.unsure(repeats[0].tiles[0], groups):
        return Confirmation(tuple(means[position] for position in order), (), sizes.pop(), count, {}, name, why)
    spread = _Spread.of(means, draws, units)
    gains = [spread.gain(means, draws, order[0], other) for other in order[1:]]
    compared = [position for position in order if means[position].name == reference]
    over = {
        means[other].name: spread.gain(means, draws, other, position)
        for position in compared
        for other in order
        if other != position
    }
    own = [spread.of_mean(mean, drawn) for mean, drawn in zip(means, draws, strict=True)]
    return Confirmation(tuple(own[position] for position in order), tuple(gains), sizes.pop(), count, over, name)


def mean_of(repeats: Repeats, groups: Sequence[Hashable] | None = None, measure: Measure = MEAN_IOU) -> Mean:
    """Return the mean of one configuration over its seeds, with its 95% interval; without where `unsure` says why.

    Parameters and errors are those of `confirm`.
    """
    mean = _mean(repeats, measure)
    sums = [counts if groups is None else counts.grouped(groups) for counts in repeats.tiles]
    if len(sums[0]) < 2 or measure.unsure(repeats.tiles[0], groups):
        return mean
    drawn = np.stack([measure.drawn(counts) for counts in sums])
    return _Spread.of([mean], [drawn], len(sums[0])).of_mean(mean, drawn)


def few(seeds: int, tiles: int, groups: int | None) -> str | None:
    """Return a warning where intervals are made of few seeds, tiles or groups; None where there are enough.

    Parameters
    ----------
    seeds: the fewest of a configuration.
    tiles: on which all are measured.
    groups: of tiles that are drawn together; None where tiles are drawn one by one.
    """
    units, noun = (tiles, "tile") if groups is None else (groups, "group")
    wanted = ((seeds, "seed", _FEW_SEEDS), (units, noun, FEW))
    short = [(counted(count, name), f"{least} {name}s") for count, name, least in wanted if count < least]
    if not short:
        return None
    have, take = (" and ".join(texts) for texts in zip(*short, strict=True))
    little = "they say almost nothing" if seeds < _FEW_SEEDS else "they are rough"
    return f"warning: {have} are few to make intervals of: {little}, and more seeds narrow them; take at least {take}"


@dataclass(frozen=True)
class _Spread:
    """How scores vary from seed to seed, in all configurations alike."""

    variance: float  # of a score, on the same tiles
    main: float  # the part of it that does not come from what a seed makes of single tiles
    freedom: int
    units: int  # tiles, or groups, that are drawn
    comparisons: int

    @classmethod
    def of(cls, means: Sequence[Mean], draws: Sequence[Floats], units: int) -> _Spread:
        freedom = sum(len(mean.scores) - 1 for mean in means)
        if not freedom:
            raise ValueError("no configuration has two seeds")
        squares = [(score - mean.mean) ** 2 for mean in means for score in mean.scores]
        own = [np.nanvar(row - drawn.mean(axis=0)) for drawn in draws for row in drawn if len(drawn) > 1]
        variance, of_tiles = sum(squares) / freedom, sum(own) / freedom * units / (units - 1)
        return cls(variance, max(0.0, variance - of_tiles), freedom, units, max(1, len(means) - 1))

    def gain(self, means: Sequence[Mean], draws: Sequence[Floats], best: int, other: int) -> Gain:
        """Return the gain of a configuration, such as the best, over another one."""
        difference = draws[best].mean(axis=0) - draws[other].mean(axis=0)
        times = sum(1 / len(means[position].scores) for position in (best, other))
        interval, probability = self.interval(means[best].mean - means[other].mean, difference, times)
        return Gain(means[other].name, interval, probability)

    def of_mean(self, mean: Mean, drawn: Floats) -> Mean:
        """Return a mean with its interval; `drawn` are the scores of its runs in the draws of tiles, (seeds, draws)."""
        alone = replace(self, comparisons=1)
        found = alone.interval(mean.mean, drawn.mean(axis=0), 1 / len(drawn))[0]
        return replace(mean, interval=Interval(mean.mean, max(0.0, found.low), min(1.0, found.high)))

    def interval(self, value: float, drawn: Floats, times: float) -> tuple[Interval, float]:
        """Return the interval of a mean or a difference, and the probability that it is above zero in truth.

        `drawn` are its values in the draws of tiles, (draws); `times` is the factor of the variance between seeds.
        """
        tiles = float(np.nanvar(drawn)) * self.units / (self.units - 1)
        error = math.sqrt(tiles + self.main * times)
        parts = (tiles**2 / (self.units - 1), (self.variance * times) ** 2 / self.freedom if self.main else 0.0)
        freedom = max(1, math.floor(error**4 / sum(parts))) if sum(parts) else 1
        half = error * critical(self.comparisons, _CHANCE, freedom)
        low, high = max(-1.0, value - half), min(1.0, value + half)  # shares differ by one at most
        return Interval(value, low, high), probability_above_zero(value, error, freedom)


def _mean(repeats: Repeats, measure: Measure) -> Mean:
    scores = [measure.of(counts) for counts in repeats.tiles]
    if None in scores:
        raise ValueError(f"{measure.objective.name} is not known: the masks lack a class that it needs")
    values = np.array(scores, dtype=np.float64)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    return Mean(repeats.name, tuple(values.tolist()), float(values.mean()), deviation)
