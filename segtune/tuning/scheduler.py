"""What a scheduler of trials decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

from segtune.training.result import EpochResult


class Decision(Enum):
    """Whether a trial goes on after an epoch."""

    CONTINUE = auto()
    PAUSE = auto()  # it stops running and may go on later
    STOP = auto()


class Scheduler(Protocol):
    """Compares trials after some epochs, the rungs; called by the searcher."""

    @property
    def paused(self) -> Sequence[int]:
        """The trials that wait at a rung; first those that are the least likely to go on."""

    def add(self, number: int, values: Mapping[int, float]) -> None:
        """Begin to compare a trial, or let it go on; `values` are its best scores so far by epoch, as far as known."""

    def decide(self, number: int, result: EpochResult) -> Decision:
        """Record an epoch of a trial, and decide whether it goes on."""

    def pause(self, number: int, values: Mapping[int, float], budget: int) -> int | None:
        """Let a trial that no longer runs wait at the rung where it is, if it has to wait there.

        A trial that has used its budget, in epochs, does not wait. Return its number of epochs if it waits; None if it
        is to go on as soon as possible.
        """

    def ended(self, number: int, last: EpochResult | None) -> None:
        """Record the end of a trial, with its last epoch unless it failed."""

    def promotable(self, last: bool) -> int | None:
        """Return the paused trial that is to go on; None if a new one is worth more.

        `last` says that no new trials come and none runs: nothing but a paused trial can go on.
        """

    def hopeless(self) -> list[int]:
        """Return the paused trials that can never go on, whatever the other trials reach; the worst first."""

    def why(self, number: int) -> str | None:
        """Return why a trial was paused or stopped; None where its status says all."""
