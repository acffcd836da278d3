"""Forbidden combinations of values: the entries of `forbid:`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from segtune.vocabulary import is_loss, yaml_text


@dataclass(frozen=True)
class Forbidden:
    """A forbidden combination: a run is not tried if each named setting has one of the named values."""

    values: Mapping[str, tuple[Any, ...]]  # by setting; a string may have wildcards, as in fnmatch

    def meets(self, name: str, value: Any) -> bool:
        """Return whether a value of a setting is one of the named values."""
        return any(_same(name, value, other) for other in self.values[name])

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Return whether a run with these settings is forbidden."""
        return all(self.meets(name, settings[name]) for name in self.values)

    def plain(self) -> dict[str, Any]:
        """Return the entry as YAML values; a single value stands without a list."""
        return {name: list(values) if len(values) > 1 else values[0] for name, values in self.values.items()}

    def __str__(self) -> str:
        return f"{{{', '.join(f'{name}: {yaml_text(value)}' for name, value in self.plain().items())}}}"


def is_wildcard(name: str, value: object) -> bool:
    """Return whether a value of a setting is a string with wildcards; the weight in a loss such as 0.7*dice is none."""
    found = isinstance(value, str) and not set(value).isdisjoint("*?[")
    return found and not (name == "loss" and is_loss(str(value)))


def _same(name: str, value: Any, named: Any) -> bool:
    if isinstance(value, float) and isinstance(named, float):
        return math.isclose(value, named, rel_tol=1e-9)  # a sampler adds steps up, with rounding errors
    return value == named or (isinstance(value, str) and is_wildcard(name, named) and fnmatchcase(value, named))
