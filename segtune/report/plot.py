"""Lay out charts in percent of their frame, so that a page draws them at any width, and in print, without a program.

Places are percent from 0 to 100: x from the left, y from the bottom.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["winner", "baseline", "finished", "running", "unfinished"]
LAST: Sequence[Kind] = ("unfinished", "running", "finished", "baseline", "winner")  # drawn last, above the others
_ROOM = 0.05  # of the range, above and below the values


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of values, its title and its labelled places."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, in percent."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(100 * (value - low) / (high - low), 2)

    @property
    def ends(self) -> tuple[str, str]:
        """The low and the high end as text, with two significant digits of the range, and two decimals at least."""
        digits = max(2, 1 - math.floor(math.log10(self.high - self.low)))
        return f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"


@dataclass(frozen=True)
class Line:
    """A line through places; `trial` links it with the other marks of the trial."""

    points: tuple[tuple[float, float], ...]
    kind: Kind | Literal["best"]
    trial: int | None = None

    @property
    def text(self) -> str:
        """The points as SVG has them, with y from the top."""
        return " ".join(f"{x:g},{round(100 - y, 2):g}" for x, y in self.points)


@dataclass(frozen=True)
class Dot:
    """A mark of a trial."""

    x: float
    y: float
    kind: Kind
    trial: int


@dataclass(frozen=True)
class Chart:
    """A chart: a title that says what is seen, two axes and marks."""

    name: str
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()


def axis(title: str, values: Iterable[float], whole: bool = False, from_zero: bool = False) -> Axis:
    """Return an axis that holds all values, with round ticks; `whole` has whole numbers alone."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(found), max(found)
    if from_zero:
        low = min(low, 0.0)
    room = _ROOM * ((high - low) or abs(high) or 1.0)
    if whole:
        low, high = low - 0.5, high + 0.5
    else:
        low, high = (low if from_zero else low - room), high + room
    return Axis(title, low, high, tuple(_ticks(low, high, whole)))


def score_axis(title: str, values: Iterable[float]) -> Axis:
    """Return an axis of scores, from 0 to 1, that shows their range."""
    found = axis(title, values)
    low, high = max(0.0, found.low), min(1.0, found.high)
    if high <= low:
        low, high = 0.0, 1.0
    return Axis(title, low, high, tuple(_ticks(low, high, False)))


def _ticks(low: float, high: float, whole: bool, about: int = 6) -> list[Tick]:
    step = 10.0 ** math.floor(math.log10((high - low) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about)
    if whole:
        step = max(1.0, step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step - 1e-9)
    values = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
    return [Tick(round(100 * (value - low) / (high - low), 2), f"{value:.{digits}f}") for value in values]
