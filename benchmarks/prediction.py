"""Choose the paused trial that goes on by the predicted end of its curve, instead of by its score so far.

A forest learns from the curves of other data sets how much a run still gains after an epoch. How far its trees differ
is the uncertainty of a prediction. Of the paused trials, the one with the largest expected improvement over the best
score so far goes on, per epoch that it has left (Jones et al. 1998, doi:10.1023/A:1008306431147; freeze-thaw: Swersky
et al. 2014, arXiv:1406.3896). How many go on is as without prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from recorded import Recorded
from sklearn.ensemble import RandomForestRegressor

from segtune.tuning.promotion import Choose, Standings, promotable

Array = npt.NDArray[np.float64]
_TREES = 50
_LEAF = 5  # fewest examples in a leaf
_LEAST_DEVIATION = 0.008  # mIoU, of the end of a run from seed to seed


class Ends:
    """Predicts the end of curves."""

    def __init__(self, recorded: Sequence[Recorded]) -> None:
        looks = [one for each in recorded for one in _looks(each)]
        inputs, gains = zip(*looks, strict=True)
        self._forest = RandomForestRegressor(_TREES, min_samples_leaf=_LEAF, random_state=0)
        self._forest.fit(np.array(inputs), np.array(gains))

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Return the mean and deviation of what runs, (runs, features), still gain; see `features`."""
        trees = np.array([tree.predict(inputs) for tree in self._forest.estimators_])
        return trees.mean(axis=0), np.maximum(trees.std(axis=0), _LEAST_DEVIATION)


def features(score: float, half: float, others: Array, progress: float) -> list[float]:
    """Describe a run after some epochs.

    Parameters
    ----------
    score: its best mIoU so far; `half`: after half as many epochs.
    others: (runs,), the scores of all runs after as many epochs, its own among them.
    progress: the share of the epochs that it has.
    """
    return [progress, score, score - half, float((others < score).mean()), float(others.max()) - score]


def _looks(recorded: Recorded) -> Iterator[tuple[list[float], float]]:
    """Yield what is seen of each recorded run after each epoch but the last, and what it still gains."""
    best = recorded.best
    for epoch in range(1, recorded.epochs):
        column, half = best[:, epoch - 1], best[:, max(0, epoch // 2 - 1)]
        for row in np.flatnonzero(recorded.failed == 0):
            seen = features(column[row], half[row], column, epoch / recorded.epochs)
            yield seen, float(best[row, -1] - column[row])


def by_prediction(others: Sequence[Recorded], epochs: int) -> Choose:
    """Make what picks the paused trial that goes on; `others` are the data sets that it learns from."""
    ends = Ends(others)

    def choose(standings: Standings, least: int) -> int | None:
        if promotable(standings, least) is None:
            return None
        waiting = [(number, rung) for rung in standings.rungs for number in rung.paused]
        inputs = []
        for number, rung in waiting:
            middle = max(1, rung.epochs // 2)
            half = max((value for at, value in standings.curves[number].items() if at <= middle), default=0.0)
            scored = np.array(list(rung.scores.values()))
            inputs.append(features(rung.scores[number], half, scored, rung.epochs / epochs))
        gains, deviations = ends.predict(np.array(inputs))
        best = max(max(curve.values(), default=0.0) for curve in standings.curves.values())
        worth = [
            expected_improvement(rung.scores[number] + gain, deviation, best) / (epochs - rung.epochs)
            for (number, rung), gain, deviation in zip(waiting, gains, deviations, strict=True)
        ]
        return waiting[int(np.argmax(worth))][0]

    return choose


def expected_improvement(mean: float, deviation: float, best: float) -> float:
    """Return by how much a normal variable exceeds `best`, on average."""
    normal, z = NormalDist(), (mean - best) / deviation
    return deviation * (z * normal.cdf(z) + normal.pdf(z)) if math.isfinite(z) else 0.0
