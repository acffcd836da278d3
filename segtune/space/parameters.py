"""Parameters, which are the settings that a space searches, and how values are drawn for them.

A space draws with any object that implements `Suggest`. It does not know Optuna or Ray.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol


@dataclass(frozen=True)
class Choice:
    """A setting with several values. Each value may have a branch: parameters that are drawn with this value only."""

    name: str  # the setting of RunConfig
    key: str  # its unique name in the space: "encoder", or "optimizer.sgd.momentum" inside a branch
    values: tuple[Any, ...]
    branches: tuple[tuple[Parameter, ...], ...]  # one per value; most are empty

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values to try in place of all values: here all of them."""
        return self.values

    def items(self) -> Iterator[tuple[Any, tuple[Parameter, ...]]]:
        """Yield each value with its branch."""
        return zip(self.values, self.branches, strict=True)


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both included."""

    name: str
    key: str
    low: float | int
    high: float | int
    log: bool
    step: float | int | None
    integer: bool

    @property
    def extremes(self) -> tuple[float | int, float | int]:
        """The values to try in place of all values: the two bounds."""
        return self.low, self.high

    def items(self) -> Iterator[tuple[Any, tuple[Parameter, ...]]]:
        """Yield nothing: numbers of a range have no branches."""
        return iter(())

    def steps(self) -> tuple[float | int, ...] | None:
        """Return the numbers from low to high if there is a step, or if low is high; else None."""
        if self.low == self.high:
            return (self.low,)
        if self.step is None:
            return None
        # Decimal numbers, as they were written: 0.1 + 2 * 0.1 is exactly 0.3, and the last number is exactly `high`.
        low, high, step = (Decimal(repr(number)) for number in (self.low, self.high, self.step))
        kind = int if self.integer else float
        return tuple(kind(low + i * step) for i in range(int((high - low) / step) + 1))

    def numbers(self) -> Sequence[float | int] | None:
        """Return all numbers that can be drawn; None for a continuous range."""
        if self.integer and self.step is None:
            return range(int(self.low), int(self.high) + 1)
        return self.steps()

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.integer else (int, float)):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8


Parameter = Choice | Range


class Suggest(Protocol):
    """Draws a value for a parameter."""

    def choice(self, parameter: Choice) -> int:
        """Return the index of the drawn value."""

    def number(self, parameter: Range) -> float | int:
        """Return a number inside the range."""


class RandomSuggest:
    """Draws uniformly from the values, from the steps, or between the bounds (on a log scale for a log range)."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def choice(self, parameter: Choice) -> int:
        """Return the index of the drawn value."""
        return self._random.randrange(len(parameter.values))

    def number(self, parameter: Range) -> float | int:
        """Return a number inside the range; an int if the setting is an int."""
        if steps := parameter.steps():
            return self._random.choice(steps)
        # Half a number more on both sides: rounding then gives the bounds as often as all other whole numbers.
        margin = 0.5 if parameter.integer else 0.0
        low, high = parameter.low - margin, parameter.high + margin
        if parameter.log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            drawn = self._random.uniform(low, high)
        return min(max(round(drawn) if parameter.integer else drawn, parameter.low), parameter.high)


def walk(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """Yield all parameters, each one before those of its branches."""
    for parameter in parameters:
        yield parameter
        for _, branch in parameter.items():
            yield from walk(branch)


def not_countable(parameter: Parameter) -> str | None:
    """Return why a grid cannot list the values of a parameter; None if it can."""
    if isinstance(parameter, Choice) or parameter.steps() is not None:
        return None
    return f"sampler grid needs lists: {parameter.name} is a range without a step"
