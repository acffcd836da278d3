"""Compare regressions that could stand in for configurations that were not trained, on curves left out of the fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import gaussian
import numpy as np
import numpy.typing as npt
from recorded import Recorded, pools
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from surrogate import Rows

Array = npt.NDArray[np.float64]
_FOLDS = 5
CHOSEN, OWN_CURVES = "shared and own process", "gaussian process, own set"  # what surrogate.py can be fitted to


class Regression(Protocol):
    """Predicts curves on the common scale."""

    def tune(self, rows: Rows) -> None:
        """Choose hyperparameters on rows that hold none of the left-out configurations."""

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Return the curves at the rows of one data set, from other rows."""


@dataclass
class Own:
    """A regression that sees the rows of the predicted data set alone."""

    inner: Regression

    def tune(self, rows: Rows) -> None:
        """Leave the choice to `predict`: every data set has its own."""

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Fit to the data set's own rows."""
        own = rows.only(rows.of_set == at.of_set[0])
        self.inner.tune(own)
        return self.inner.predict(own, at)


class Trees:
    """Extremely randomized trees (Geurts et al. 2006, doi:10.1007/s10994-006-6226-1)."""

    def tune(self, rows: Rows) -> None:
        """Choose nothing."""

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Fit and predict all epochs together."""
        return ExtraTreesRegressor(100, random_state=0).fit(rows.x, rows.y).predict(at.x).reshape(at.y.shape)


class TreesOnScores(Trees):
    """The same trees on mIoU in place of log-odds, as they were used before there were several data sets."""

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Fit and predict mIoU."""
        scale = at.scales[at.of_set[0]]
        forest = ExtraTreesRegressor(50, max_features=0.5, random_state=0).fit(rows.x, scale.up(rows.y))
        return scale.down(forest.predict(at.x).reshape(at.y.shape))


class Boosting:
    """Gradient boosting (Friedman 2002), an epoch at a time."""

    def tune(self, rows: Rows) -> None:
        """Choose nothing."""

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Fit and predict every epoch by itself."""
        given = {"n_estimators": 300, "max_depth": 4, "learning_rate": 0.03, "subsample": 0.5, "max_features": 0.5}
        models = [GradientBoostingRegressor(random_state=0, **given).fit(rows.x, column) for column in rows.y.T]
        return np.column_stack([model.predict(at.x) for model in models])


class Process:
    """A Gaussian process with a length scale for every input, the columns of the data sets included."""

    kernel: gaussian.Kernel | None = None

    def tune(self, rows: Rows) -> None:
        """Fit the kernel."""
        self.kernel = gaussian.fit_kernel(rows.x, rows.y)

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Predict with the kernel as it was fitted."""
        assert self.kernel is not None
        return gaussian.mean(self.kernel, rows.x, rows.y, at.x)


class Residual:
    """The mean curve of all data sets, by a process that knows none of them, and a process of what is left of each."""

    def __init__(self) -> None:
        self._shared, self._own = Process(), Own(Process())

    def tune(self, rows: Rows) -> None:
        """Fit the shared process."""
        self._shared.tune(rows.without_sets())

    def predict(self, rows: Rows, at: Rows) -> Array:
        """Add both parts."""
        blind = rows.without_sets()
        left = replace(rows, y=rows.y - self._shared.predict(blind, blind))
        return self._shared.predict(blind, at.without_sets()) + self._own.predict(left, at)


def candidates() -> dict[str, Regression]:
    """Return new regressions by name."""
    return {
        "trees, own set, mIoU": Own(TreesOnScores()),
        "trees, own set": Own(Trees()),
        "trees, pooled": Trees(),
        "boosting, pooled": Boosting(),
        OWN_CURVES: Own(Process()),
        "gaussian process, pooled": Process(),
        CHOSEN: Residual(),
    }


@dataclass(frozen=True)
class Quality:
    """The quality of predictions of a data set at an epoch."""

    error: float  # mean absolute, in mIoU
    spearman: float
    upper: float  # Spearman among the half with the higher true score

    @classmethod
    def mean(cls, qualities: Sequence[Quality]) -> Quality:
        """Return the mean over data sets."""
        return cls(*(float(np.mean([getattr(q, f.name) for q in qualities])) for f in fields(cls)))

    def __str__(self) -> str:
        return f"{self.error:.4f} {self.spearman:5.2f} {self.upper:5.2f}"


def cross_validate(pool: Sequence[Recorded], regression: Regression, everywhere: bool) -> Mapping[str, list[Quality]]:
    """Predict each fifth of the configurations from the others; return the quality by data set and `epochs_of`.

    everywhere: the curves of all data sets are left out, or else only those of the data set that is predicted.
    """
    rows = Rows.of(pool).at(epochs_of(pool[0]))
    predicted = np.empty_like(rows.y)
    numbers = np.random.default_rng(0).permutation(np.unique(rows.numbers))
    for fold in np.array_split(numbers, _FOLDS):
        left_out = np.isin(rows.numbers, fold)
        regression.tune(rows.only(~left_out))
        for index in range(len(pool)):
            at = left_out & (rows.of_set == index)
            if at.any():
                known = ~left_out if everywhere else ~at
                predicted[at] = regression.predict(rows.only(known), rows.only(at))
    found = {}
    for index, (recorded, scale) in enumerate(zip(pool, rows.scales, strict=True)):
        own = rows.of_set == index
        found[recorded.name] = _qualities(scale.up(predicted[own]), scale.up(rows.y[own]))
    return found


def _qualities(predicted: Array, true: Array) -> list[Quality]:
    upper = true[:, -1] >= np.median(true[:, -1])
    return [
        Quality(float(np.mean(np.abs(ours - theirs))), _spearman(ours, theirs), _spearman(ours[upper], theirs[upper]))
        for ours, theirs in zip(predicted.T, true.T, strict=True)
    ]


def _spearman(first: Array, second: Array) -> float:
    return float(stats.spearmanr(first, second).statistic)


def epochs_of(recorded: Recorded) -> list[int]:
    """Return the epochs that are judged: a ninth, a third and all of them."""
    return sorted({max(1, recorded.epochs // 9), max(1, recorded.epochs // 3), recorded.epochs})


def compare(sets: Mapping[str, Recorded]) -> Iterator[str]:
    """Compare all candidates on all data sets, line by line."""
    for pool in pools(sets):
        epochs = epochs_of(pool[0])
        yield f"{', '.join(recorded.name for recorded in pool)}: curves left out of the fit, {_FOLDS} folds"
        yield "mean absolute error, Spearman, Spearman in the upper half, by epoch"
        for everywhere in (True, False)[: 1 if len(pool) == 1 else 2]:
            yield f"left out of {'all data sets' if everywhere else 'this data set alone'}"
            yield f"  {'':28}" + "".join(f"{f'epoch {epoch}':>22}" for epoch in epochs)
            for name, regression in candidates().items():
                found = cross_validate(pool, regression, everywhere)
                yield from _lines(name, found)


def _lines(name: str, found: Mapping[str, list[Quality]]) -> Iterator[str]:
    for recorded, qualities in found.items():
        yield f"  {name:28}" + "".join(f"{quality!s:>22}" for quality in qualities) + f"  {recorded}"
    if len(found) > 1:
        means = [Quality.mean(column) for column in zip(*found.values(), strict=True)]
        yield f"  {name:28}" + "".join(f"{quality!s:>22}" for quality in means) + "  mean"
