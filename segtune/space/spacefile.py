"""SpaceFile: the content of a space file, and the mistakes found in it so far, each with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from segtune.config import RunConfig
from segtune.errors import InputError, short
from segtune.fields import base_type, check_setting
from segtune.files.yamlfile import Document
from segtune.mistakes import Mistake, SettingsError

Checks = Mapping[str, Callable[[Any], "str | None"]]
Steps = tuple[Any, ...]  # the keys that lead to a part of the file


class SpaceFile:
    """A space file that is being read. Reading goes on after a mistake, so that all are reported at once."""

    def __init__(self, document: Document, checks: Checks) -> None:
        self.path, self.data = document.path, document.data
        self._document = document
        self.replaced: set[str] = set()  # settings that the command line sets
        # Settings with a wrong value: whether others go with them cannot be said.
        self.refused: set[str] = set()
        self._checks = checks
        self._mistakes = [(line, f"{document.path}:{line}: {text}") for line, text in document.repeated]

    def section(self, name: str) -> dict[Any, Any]:
        """Return a section of settings; an empty mapping if it is missing, or is no mapping (a mistake)."""
        section = self.data.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self.mistake((name,), f"expected a mapping of settings, but got {short(section)}")
            return {}
        return section

    def accept(self, name: str, value: Any, steps: Steps, into: dict[str, Any], said: Steps | None = None) -> bool:
        """Check a value: put it `into` a mapping, or report it as a mistake. Return whether it is right.

        The mistake names the setting at `said`, if given, and has the line of `steps`.
        """
        # A value that the command line replaces need not be possible: its folder may not exist.
        checks = {} if name in self.replaced else self._checks
        try:
            into[name] = _checked(name, value, checks)
        except SettingsError as error:
            self.refused.add(name)
            text = str(error).removeprefix(f"{name}: ")
            if name in RunConfig.model_fields and base_type(name) is list and isinstance(value, str | int):
                text += f"; write a list of one value as [{value}]"
            self.mistake(said or steps, text, steps)
            return False
        return True

    def check(self, name: str, value: object) -> Any:
        """Return one value as RunConfig keeps it; raise SettingsError if RunConfig or the caller's check refuses it."""
        return _checked(name, value, self._checks)

    def mistake(self, steps: Steps, text: str, at: Steps | None = None) -> None:
        """Report a mistake at `steps`, with the line of `at` if given."""
        line = self._document.line(*(at or steps))
        self._mistakes.append((line, f"{self.path}:{line}: {_dotted(steps)}: {text}"))

    def mistake_elsewhere(self, text: str) -> None:
        """Report a mistake of the command line, which has no line in the file."""
        self._mistakes.append((0, text))

    def count(self) -> int:
        """Return the number of mistakes so far."""
        return len(self._mistakes)

    def error(self) -> InputError:
        """Return the error that lists all mistakes in the order of their lines."""
        return InputError(dict.fromkeys(text for _, text in sorted(self._mistakes, key=lambda mistake: mistake[0])))

    def place(self, steps: Steps) -> str:
        """Return a place as messages name it: ``run.lr (line 2)``."""
        return f"{_dotted(steps)} (line {self._document.line(*steps)})"


def _checked(name: str, value: object, checks: Checks) -> Any:
    value = check_setting(name, value)
    if name in checks and (found := checks[name](value)):
        raise SettingsError([Mistake((name,), found if found.startswith(f"{name}: ") else f"{name}: {found}")])
    return value


def label(value: object) -> str:
    """Return a value as a part of a key: ``null`` for None."""
    return "null" if value is None else str(value)


def _dotted(steps: Steps) -> str:
    return ".".join(map(label, steps))
