"""Rungs: the numbers of epochs after which ASHA compares the trials of a search."""

from __future__ import annotations

import bisect
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
    """Return the epochs after which trials of this space are compared, in order; the last is the whole budget.

    A trial that is scored by folds is compared within its first fold and at its end: only the best go on to the others.
    """
    epochs, folds = max(space.values_of("epochs")), space.search.folds or 1
    if space.search.scheduler == "none":
        return [epochs * folds]
    found = [grace_period(space.search, epochs, max(space.values_of("warmup_epochs")))]
    while found[-1] * space.search.reduction_factor < epochs:
        found.append(found[-1] * space.search.reduction_factor)
    found = [*found, epochs] if found[-1] < epochs else found
    return [*found, epochs * folds] if folds > 1 else found


def asha_share(trials: int, compared: Sequence[int], factor: int, epochs: int) -> float:
    """Estimate the share of all epochs that ASHA trains when it compares trials after `compared` epochs.

    The estimate simulates trials whose scores are random, in random order; the first trial, the baseline, is never
    paused. In a real search, later trials are better than earlier ones, because the sampler learns, and ASHA trains
    somewhat more.
    """
    if not compared:
        return 1.0
    generator, spent = random.Random(0), 0
    times = max(10, _SIMULATED // trials)
    steps = np.diff([*compared, epochs])
    for _ in range(times):
        went_on = _promoted([generator.random() for _ in range(trials)], len(compared), factor)
        spent += trials * compared[0] + int(np.dot(went_on, steps))
    return spent / (times * trials * epochs)


def _promoted(scores: Sequence[float], levels: int, factor: int) -> list[int]:
    """Return how many trials go on from each of some rungs, when they are tried one after another."""
    reached: list[list[tuple[float, int]]] = [[] for _ in range(levels)]  # best first
    went_on: list[set[int]] = [{0} for _ in range(levels)]

    def promotes(least: int) -> bool:
        for level in reversed(range(levels)):
            best = reached[level][: len(reached[level]) // factor]
            best += [place for place in reached[level] if place[1] > 0][:least]
            for place in best:
                if place[1] not in went_on[level]:
                    went_on[level].add(place[1])
                    if level + 1 < levels:
                        bisect.insort(reached[level + 1], place)
                    return True
        return False

    for number, score in enumerate(scores):
        for level in range(levels if number == 0 else 1):
            bisect.insort(reached[level], (-score, number))
        while promotes(0):
            pass
    while promotes(1):
        pass
    return [len(numbers) for numbers in went_on]
