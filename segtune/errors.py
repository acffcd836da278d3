"""The few errors that a user can cause; every one names the file or the setting."""

from __future__ import annotations

import difflib
import unicodedata
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


class TileError(InputError):
    """A tile that was sound when the data set was read cannot be read in the middle of a run."""


class PlaceError(InputError):
    """What a run needs is not to be seen from this machine."""


class NonFiniteLossError(SegtuneError):
    """The training loss became NaN or infinite; the weights are of no use from here on."""


class DeviceMemoryError(SegtuneError):
    """The device's memory is not enough, not even for one tile at a time."""


class LoaderError(SegtuneError):
    """A loader process died, and the run with it, which was sound itself."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'encoder'?"`` for the known name most like ``name``, or an empty string.

    Where none is like it, the longest one that it contains: cosine for CosineAnnealingLR.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    contained = [candidate for candidate in by_lower if len(candidate) > 2 and candidate in name.lower()]
    found += sorted(contained, key=len, reverse=True)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


_JOINERS = "\u200c\u200d"  # without width, and part of how Persian, Hindi or an emoji is written


def printable(text: object) -> str:
    """Return text from outside as a terminal, or a table, can show it: on one line, and without commands.

    A name can hold a line break, an escape sequence, or characters that turn the direction of what follows; a message
    with it must not look like two, nor like another one. They are shown as Python writes them: ``\\n``, ``\\x1b``.
    """
    return "".join(map(_shown, str(text)))


def _shown(char: str) -> str:
    # Cc are commands, Cf formats (of direction, or invisible), Zl and Zp breaks, Cs bytes of a name that is no UTF-8.
    harmful = char not in _JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return char.encode("unicode_escape").decode("ascii") if harmful else char


def one_line(text: object) -> str:
    """A library's message on one line, and not a long one."""
    return " ".join(str(text).split())[:200]


def counted(number: float, noun: str) -> str:
    """A number with its noun: ``1 epoch``, ``2 epochs``, ``0.5 GPU``."""
    return f"{number if isinstance(number, int) else f'{number:g}'} {noun}{'' if 0 < number <= 1 else 's'}"


def first_few(names: Iterable[str], limit: int = 5) -> str:
    """The first names and how many more there are: ``"a, b, c, d, e and 12 more"``."""
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
