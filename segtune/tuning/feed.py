"""What a backend asks for trials, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from segtune.training.result import EpochResult
from segtune.tuning.failures import Failure
from segtune.tuning.proposals import TrialStart
from segtune.tuning.scheduler import Decision


class Feed(Protocol):
    """Gives trials to a backend, and is told how they go: the searcher, or the runs of a confirmation.

    A backend ends when `next_trial` returns None while no trial is `live`, or soon after `interrupted` is set.
    """

    @property
    def interrupted(self) -> bool:
        """Whether everything is to end now."""

    @property
    def live(self) -> frozenset[int]:
        """The numbers of the trials that were started and have not ended."""

    def next_trial(self) -> TrialStart | None:
        """Return the next trial to start; None for "not now", and, while no trial is `live`, for "no more"."""

    def epoch(self, number: int, result: EpochResult) -> Decision:
        """Record an epoch of a trial, and decide whether the trial goes on."""

    def ended(self, number: int, failure: Failure | None = None) -> None:
        """Record that a trial no longer runs."""

    def poll(self) -> None:
        """Do what is to be done now and then; called between two events."""

    def halt(self, reason: str) -> None:
        """End everything in order, for a fault that another trial would meet as well."""


class OrderlyEnd:
    """How a feed ends before its end: what runs then waits for the next start, and nothing more is started."""

    def __init__(self) -> None:
        self.interrupted = False  # set it, and what ends now waits
        self.fault: str | None = None  # what would hit the next one as well
        self.error: Exception | None = None  # what a record could not be written for

    def interrupt(self) -> None:
        """End in order."""
        self.interrupted = True

    def halt(self, reason: str) -> None:
        """End in order, for a fault that another one would meet as well."""
        self.fault = self.fault or reason
        self.interrupt()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """End in order where something cannot be written: Ray swallows such an error, or buries it."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            self.interrupt()


class Backend(Protocol):
    """A place where trials run: Ray, this process, or a simulation."""

    def run(self, searcher: Feed) -> None:
        """Run the feed's trials until no more come."""
