"""Errors that segtune raises on purpose, and helpers for their texts. Each error names a file or a setting."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

Given = TypeVar("Given")
Found = TypeVar("Found")


class SegtuneError(Exception):
    """Base class of all errors that segtune raises on purpose."""


class InputError(SegtuneError, ValueError):
    """The user's input is wrong; `mistakes` has one line per mistake, each naming a file or a setting.

    Users of the Python API can catch it as a ValueError. The scripts print every line as ``error: ...`` and exit with
    status 2.
    """

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes = [mistakes] if isinstance(mistakes, str) else list(mistakes)
        super().__init__("\n".join(self.mistakes))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[str]]]:
        # Another process rebuilds an exception from these arguments: the list must stay a list.
        return type(self), (self.mistakes,)


def with_all_mistakes(given: Mapping[str, Given], look: Callable[[str, Given], Found]) -> dict[str, Found]:
    """Return what `look` finds for each name and what is given for it; InputError with the mistakes of all of them."""
    found: dict[str, Found] = {}
    mistakes: list[str] = []
    for name, value in given.items():
        try:
            found[name] = look(name, value)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return found


class TileError(InputError):
    """A tile cannot be read during a run, although it was sound when the data set was scanned."""


class PlaceError(InputError):
    """A file or folder that a run needs is not visible on this machine."""


class NonFiniteLossError(SegtuneError):
    """The training loss became NaN or infinite; the weights cannot recover."""


class DeviceMemoryError(SegtuneError):
    """The device's memory is too small, even for one tile at a time."""


class ExportError(SegtuneError):
    """An exported file computes something else than the model."""


class ProcessError(SegtuneError):
    """One of the processes that train a run together died or hung; the run was sound itself."""


class LoaderError(SegtuneError):
    """A loader process died and ended the run, which was sound itself."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'encoder'?"`` for the known name most similar to ``name``, or an empty string.

    If no known name is similar, return the longest one that `name` contains: cosine for CosineAnnealingLR.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    contained = [candidate for candidate in by_lower if len(candidate) > 2 and candidate in name.lower()]
    found += sorted(contained, key=len, reverse=True)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Return the hint of `nearest`, or all known names where none is similar: ``" (known: a, b)"``."""
    names = list(known)
    return nearest(name, names) or f" (known: {', '.join(names) or 'none'})"


_JOINERS = "\u200c\u200d"  # invisible, but part of correct Persian, Hindi and emoji


def printable(text: object) -> str:
    """Return text from outside in a form that is safe to print: one line, without control characters.

    A file name can contain a line break, an escape sequence or a character that reverses the text direction. Such a
    name must not make one message look like two, or like a different one. These characters are escaped as in Python:
    ``\\n``, ``\\x1b``.
    """
    return "".join(map(_shown, str(text)))


def _shown(char: str) -> str:
    # Cc: control characters. Cf: invisible formats. Zl, Zp: line breaks. Cs: bytes of a name that is not UTF-8.
    harmful = char not in _JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return char.encode("unicode_escape").decode("ascii") if harmful else char


def one_line(text: object) -> str:
    """Return a library's message on one line, cut after 200 characters."""
    return " ".join(str(text).split())[:200]


def named(error: BaseException) -> str:
    """Return an error's type and text on one line; the text alone can say little, such as that of a KeyError."""
    return f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__


def short(value: object, longest: int = 40) -> str:
    """Return a value as messages quote it, cut if it is longer than so many characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def requirement(message: str) -> str:
    """Return pydantic's message on a value as others are written: ``must be greater than 0``."""
    text = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{text[:1].lower()}{text[1:]}"


def counted(number: float, noun: str) -> str:
    """Return a number with its noun: ``1 epoch``, ``2 epochs``, ``0.5 GPU``."""
    return f"{number if isinstance(number, int) else f'{number:g}'} {noun}{'' if 0 < number <= 1 else 's'}"


def first_few(names: Iterable[str], limit: int = 5) -> str:
    """Return the first names and the number of the others: ``"a, b, c, d, e and 12 more"``."""
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"


def first_mistakes(mistakes: Sequence[str], where: object, limit: int = 5) -> list[str]:
    """Return the first mistakes, and a line with the number of the others in a file or folder."""
    rest = len(mistakes) - limit
    return [*mistakes[:limit], *([f"{where}: {counted(rest, 'more mistake')}"] if rest > 0 else [])]


def duration(seconds: float) -> str:
    """Format seconds: 8.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
