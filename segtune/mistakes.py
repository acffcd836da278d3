"""What pydantic finds wrong, as one-line messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from segtune.errors import nearest
from segtune.vocabulary import meant

_LONGEST_VALUE = 100  # characters of a wrong value that a message repeats


def explain(error: ValidationError, model: type[BaseModel]) -> list[tuple[str | None, str]]:
    """pydantic's findings as (setting, one-line message); the setting is None for a combination."""
    found = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else None
        found.append((name, message_of(name, item, model.model_fields)))
    return found


def message_of(name: str | None, item: Any, fields: Mapping[str, FieldInfo]) -> str:
    """Return the line for one of pydantic's findings; without a name it is about a combination."""
    kind, value = item["type"], item.get("input")
    got = _short(value)
    if kind == "extra_forbidden":
        return f"unknown setting {name!r}{nearest(str(name), fields)}"
    text = item["msg"].removeprefix("Value error, ")
    if name is None:
        return text
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
    return f"{name}: {text[0].lower()}{text[1:]}, but got {got}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
