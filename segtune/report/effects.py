"""Say what each value of a searched setting brought: the mean score of its trials, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy.stats import t as student_t

from segtune.report.record import Curve, Effect, Influence
from segtune.report.text import value_text
from segtune.trials import Trial
from segtune.vocabulary import is_number

_MOST = 0.75  # share of the trials with a score that reached the epoch of the comparison
_MOST_VALUES = 6  # of numbers that are shown one by one
_OFTEN = 2  # trials for each of them
_MANY = 9  # trials of a continuous setting that are shown in three ranges; fewer are shown in two
_FEWEST = 3  # trials with an interval


def compared_after(curves: Mapping[int, Curve]) -> int | None:
    """Return after how many epochs trials are compared: the last epoch that three quarters of them reached.

    A trial that was stopped early trained less. At a common epoch, it is compared with equal effort.
    """
    reached = sorted((curve.epochs[-1] for curve in curves.values() if curve.epochs), reverse=True)
    return reached[math.ceil(_MOST * len(reached)) - 1] if reached else None


def influences(
    trials: Sequence[Trial],
    curves: Mapping[int, Curve],
    drawn: Mapping[int, Mapping[str, Any]],
    importance: Mapping[str, float],
) -> tuple[Influence, ...]:
    """Return how much each searched parameter decided and what its values brought, the most important first.

    drawn: by trial, its value of each parameter that it drew.
    importance: share of each parameter; empty where it is not known.
    """
    epoch = compared_after(curves)
    by_number = {trial.number: trial for trial in trials if trial.score is not None}
    keys = dict.fromkeys(key for values in drawn.values() for key in values)
    found = []
    for key in sorted(keys, key=lambda key: -importance.get(key, 0.0)):
        scores = [
            (values[key], score, by_number[number].score or 0.0)
            for number, values in drawn.items()
            if key in values and number in by_number and epoch
            if (score := curves.get(number, Curve((), ())).at(epoch)) is not None
        ]
        found.append(Influence(key, importance.get(key) if importance else None, _effects(scores)))
    return tuple(found)


def _effects(scores: Sequence[tuple[Any, float, float]]) -> tuple[Effect, ...]:
    """Return the effect of each value, or of each range of values, from triples of value, score and best score."""
    groups: dict[str, list[tuple[float, float]]] = {}
    name = _namer([value for value, *_ in scores])
    numbers = all(is_number(value) for value, *_ in scores)
    ordered = sorted(scores, key=lambda row: row[0]) if numbers else scores
    for value, score, best in ordered:
        groups.setdefault(name(value), []).append((score, best))
    found = [_effect(value, rows) for value, rows in groups.items()]
    return tuple(found if numbers else sorted(found, key=lambda effect: -effect.mean))


def _effect(value: str, rows: Sequence[tuple[float, float]]) -> Effect:
    scores = [score for score, _ in rows]
    mean, interval = statistics.fmean(scores), None
    if len(scores) >= _FEWEST:
        half = float(student_t.ppf(0.975, len(scores) - 1)) * statistics.stdev(scores) / math.sqrt(len(scores))
        interval = (max(0.0, mean - half), min(1.0, mean + half))
    return Effect(value, len(scores), mean, interval, max(best for _, best in rows))


def _namer(values: Sequence[Any]) -> Callable[[Any], str]:
    """Return how to name the group of a value: by itself or, where there are many numbers, by its range."""
    numbers = [value for value in values if is_number(value)]
    few = max(1, min(_MOST_VALUES, len(numbers) // _OFTEN))
    if len(numbers) < len(values) or len(set(numbers)) <= few:
        return value_text
    inner = statistics.quantiles(numbers, n=3 if len(numbers) >= _MANY else 2, method="inclusive")
    edges = [float(edge) for edge in (min(numbers), *inner, max(numbers))]

    def name(value: Any) -> str:
        place = sum(value > edge for edge in inner)
        return " to ".join(value_text(edge) for edge in edges[place : place + 2])

    return name
