"""Rungs: the numbers of epochs after which ASHA compares the trials of a search."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from segtune.space.settings import SearchSettings
from segtune.space.space import Space

_SHARE_BEFORE_FIRST_RUNG = 9  # a grace period of a ninth of the budget leaves two decisions at factor 3
_SIMULATED = 10_000  # trials that the share of epochs is estimated from
_LEAST_GRACE = 3  # epochs after the warm-up: some encoders start slowly


def grace_period(search: SearchSettings, epochs: int, warmup_epochs: int) -> int:
    """Return the epochs that every trial gets: at least a ninth of the budget, and three after the warm-up."""
    if search.grace_period:
        return min(search.grace_period, epochs)
    return min(epochs, max(math.ceil(epochs / _SHARE_BEFORE_FIRST_RUNG), warmup_epochs + _LEAST_GRACE))


def rungs(space: Space) -> list[int]:
    """Return the epochs after which trials of this space are compared, in order; the last is the whole budget."""
    epochs = max(space.values_of("epochs"))
    if space.search.scheduler == "none":
        return [epochs]
    found = [grace_period(space.search, epochs, max(space.values_of("warmup_epochs")))]
    while found[-1] * space.search.reduction_factor < epochs:
        found.append(found[-1] * space.search.reduction_factor)
    return [*found, epochs] if found[-1] < epochs else found


def asha_share(trials: int, compared: Sequence[int], factor: int, epochs: int) -> float:
    """Estimate the share of all epochs that ASHA trains when it compares trials after `compared` epochs.

    The estimate simulates trials whose scores are random, in random order; the first trial is never stopped. In a real
    search, later trials are better than earlier ones, because the sampler learns, and ASHA trains somewhat more.
    """
    generator, spent = random.Random(0), 0
    times = max(10, _SIMULATED // trials)
    for _ in range(times):
        reached: dict[int, list[float]] = {rung: [] for rung in compared}
        for number in range(trials):
            score, done = generator.random(), epochs
            for rung, scores in reached.items():
                stops = bool(number and scores) and score < np.quantile(scores, 1 - 1 / factor)
                scores.append(score)
                if stops:
                    done = rung
                    break
            spent += done
    return spent / (times * trials * epochs)
