"""Prior: the values that a person expects to be good, and how values are drawn around them.

PriorBand begins a search with what an expert expects in the same way (Mallik et al. 2023, arXiv:2306.12370).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal, get_args

from segtune.space.parameters import Choice, Parameter, Range, walk

Confidence = Literal["low", "medium", "high"]
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)
# The standard deviation of numbers around the expected one, as a part of the range.
_WIDTH: Mapping[Confidence, float] = {"low": 0.5, "medium": 0.25, "high": 0.125}
# How much more often the expected value of a list is drawn than each other one.
_ODDS: Mapping[Confidence, int] = {"low": 2, "medium": 4, "high": 8}
# The share of trials that draw a setting around its expected value, as long as this does as well as the sampler.
_SHARE: Mapping[Confidence, float] = {"low": 0.25, "medium": 0.5, "high": 0.75}


@dataclass(frozen=True)
class Belief:
    """The value that a person expects to be good for a setting."""

    value: Any
    confidence: Confidence = "medium"

    @property
    def share(self) -> float:
        """The share of trials that draw the setting around this value, from 0 to 1."""
        return _SHARE[self.confidence]

    def draw(self, parameter: Parameter, generator: random.Random) -> Any:
        """Return a value of the parameter around the expected one, which it has."""
        if isinstance(parameter, Choice):
            odds = [_ODDS[self.confidence] if value == self.value else 1 for value in parameter.values]
            return generator.choices(parameter.values, odds)[0]
        if steps := parameter.steps():
            around = NormalDist(self.value, _WIDTH[self.confidence] * (parameter.high - parameter.low) or 1.0)
            return generator.choices(steps, [around.pdf(step) for step in steps])[0]
        return self._number(parameter, generator)

    def _number(self, parameter: Range, generator: random.Random) -> float | int:
        """Return a number of a continuous range, normally distributed on the range's scale and cut at its bounds."""
        margin = 0.5 if parameter.integer else 0.0  # as all whole numbers, the bounds stand for what rounds to them
        scale = math.log if parameter.log else float
        low, high = scale(parameter.low - margin), scale(parameter.high + margin)
        around = NormalDist(scale(self.value), _WIDTH[self.confidence] * (high - low))
        drawn = around.inv_cdf(generator.uniform(around.cdf(low), around.cdf(high)))
        number = math.exp(drawn) if parameter.log else drawn
        return min(max(round(number) if parameter.integer else number, parameter.low), parameter.high)


@dataclass(frozen=True)
class Prior:
    """The expected values, by setting. One counts in every branch of the space that can have it, and in no other."""

    beliefs: Mapping[str, Belief] = field(default_factory=dict)

    def of(self, parameter: Parameter) -> Belief | None:
        """Return what is expected of a parameter; None where nothing is, or where it cannot have the value."""
        belief = self.beliefs.get(parameter.name)
        return belief if belief is not None and has(parameter, belief.value) else None

    def held(self, parameters: Iterable[Parameter]) -> frozenset[str]:
        """Return the settings with an expected value that runs of these parameters can have."""
        return frozenset(parameter.name for parameter in walk(parameters) if self.of(parameter))

    def point(self, parameters: Iterable[Parameter], others: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point {key: value} of a run that has the expected values.

        A choice without one takes the value whose branch holds most of the others. What is left is as in `others`,
        settings by name, where the space has that, and else in the middle of the range or first in the list.
        """
        return dict(self._point(parameters, others)[0])

    def _point(self, parameters: Iterable[Parameter], others: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return a point, and how many expected values it has."""
        point: dict[str, Any] = {}
        held = 0
        for parameter in parameters:
            belief = self.of(parameter)
            values = [belief.value] if belief else _preferred(parameter, others)
            tried = [(value, *self._branch(parameter, value, others)) for value in values]
            value, inner, count = max(tried, key=lambda one: one[2])  # of equals, the first
            point |= {parameter.key: value} | inner
            held += count + (belief is not None)
        return point, held

    def _branch(self, parameter: Parameter, value: Any, others: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        branch = next((branch for other, branch in parameter.items() if other == value), ())
        return self._point(branch, others)

    def plain(self) -> dict[str, Any]:
        """Return the section as YAML values."""
        return {name: {"value": belief.value, "confidence": belief.confidence} for name, belief in self.beliefs.items()}


def has(parameter: Parameter, value: Any) -> bool:
    """Return whether a parameter has a value."""
    return value in (parameter if isinstance(parameter, Range) else parameter.values)


def _preferred(parameter: Parameter, others: Mapping[str, Any]) -> list[Any]:
    """Return the values that a parameter without an expected one may take, the preferred one first."""
    usual = [others[parameter.name]] if has(parameter, others.get(parameter.name)) else []
    if isinstance(parameter, Choice):
        return [*usual, *(value for value in parameter.values if value not in usual)]
    return usual or [_middle(parameter)]


def _middle(parameter: Range) -> float | int:
    if steps := parameter.steps():
        return steps[len(steps) // 2]
    low, high = parameter.low, parameter.high
    middle = math.sqrt(low * high) if parameter.log else (low + high) / 2
    return round(middle) if parameter.integer else middle
