"""How trials and searches end, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Decision(Enum):
    """Whether a trial goes on after an epoch."""

    CONTINUE = auto()
    STOP = auto()


class Cause(Enum):
    """Why a search ends before it has as many trials as it was asked for."""

    TIME = auto()  # the time budget is used up
    PATIENCE = auto()  # too many trials in a row brought no improvement
    EXHAUSTED = auto()  # every point of the space was tried
    FAULT = auto()  # another trial would fail in the same way


@dataclass(frozen=True)
class EarlyEnd:
    """An early end of a search, with its reason in words."""

    cause: Cause
    reason: str
