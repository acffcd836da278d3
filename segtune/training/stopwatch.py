"""What a run is doing: how long each kind of work took, and signs of life for who watches over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from segtune.clock import running_seconds

# What a run spends its time on, from its start to the first batch, and waiting for the batches after it.
PHASES = ("start", "data", "training", "evaluation", "checkpoint", "reporting")

Alive = Callable[[str], None]
T = TypeVar("T")


class Phases:
    """A clock for each phase, of which one at most is running.

    Parameters
    ----------
    alive: called with the phase when one begins and with every `beat`; waiting for data is part of training there.
    """

    def __init__(self, alive: Alive | None = None) -> None:
        self._alive = alive
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._phase: str | None = None
        self._since = 0.0

    def enter(self, phase: str) -> None:
        """Begin a phase, and end the one before."""
        self.leave()
        self._phase = phase
        self.beat()

    def leave(self) -> None:
        """End the phase; the time until the next one is nobody's."""
        now = running_seconds()
        if self._phase:
            self._spent[self._phase] += now - self._since
        self._phase, self._since = None, now

    def beat(self) -> None:
        """Something was done."""
        if self._alive and self._phase:
            self._alive("training" if self._phase == "data" else self._phase)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """A phase for the block, after which the present one goes on."""
        before = self._phase
        self.enter(phase)
        yield
        if before:
            self.enter(before)
        else:
            self.leave()

    def trained_on(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches: waiting for one is data (for a run's first one: start), and the rest training."""
        while True:
            if self._phase != "start":
                self.enter("data")
            batch = next(batches, None)
            self.enter("training")
            if batch is None:
                return
            yield batch

    def add(self, spent: Mapping[str, float]) -> None:
        """Count what was spent before."""
        for phase, seconds in spent.items():
            self._spent[phase] += seconds

    def spent(self) -> dict[str, float]:
        """Seconds of each phase until now."""
        now = running_seconds()
        return {
            phase: seconds + (now - self._since if phase == self._phase else 0.0)
            for phase, seconds in self._spent.items()
        }
