"""Single settings of RunConfig: their types, their choices, and a check of one value alone."""

from __future__ import annotations

import functools
import types
import typing
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from segtune.config import RunConfig
from segtune.errors import nearest
from segtune.mistakes import message_of


def check_setting(name: str, value: object) -> tuple[object, str | None]:
    """Check one value of one setting alone: (the value as RunConfig keeps it, None) or (value, mistake)."""
    if name not in RunConfig.model_fields:
        return value, f"unknown setting {name!r}{nearest(name, RunConfig.model_fields)}"
    try:
        return _adapter(name).validate_python(value, strict=True), None
    except ValidationError as error:
        return value, message_of(name, error.errors()[0], RunConfig.model_fields)


def base_type(name: str) -> type:
    """The plain type behind a setting: int, float, str or list."""
    hint = typing.get_type_hints(RunConfig)[name]
    while get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is Literal:
        return str
    return get_origin(hint) or hint


def choices(name: str) -> tuple[str, ...]:
    """The values that a setting can take where they are listed, else nothing."""
    hint = typing.get_type_hints(RunConfig)[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = RunConfig.model_fields[name]
    parts = (field.annotation, *field.metadata)
    return TypeAdapter(Annotated[parts] if len(parts) > 1 else parts[0])  # type: ignore[arg-type]
