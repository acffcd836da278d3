"""Mistakes in settings: pydantic's findings as one-line messages, with the names of the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from segtune.errors import InputError, nearest, requirement, short
from segtune.vocabulary import meant

_CLASH = "clash"  # pydantic's type of an error about several settings
_LONGEST_VALUE = 100  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Mistake:
    """A mistake in one setting, or in several settings that do not go together."""

    settings: tuple[str, ...]  # the settings that the message is about
    message: str  # one line


class SettingsError(InputError):
    """Some settings are wrong, or do not go together; `found` lists the mistakes."""

    def __init__(self, found: Sequence[Mistake], where: str = "") -> None:
        self.found, self._where = tuple(found), where
        super().__init__(where + mistake.message for mistake in found)

    @property
    def settings(self) -> frozenset[str]:
        """All settings that the mistakes are about."""
        return frozenset(name for mistake in self.found for name in mistake.settings)

    def __reduce__(self) -> tuple[type[SettingsError], tuple[Any, ...]]:
        return type(self), (self.found, self._where)


def clash(message: str, *settings: str) -> PydanticCustomError:
    """Return the error that a model's validator raises for settings that do not go together."""
    return PydanticCustomError(_CLASH, "{message}", {"message": message, "settings": settings})


def explain(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return pydantic's findings on the settings of a model, one mistake each."""
    return [_mistake(item, model.model_fields) for item in error.errors()]


def _mistake(item: Any, fields: Mapping[str, FieldInfo]) -> Mistake:
    if item["type"] == _CLASH:
        return Mistake(item["ctx"]["settings"], item["msg"])
    name = str(item["loc"][0])
    return Mistake((name,), message_of(name, item, fields))


def message_of(name: str, item: Any, fields: Mapping[str, FieldInfo]) -> str:
    """Return the line for one of pydantic's findings on one setting."""
    kind, value = item["type"], item.get("input")
    got = short(value, _LONGEST_VALUE)
    if kind == "extra_forbidden":
        return f"unknown setting {name!r}{nearest(str(name), fields)}"
    text = item["msg"].removeprefix("Value error, ")
    if kind == "literal_error":
        known = get_args(fields[name].annotation)
        expected = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{name}: {got} is not one of {expected}{meant(str(value), known)}"
    if kind == "string_pattern_mismatch":
        return f"{name}: {got} is not one of auto, cpu, cuda, cuda:N"  # the only setting with a pattern
    if kind == "finite_number":
        return f"{name}: must be a finite number, but got {got}"
    if kind == "value_error":
        return f"{name}: {text}"
    return f"{name}: {requirement(text)}, but got {got}"
