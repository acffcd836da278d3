"""What is searched: parameters, some of them under a condition, and who draws from them.

A space draws from whatever implements `Suggest`; it knows no Optuna and no Ray.
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
    """One of several values; each may bring settings of its own."""

    name: str  # the setting of RunConfig
    key: str  # its unique name in the space: "encoder", or "optimizer.sgd.momentum" inside a branch
    values: tuple[Any, ...]
    branches: tuple[tuple[Parameter, ...], ...]  # one per value, mostly empty

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values that stand for all of them when combinations are tried: here simply all."""
        return self.values

    def items(self) -> Iterator[tuple[Any, tuple[Parameter, ...]]]:
        """Each value with the parameters that it brings."""
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
        """The two bounds."""
        return self.low, self.high

    def items(self) -> Iterator[tuple[Any, tuple[Parameter, ...]]]:
        """Nothing: no number brings parameters of its own."""
        return iter(())

    def steps(self) -> tuple[float | int, ...] | None:
        """The numbers from low to high where `step` makes them countable, or where they are one; else None."""
        if self.low == self.high:
            return (self.low,)
        if self.step is None:
            return None
        # In decimals, as they were written: 0.1 + 2 * 0.1 is 0.3 and the last one is `high` itself.
        low, high, step = (Decimal(repr(number)) for number in (self.low, self.high, self.step))
        kind = int if self.integer else float
        return tuple(kind(low + i * step) for i in range(int((high - low) / step) + 1))

    def numbers(self) -> Sequence[float | int] | None:
        """All numbers that are drawn from it, None where there is no end of them."""
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
    """What draws values."""

    def choice(self, parameter: Choice) -> int:
        """The index into the choice's values."""

    def number(self, parameter: Range) -> float | int:
        """A number inside the range."""


class RandomSuggest:
    """Draws evenly: among values and steps, between bounds, and between the logarithms of a log range's bounds."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def choice(self, parameter: Choice) -> int:
        """The index into the choice's values."""
        return self._random.randrange(len(parameter.values))

    def number(self, parameter: Range) -> float | int:
        """A number inside the range, an int where the setting is one."""
        if steps := parameter.steps():
            return self._random.choice(steps)
        # A whole number stands for what is rounded to it, so that the bounds are drawn as often as their neighbours.
        margin = 0.5 if parameter.integer else 0.0
        low, high = parameter.low - margin, parameter.high + margin
        if parameter.log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            drawn = self._random.uniform(low, high)
        return min(max(round(drawn) if parameter.integer else drawn, parameter.low), parameter.high)


def walk(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """All parameters, each before those of its branches."""
    for parameter in parameters:
        yield parameter
        for _, branch in parameter.items():
            yield from walk(branch)


def not_countable(parameter: Parameter) -> str | None:
    """Why a grid cannot list the values of a parameter, or None when it can."""
    if isinstance(parameter, Choice) or parameter.steps() is not None:
        return None
    return f"sampler grid needs lists: {parameter.name} is a range without a step"
