"""When failures of trials mean that the search itself cannot go on."""

from __future__ import annotations

import re

from segtune.tuning.failures import Failure

_SAME_CAUSE = 3  # first trials that fail for one cause before the search gives up
_IN_A_ROW = 10  # later trials that fail for one cause, with no other end between them, before it gives up


class FirstFailures:
    """Failures before any trial of the search reached a score.

    While their cause is one and the same, they may be the machine's fault; the trials are then not counted as failed
    but wait until the cause is gone.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, Failure]] = []

    def hold(self, number: int, failure: Failure) -> None:
        """Add a failed trial."""
        self._held.append((number, failure))

    def release(self) -> list[tuple[int, Failure]]:
        """Return the trials and hold them no longer."""
        held, self._held = self._held, []
        return held

    @property
    def doubtful(self) -> bool:
        """Whether so many failed that no more trials should start before the running ones have shown more."""
        return len(self._held) >= _SAME_CAUSE

    @property
    def differ(self) -> bool:
        """Whether there are several causes."""
        return len({_cause(failure) for _, failure in self._held}) > 1

    def __str__(self) -> str:
        numbers = ", ".join(f"#{number}" for number, _ in self._held)
        return f"the first trials ({numbers}) all failed: {self._held[0][1].reason}"


class FailuresInARow:
    """Failures of later trials for one cause, with no other end between them."""

    def __init__(self) -> None:
        self._row: list[tuple[int, Failure]] = []

    def clear(self) -> None:
        """Forget the failures: a trial ended in another way."""
        self._row.clear()

    def add(self, number: int, failure: Failure) -> None:
        """Count a failure."""
        if self._row and _cause(self._row[-1][1]) != _cause(failure):
            self._row.clear()
        self._row.append((number, failure))

    @property
    def too_many(self) -> bool:
        """Whether the search should give up: the machine changed, and all trials that are left would be lost."""
        return len(self._row) >= _IN_A_ROW

    def __str__(self) -> str:
        (first, _), (last, failure) = self._row[0], self._row[-1]
        return f"{len(self._row)} trials in a row (#{first} to #{last}) failed: {failure.reason}"


def _cause(failure: Failure) -> str:
    """Return the reason without its numbers, which may be those of a trial or a process."""
    return re.sub(r"\d+", "N", failure.reason)
