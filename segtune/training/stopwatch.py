"""The time that each phase of a run takes, and signs of life for whoever watches the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor

from segtune.clock import running_seconds

# start: until the first batch; data: waiting for the batches after it; training: the rest of it; checkpoint: writing
# best/ and state.pt; reporting: writing metrics.csv, TensorBoard events and pictures.
PHASES = ("start", "data", "training", "evaluation", "checkpoint", "reporting")

Alive = Callable[[str], None]
# Steps done, steps in the epoch, loss: a number on the device, so that only who looks at it waits for a GPU.
OnBatch = Callable[[int, int, Tensor], None]
T = TypeVar("T")


class Phases:
    """A clock for each phase of a run; at most one of them runs at a time.

    Parameters
    ----------
    alive: called with the name of the phase when a phase begins and at every `beat`; waiting for data counts as
        training there.
    """

    def __init__(self, alive: Alive | None = None) -> None:
        self._alive = alive
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._phase: str | None = None
        self._since = 0.0

    def enter(self, phase: str) -> None:
        """Begin a phase, and end the present one."""
        self.leave()
        self._phase = phase
        self.beat()

    def leave(self) -> None:
        """End the present phase; the time until the next one counts for no phase."""
        now = running_seconds()
        if self._phase:
            self._spent[self._phase] += now - self._since
        self._phase, self._since = None, now

    def beat(self) -> None:
        """Give a sign of life."""
        if self._alive and self._phase:
            self._alive("training" if self._phase == "data" else self._phase)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count the block as a phase, after which the present one goes on."""
        before = self._phase
        self.enter(phase)
        yield
        if before:
            self.enter(before)
        else:
            self.leave()

    def trained_on(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield the batches, and count waiting for them as data and the rest as training.

        Waiting for the first batch of a run counts as start.
        """
        while True:
            if self._phase != "start":
                self.enter("data")
            batch = next(batches, None)
            self.enter("training")
            if batch is None:
                return
            yield batch

    def add(self, spent: Mapping[str, float]) -> None:
        """Add the seconds of earlier starts."""
        for phase, seconds in spent.items():
            self._spent[phase] += seconds

    def spent(self) -> dict[str, float]:
        """Return the seconds of each phase until now."""
        now = running_seconds()
        return {
            phase: seconds + (now - self._since if phase == self._phase else 0.0)
            for phase, seconds in self._spent.items()
        }
