"""A space file on its way to a Space: its sections, its values, and every mistake with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import base_type, check_setting
from segtune.files.yamlfile import Document
from segtune.mistakes import SettingsError

Checks = Mapping[str, Callable[[Any], "str | None"]]
Steps = tuple[Any, ...]  # the keys that lead to a part of the file


class SpaceFile:
    """A file that is read to its end, mistakes or not."""

    def __init__(self, document: Document, checks: Checks) -> None:
        self.path, self.data = document.path, document.data
        self._document = document
        self.replaced: set[str] = set()  # settings for which the command line has other values
        # Settings with a mistake of their own: what they would be combined with cannot be judged.
        self.refused: set[str] = set()
        self._checks = checks
        self._mistakes = [(line, f"{document.path}:{line}: {text}") for line, text in document.repeated]

    def section(self, name: str) -> dict[Any, Any]:
        """Return a section of settings; an empty one where there is none."""
        section = self.data.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self.mistake((name,), f"expected a mapping of settings, but got {short(section)}")
            return {}
        return section

    def accept(self, name: str, value: Any, steps: Steps, into: dict[str, Any], said: Steps | None = None) -> bool:
        """Check a value and put it `into` a mapping, or report it (as the setting at `said`)."""
        # What the command line replaces need not exist, a folder for instance.
        kept, mistake = check_value(name, value, {} if name in self.replaced else self._checks)
        if mistake is None:
            into[name] = kept
            return True
        self.refused.add(name)
        if name in RunConfig.model_fields and base_type(name) is list and isinstance(value, str | int):
            mistake += f"; a list of one is [{value}]"
        self.mistake(said or steps, mistake.removeprefix(f"{name}: "), steps)
        return False

    def check(self, name: str, value: object) -> tuple[Any, str | None]:
        """RunConfig's verdict on one value, and then that of the caller's own check."""
        return check_value(name, value, self._checks)

    def mistake(self, steps: Steps, text: str, at: Steps | None = None) -> None:
        """Report a mistake of what is at `steps`, with the line of `at`."""
        line = self._document.line(*(at or steps))
        self._mistakes.append((line, f"{self.path}:{line}: {_dotted(steps)}: {text}"))

    def mistake_elsewhere(self, text: str) -> None:
        """Report a mistake that stands in no line of the file: the command line made it."""
        self._mistakes.append((0, text))

    def count(self) -> int:
        """Mistakes so far."""
        return len(self._mistakes)

    def error(self) -> InputError:
        """All mistakes, in the order of their lines."""
        return InputError(text for _, text in sorted(self._mistakes, key=lambda mistake: mistake[0]))

    def place(self, steps: Steps) -> str:
        """Return the name of what is at `steps`, with its line."""
        return f"{_dotted(steps)} (line {self._document.line(*steps)})"


def check_value(name: str, value: object, checks: Checks | None = None) -> tuple[Any, str | None]:
    """RunConfig's verdict on one value, and then that of the caller's own check."""
    try:
        value = check_setting(name, value)
    except SettingsError as error:
        return value, str(error)
    if checks and name in checks and (found := checks[name](value)):
        return value, found if found.startswith(f"{name}: ") else f"{name}: {found}"
    return value, None


def label(value: object) -> str:
    """Return a value as it stands in a key."""
    return "null" if value is None else str(value)


def _dotted(steps: Steps) -> str:
    return ".".join(map(label, steps))


def short(value: object) -> str:
    """Return a value as a message repeats it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
