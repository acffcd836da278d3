"""Predict curves of configurations that were not trained, by a regression on recorded ones, and measure its quality.

Extremely randomized trees (Geurts et al. 2006, doi:10.1007/s10994-006-6226-1) predict the best mIoU so far at every
epoch and the seconds of an epoch from the settings, as tabular benchmarks of architecture search do beyond their
tables (Zela et al. 2022, arXiv:2008.09777). Random variation is added: differences between two recorded
runs of one configuration with different seeds. They are taken and added on the log-odds scale between 0 and a ceiling
a little above the best recorded score: a run that lost 0.3 does not mean that another one can gain as much.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from curves import Curve
from sklearn.ensemble import ExtraTreesRegressor

from segtune.errors import InputError
from segtune.space.parameters import Choice, Parameter
from segtune.space.space import Space

Array = npt.NDArray[np.float64]
_TREES = 50
_LEAST_CURVES = 10
_LEAST_PAIRS = 2
_NEAREST = 5  # pairs, by the score of their first run, from which a configuration's noise is drawn
_FOLDS = 10
_HEADROOM = 0.02  # mIoU, from the best recorded score to the ceiling
_LEAST = 1e-3  # mIoU, of a score's distance from 0 and from the ceiling, which log-odds cannot express


@dataclass(frozen=True)
class Prediction:
    """The predicted training of a configuration."""

    best: tuple[float, ...]  # mIoU so far, by epoch; shorter than the budget where the loss diverges
    seconds: float  # of an epoch
    diverged: bool


def features(parameters: Iterable[Parameter], settings: Mapping[str, Any] | None) -> list[float]:
    """Encode settings as numbers: one per value of a choice, ranges as 0 to 1 on their own scale, -1 where not set."""
    found: list[float] = []
    for parameter in parameters:
        value = None if settings is None else settings[parameter.name]
        if isinstance(parameter, Choice):
            found += [float(value == choice) for choice in parameter.values]
        else:
            found.append(-1.0 if value is None else _position(value, parameter.low, parameter.high, parameter.log))
        for choice, branch in parameter.items():
            found += features(branch, settings if value == choice else None)
    return found


def _position(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.0


class Recorded:
    """Recorded curves as arrays with a row per curve: the first run of each configuration, and the pairs of runs."""

    def __init__(self, space: Space, curves: Sequence[Curve]) -> None:
        self.space, self.epochs, self.all = space, max(space.values_of("epochs")), tuple(curves)
        seed = space.baseline.seed
        for curve in curves:
            self._check(curve)
        self.curves = [curve for curve in curves if curve.seed == seed]
        if len(self.curves) < _LEAST_CURVES:
            raise InputError(f"--curves: at least {_LEAST_CURVES} configurations are needed, not {len(self.curves)}")
        self.x = np.array([features(space.parameters, curve.settings) for curve in self.curves])
        self.best = np.array([self._padded(curve) for curve in self.curves])
        known = [curve.seconds[-1] / len(curve.seconds) for curve in self.curves if curve.seconds]
        self.seconds = np.array([c.seconds[-1] / len(c.seconds) if c.seconds else np.mean(known) for c in self.curves])
        self.failed = np.array([curve.failed for curve in self.curves], dtype=float)
        first = dict(zip((curve.number for curve in self.curves), self.best, strict=True))
        again = [c for c in curves if c.seed != seed and c.number in first]
        self.ceiling = max(float(self.best.max()), *(max(c.best(), default=0.0) for c in again), 0.0) + _HEADROOM
        pairs = [(first[c.number], self._padded(c)) for c in again]
        # Of two curves, each is as far from their mean as the other: half of their difference, times the square root
        # of two for the variance of a single one.
        self.chance = np.array([(two - one) / math.sqrt(2) for one, two in pairs])  # in mIoU
        self.noise = np.array([(self.odds(two) - self.odds(one)) / math.sqrt(2) for one, two in pairs])  # in log-odds
        self.noise_level = np.array([(self._padded(c)[-1] + first[c.number][-1]) / 2 for c in again])
        if len(again) < _LEAST_PAIRS:
            raise InputError(f"--curves: at least {_LEAST_PAIRS} configurations with two seeds are needed")

    def odds(self, miou: Array) -> Array:
        """Return the log-odds of scores between 0 and the ceiling."""
        within = np.clip(miou, _LEAST, self.ceiling - _LEAST)
        return np.log(within / (self.ceiling - within))

    def scores(self, odds: Array) -> Array:
        """Return the mIoU of log-odds."""
        return self.ceiling / (1 + np.exp(-odds))

    def full_training(self) -> float:
        """Return the seconds of a full training: the mean over the runs that finished."""
        ended = [curve.seconds[-1] for curve in self.curves if not curve.failed]
        return float(np.mean(ended))

    def _check(self, curve: Curve) -> None:
        """Raise InputError for a curve that no run of this space can have."""
        known = self.space.locate(self.space.fixed | curve.settings) is not None
        if not known or len(curve.miou) > self.epochs or (len(curve.miou) < self.epochs and not curve.failed):
            raise InputError(
                f"--curves: configuration {curve.number} is none of the space's; --space FILE names another"
            )

    def _padded(self, curve: Curve) -> Array:
        best = curve.best() or (0.0,)
        return np.array([*best, *[best[-1]] * (self.epochs - len(best))])


class World:
    """One landscape that agrees with the recorded curves: every configuration has one fixed curve.

    Each seed fits another world, on a sample of the curves drawn with replacement. What the recorded curves leave open
    differs from world to world.
    """

    def __init__(self, recorded: Recorded, seed: int) -> None:
        self._recorded, self._seed = recorded, seed
        rows = np.random.default_rng(seed).integers(len(recorded.x), size=len(recorded.x))
        self._model = fit(recorded, rows, seed)
        self._known: dict[str, Prediction] = {}

    def train(self, settings: Mapping[str, Any]) -> Prediction:
        """Return the training of a configuration in this world."""
        x = features(self._recorded.space.parameters, settings)
        key = json.dumps(x)
        if key not in self._known:
            self._known[key] = self._predict(np.array([x]), key)
        return self._known[key]

    def _predict(self, x: Array, key: str) -> Prediction:
        recorded = self._recorded
        *curve, log_seconds, failed = self._mean(x)
        # By the configuration, not by when it is asked for: all methods train it to the same curve.
        digest = hashlib.sha256(f"{self._seed} {key}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        nearest = np.argsort(np.abs(recorded.noise_level - curve[-1]))[:_NEAREST]
        noise = recorded.noise[random.choice(nearest)] * random.choice((-1, 1))
        best = np.maximum.accumulate(recorded.scores(recorded.odds(np.array(curve)) + noise))
        epochs = self._ends(bool(failed > 0.5))
        return Prediction(tuple(best[:epochs].tolist()), math.exp(log_seconds), epochs < recorded.epochs)

    def _mean(self, x: Array) -> Array:
        """Return the forest's prediction for one configuration, tree by tree: much faster than its `predict`."""
        row = x.astype(np.float32)
        return np.mean([tree.tree_.predict(row)[0, :, 0] for tree in self._model.estimators_], axis=0)

    def _ends(self, diverges: bool) -> int:
        if not diverges:
            return self._recorded.epochs
        return int(np.median([len(curve.miou) for curve in self._recorded.curves if curve.failed]))


def fit(recorded: Recorded, rows: npt.NDArray[np.int64], seed: int) -> ExtraTreesRegressor:
    """Fit best mIoU by epoch, the logarithm of an epoch's seconds, and whether the run fails, in this order."""
    model = ExtraTreesRegressor(n_estimators=_TREES, max_features=0.5, random_state=seed)
    return model.fit(recorded.x[rows], targets(recorded)[rows])


def targets(recorded: Recorded) -> Array:
    """Return what is predicted, a row per curve."""
    return np.column_stack([recorded.best, np.log(recorded.seconds), recorded.failed])


# How good it is.


@dataclass(frozen=True)
class Quality:
    """The quality of predictions at an epoch, for curves left out of the fit."""

    epoch: int
    error: float  # mean absolute, in mIoU
    spearman: float
    spearman_upper: float  # among the half with the higher true score
    chance: float  # standard deviation of the score from seed to seed, in the upper half

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch:2}: mean absolute error {self.error:.4f}, Spearman {self.spearman:.2f} "
            f"({self.spearman_upper:.2f} in the upper half); a score's deviation from seed to seed {self.chance:.4f}"
        )


def cross_validate(recorded: Recorded, epochs: Sequence[int]) -> list[Quality]:
    """Fit without each tenth of the curves in turn, and predict that tenth."""
    order = np.random.default_rng(0).permutation(len(recorded.x))
    predicted = np.empty_like(recorded.best)
    for left_out in np.array_split(order, min(_FOLDS, len(order))):
        model = fit(recorded, np.setdiff1d(order, left_out), seed=0)
        predicted[left_out] = model.predict(recorded.x[left_out])[:, : recorded.epochs]
    upper = recorded.best[:, -1] >= np.median(recorded.best[:, -1])
    pairs = recorded.noise_level >= np.median(recorded.best[:, -1])
    chance = recorded.chance[pairs] if pairs.any() else recorded.chance
    return [
        Quality(
            epoch,
            float(np.mean(np.abs(predicted[:, epoch - 1] - recorded.best[:, epoch - 1]))),
            _spearman(predicted[:, epoch - 1], recorded.best[:, epoch - 1]),
            _spearman(predicted[upper, epoch - 1], recorded.best[upper, epoch - 1]),
            float(np.sqrt(np.mean(chance[:, epoch - 1] ** 2))),
        )
        for epoch in epochs
    ]


def _spearman(first: Array, second: Array) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(first)), np.argsort(np.argsort(second)))[0, 1])
