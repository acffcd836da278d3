"""What a backend asks for trials, and what runs them."""

from __future__ import annotations

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


class Backend(Protocol):
    """A place where trials run: Ray, this process, or a simulation."""

    def run(self, searcher: Feed) -> None:
        """Run the feed's trials until no more come."""
