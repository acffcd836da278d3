"""The few errors that a user can cause; every one names the file or the setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SegtuneError(Exception):
    """Base of all errors that segtune raises on purpose."""


class InputError(SegtuneError):
    """What the user gave is wrong: one message per mistake, each naming a file or a setting.

    The scripts print each message as a line of its own, ``error: ...``, and exit with status 2.
    """

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes = [mistakes] if isinstance(mistakes, str) else list(mistakes)
        super().__init__("\n".join(self.mistakes))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[str]]]:
        # Exceptions are rebuilt from their args on the other side of a process; keep the list a list.
        return type(self), (self.mistakes,)


class NonFiniteLossError(SegtuneError):
    """The training loss became NaN or infinite; the weights are of no use from here on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'encoder'?"`` for the known name most like ``name``, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


def first_few(names: Iterable[str], limit: int = 5) -> str:
    """The first names and how many more there are: ``"a, b, c, d, e and 12 more"``."""
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
