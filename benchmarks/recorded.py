"""Recorded curves as arrays: of one data set, and of all data sets that share a space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from curves import Curve, read_curves

from segtune.errors import InputError
from segtune.files.yamlfile import read_yaml
from segtune.space.parameters import Choice, Parameter
from segtune.space.reader import load_space
from segtune.space.space import Space

Array = npt.NDArray[np.float64]
SPACE = Path(__file__).with_name("search_quality.yaml")
COMMON = Path(__file__).with_name("common.yaml")
SETS = Path(__file__).with_name("sets.yaml")
_LEAST_CURVES = 10
_LEAST_PAIRS = 2
_HEADROOM = 0.02  # mIoU, from the best recorded score to the ceiling
_LEAST = 1e-3  # mIoU, of a score's distance from 0 and from the ceiling, which log-odds cannot express


def settings_of(name: str) -> dict[str, Any]:
    """Return the settings that the runs on a data set of `SETS` have."""
    sets = read_yaml(SETS)
    if name not in sets:
        raise InputError(f"--set: {name!r} is none of {', '.join(sets)}; add it to {SETS}")
    return dict(sets[name])


def files_by_set(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the files of each data set by its name: NAME.csv, or NAME.1.csv and NAME.2.csv where there are parts."""
    files: dict[str, list[Path]] = {}
    for path in paths:
        files.setdefault(path.name.partition(".")[0], []).append(path)
    return files


def read_sets(paths: Iterable[Path], space: Path | None = None) -> dict[str, Recorded]:
    """Read the curves of data sets by their name.

    A data set of `SETS` has the space `COMMON`, another one has `SPACE`; `space` replaces both. Raises InputError
    where a file cannot be read, or holds curves of another space.
    """
    known = read_yaml(SETS)
    found = {}
    for name, parts in files_by_set(paths).items():
        path, settings = (COMMON, known[name]) if name in known and not space else (space or SPACE, {})
        found[name] = Recorded(name, load_space(path, settings), read_curves(parts))
    return found


def features(parameters: Iterable[Parameter], settings: Mapping[str, Any] | None) -> list[float]:
    """Encode settings as numbers: one per value of a choice, ranges as 0 to 1 on their own scale, 0.5 where not set."""
    found: list[float] = []
    for parameter in parameters:
        value = None if settings is None else settings[parameter.name]
        if isinstance(parameter, Choice):
            found += [float(value == choice) for choice in parameter.values]
        else:
            found.append(0.5 if value is None else _position(value, parameter.low, parameter.high, parameter.log))
        for choice, branch in parameter.items():
            found += features(branch, settings if value == choice else None)
    return found


def _position(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.0


@dataclass(frozen=True)
class Repeats:
    """How far two runs of one configuration differ that have different seeds, a row per pair, an epoch per column.

    Of two curves, each is as far from their mean as the other: half of their difference, times the square root of two
    for the variance of a single one.
    """

    level: Array  # the mean of the two best scores
    miou: Array
    odds: Array  # the same in log-odds


class Recorded:
    """The recorded curves of a data set as arrays with a row per configuration, of its first run."""

    def __init__(self, name: str, space: Space, curves: Sequence[Curve]) -> None:
        self.name, self.space, self.all = name, space, tuple(curves)
        self.epochs: int = max(space.values_of("epochs"))
        for curve in curves:
            self._check(curve)
        self.curves = [curve for curve in curves if curve.seed == space.baseline.seed]
        if len(self.curves) < _LEAST_CURVES:
            raise InputError(
                f"--curves: {name}: at least {_LEAST_CURVES} configurations are needed, not {len(self.curves)}"
            )
        self.numbers = [curve.number for curve in self.curves]
        self.x = np.array([features(space.parameters, curve.settings) for curve in self.curves])
        self._numbers = {tuple(x): n for x, n in zip(self.x.tolist(), self.numbers, strict=True)}
        self.best = np.array([self.padded(curve) for curve in self.curves])
        known = [curve.seconds[-1] / len(curve.seconds) for curve in self.curves if curve.seconds]
        self.seconds = np.array([c.seconds[-1] / len(c.seconds) if c.seconds else np.mean(known) for c in self.curves])
        self.failed = np.array([curve.failed for curve in self.curves], dtype=float)
        self.ceiling = max(max(curve.best(), default=0.0) for curve in curves) + _HEADROOM

    def number_of(self, settings: Mapping[str, Any]) -> int | None:
        """Return the number of the configuration with these settings; None where it was not recorded."""
        return self._numbers.get(tuple(features(self.space.parameters, settings)))

    def runs_of(self, number: int) -> list[Curve]:
        """Return the runs of a configuration, by seed."""
        return [curve for curve in self.all if curve.number == number]

    @cached_property
    def repeats(self) -> Repeats:
        """The pairs of the first run of a configuration and another one; InputError where there are too few."""
        first = dict(zip(self.numbers, self.best, strict=True))
        again = [c for c in self.all if c.seed != self.space.baseline.seed and c.number in first]
        if len({curve.number for curve in again}) < _LEAST_PAIRS:
            raise InputError(
                f"--curves: {self.name}: at least {_LEAST_PAIRS} configurations with several seeds are needed"
            )
        one, two = (np.array(rows) for rows in ([first[c.number] for c in again], [self.padded(c) for c in again]))
        odds = self.odds(two) - self.odds(one)
        return Repeats((one[:, -1] + two[:, -1]) / 2, (two - one) / math.sqrt(2), odds / math.sqrt(2))

    def odds(self, miou: Array) -> Array:
        """Return the log-odds of scores between 0 and the ceiling."""
        within = np.clip(miou, _LEAST, self.ceiling - _LEAST)
        return np.log(within / (self.ceiling - within))

    def scores(self, odds: Array) -> Array:
        """Return the mIoU of log-odds."""
        return self.ceiling / (1 + np.exp(-odds))

    def full_training(self) -> float:
        """Return the seconds of a full training: the mean over the runs that finished."""
        return float(np.mean([curve.seconds[-1] for curve in self.curves if not curve.failed]))

    def normalized(self, miou: Array) -> Array:
        """Return scores on the scale where 0 is the median of the recorded configurations, and 1 the best of them."""
        final = self.best[:, -1]
        return (miou - np.median(final)) / (final.max() - np.median(final))

    def padded(self, curve: Curve) -> Array:
        """Return the best mIoU so far at every epoch; a run that failed stays where it was."""
        best = curve.best() or (0.0,)
        return np.array([*best, *[best[-1]] * (self.epochs - len(best))])

    def _check(self, curve: Curve) -> None:
        """Raise InputError for a curve that no run of this space can have."""
        known = self.space.locate(self.space.fixed | curve.settings) is not None
        if not known or len(curve.miou) > self.epochs or (len(curve.miou) < self.epochs and not curve.failed):
            raise InputError(
                f"--curves: {self.name}: configuration {curve.number} is none of the space's; "
                "--space FILE names another"
            )


def pools(sets: Mapping[str, Recorded]) -> list[list[Recorded]]:
    """Return the data sets in groups that share their parameters, and so can be learned from together."""
    found: list[list[Recorded]] = []
    for recorded in sets.values():
        pool = next((pool for pool in found if _alike(pool[0], recorded)), None)
        if pool is None:
            found.append([recorded])
        else:
            pool.append(recorded)
    return found


def _alike(one: Recorded, other: Recorded) -> bool:
    return one.space.parameters == other.space.parameters and one.epochs == other.epochs


def others_of(recorded: Recorded, sets: Mapping[str, Recorded]) -> list[Recorded]:
    """Return the data sets that may teach a method that is then tried on this one: all others with its space."""
    return [other for other in sets.values() if other is not recorded and _alike(other, recorded)]


def moved(space: Space, settings: Mapping[str, Any]) -> Space:
    """Return a space whose baseline has these searched settings."""
    baseline = type(space.baseline).from_settings(space.fixed | dict(settings))
    return replace(space, baseline=baseline)
