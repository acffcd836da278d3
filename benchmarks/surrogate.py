"""Predict curves of configurations that were not trained, from all recorded curves of all data sets with that space.

Tabular benchmarks of architecture search go beyond their tables in this way (Zela et al. 2022, arXiv:2008.09777). A
curve is the sum of two Gaussian processes over curves (see gaussian.py): one that all data sets share, and one of what
it leaves of each data set. Scores are log-odds between 0 and a ceiling a little above the data set's best recorded
score, less their mean over the data set, divided by their deviation. Other regressions were tried: judge.py compares
them.

Chance is added: differences between recorded runs of one configuration with different seeds, of a configuration about
as good. On log-odds, a run that lost 0.3 does not mean that another one can gain as much.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gaussian
import numpy as np
import numpy.typing as npt
from gaussian import Drawn, Kernel, fit_kernel
from recorded import Recorded, features
from sklearn.ensemble import ExtraTreesRegressor

Array = npt.NDArray[np.float64]
Function = Callable[[Array], Array]  # from rows of inputs to curves
_TREES = 25
_NEAREST = 5  # pairs, by the score of their runs, from which a configuration's chance is drawn
_LEAST_DEVIATION = 1e-6
_APART = 1_000_000  # seeds between those of the two functions that are added


@dataclass(frozen=True)
class Prediction:
    """The predicted training of a configuration."""

    best: tuple[float, ...]  # mIoU so far, by epoch; shorter than the budget where the loss diverges
    seconds: float  # of an epoch
    diverged: bool


@dataclass(frozen=True)
class Scale:
    """The mean and deviation of the log-odds of a data set, by epoch."""

    recorded: Recorded
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, recorded: Recorded) -> Scale:
        """Measure them over the recorded configurations."""
        odds = recorded.odds(recorded.best)
        return cls(recorded, odds.mean(0), np.maximum(odds.std(0), _LEAST_DEVIATION))

    def down(self, miou: Array) -> Array:
        """Return scores on the common scale of all data sets."""
        return (self.recorded.odds(miou) - self.mean) / self.deviation

    def odds(self, values: Array) -> Array:
        """Return log-odds of values on the common scale."""
        return values * self.deviation + self.mean

    def up(self, values: Array) -> Array:
        """Return scores of values on the common scale."""
        return self.recorded.scores(self.odds(values))


@dataclass(frozen=True)
class Rows:
    """The recorded configurations of a pool of data sets, a row for each configuration and set."""

    scales: tuple[Scale, ...]  # by data set
    x: Array  # settings, then one column per data set if there are several
    y: Array  # curves on the common scale
    of_set: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pool: Sequence[Recorded]) -> Rows:
        """Put the data sets of a pool together."""
        scales = tuple(Scale.of(recorded) for recorded in pool)
        x = [np.hstack([r.x, np.tile(one_hot(i, len(pool)), (len(r.x), 1))]) for i, r in enumerate(pool)]
        return cls(
            scales,
            np.vstack(x),
            np.vstack([scale.down(r.best) for scale, r in zip(scales, pool, strict=True)]),
            np.concatenate([np.full(len(r.x), i) for i, r in enumerate(pool)]),
            np.concatenate([np.array(r.numbers) for r in pool]),
        )

    def only(self, kept: npt.NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return replace(self, x=self.x[kept], y=self.y[kept], of_set=self.of_set[kept], numbers=self.numbers[kept])

    def without_sets(self) -> Rows:
        """Return the rows without the columns that say which data set they are of."""
        sets = len(self.scales) if len(self.scales) > 1 else 0
        return replace(self, x=self.x[:, : self.x.shape[1] - sets])

    def at(self, epochs: Sequence[int]) -> Rows:
        """Return the same rows with some of the epochs."""
        chosen = [epoch - 1 for epoch in epochs]
        scales = [replace(s, mean=s.mean[chosen], deviation=s.deviation[chosen]) for s in self.scales]
        return replace(self, scales=tuple(scales), y=self.y[:, chosen])


def one_hot(index: int, count: int) -> Array:
    """Return the columns that say which data set a row is of; a single one needs none."""
    return np.eye(count)[index] if count > 1 else np.empty(0)


@dataclass(frozen=True)
class Layer:
    """A Gaussian process over standardized curves."""

    kernel: Kernel
    x: Array

    @classmethod
    def fit(cls, x: Array, y: Array) -> Layer:
        """Fit the kernel to curves."""
        return cls(fit_kernel(x, y / _deviation(y)), x)

    def mean(self, y: Array, at: Array) -> Array:
        """Return the expected curves at the rows of `at`, given the curves `y` at `x`."""
        return gaussian.mean(self.kernel, self.x, y, at)

    def drawn(self, y: Array, seed: int) -> Function:
        """Draw a function that agrees with the curves `y` at `x`."""
        deviation = _deviation(y)
        function = Drawn(self.kernel, self.x, y / deviation, seed)
        return lambda at: function(at) * deviation


def _deviation(y: Array) -> Array:
    return np.maximum(y.std(axis=0), _LEAST_DEVIATION)


class Surrogate:
    """What the recorded curves of a pool say about one of its data sets."""

    def __init__(self, rows: Rows, shared: Layer, index: int) -> None:
        self._rows, self._shared = rows, shared
        self._own = rows.only(rows.of_set == index)
        left = self._own.y - shared.mean(rows.y, self._own.x)
        self._rest = Layer.fit(self._own.x, left) if len(rows.scales) > 1 else None
        self.scale = rows.scales[index]
        self.recorded = self.scale.recorded
        # Seconds of an epoch, and whether the loss diverges: almost free of chance, so trees suffice.
        targets = np.column_stack([np.log(self.recorded.seconds), self.recorded.failed])
        self._trees = ExtraTreesRegressor(_TREES, random_state=0).fit(self.recorded.x, targets).estimators_
        ends = [len(curve.miou) for curve in self.recorded.curves if curve.failed]
        self._diverges_after = int(np.median(ends)) if ends else self.recorded.epochs

    def drawn(self, seed: int) -> Function:
        """Draw a function that agrees with the recorded curves."""
        shared = self._shared.drawn(self._rows.y, seed)
        if self._rest is None:
            return shared
        rest = self._rest.drawn(self._own.y - shared(self._own.x), seed + _APART)
        return lambda at: shared(at) + rest(at)

    def inputs(self, settings: Mapping[str, Any]) -> Array:
        """Return a row of inputs."""
        return np.array([features(self.recorded.space.parameters, settings)])

    def seconds_and_ends(self, x: Array) -> tuple[float, int]:
        """Return the seconds of an epoch, and the epochs until the run ends or diverges."""
        row = x.astype(np.float32)
        # Tree by tree: much faster than the forest's `predict` for a single row.
        log_seconds, failed = np.mean([tree.tree_.predict(row)[0, :, 0] for tree in self._trees], axis=0)
        return math.exp(log_seconds), self._diverges_after if failed > 0.5 else self.recorded.epochs


def fit(pool: Sequence[Recorded]) -> list[Surrogate]:
    """Fit the surrogates of the data sets of a pool."""
    rows = Rows.of(pool).without_sets()
    shared = Layer.fit(rows.x, rows.y)
    return [Surrogate(rows, shared, index) for index in range(len(pool))]


class World:
    """One landscape that agrees with the recorded curves: every configuration has one fixed curve.

    Each seed draws another world. What the recorded curves leave open differs from world to world.
    """

    def __init__(self, surrogate: Surrogate, seed: int) -> None:
        self._surrogate, self._seed = surrogate, seed
        self._recorded = surrogate.recorded
        self._curves = surrogate.drawn(seed)
        self._known: dict[str, Prediction] = {}

    def train(self, settings: Mapping[str, Any]) -> Prediction:
        """Return the training of a configuration in this world."""
        x = self._surrogate.inputs(settings)
        key = json.dumps(x.tolist())
        if key not in self._known:
            self._known[key] = self._predict(x, key)
        return self._known[key]

    def _predict(self, x: Array, key: str) -> Prediction:
        odds = self._surrogate.scale.odds(self._curves(x)[0])
        # By the configuration, not by when it is asked for: all methods train it to the same curve.
        digest = hashlib.sha256(f"{self._seed} {key}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        repeats = self._recorded.repeats
        nearest = np.argsort(np.abs(repeats.level - self._recorded.scores(odds[-1])))[:_NEAREST]
        chance = repeats.odds[random.choice(nearest)] * random.choice((-1, 1))
        best = np.maximum.accumulate(self._recorded.scores(odds + chance))
        seconds, epochs = self._surrogate.seconds_and_ends(x)
        return Prediction(tuple(best[:epochs].tolist()), seconds, epochs < self._recorded.epochs)
