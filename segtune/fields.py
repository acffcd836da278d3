"""The fields of RunConfig: their roles, types and choices, and a check of one value alone."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from segtune.config import RunConfig
from segtune.errors import nearest
from segtune.mistakes import Mistake, SettingsError, message_of
from segtune.roles import Change, Role, declared

ROLES = declared(RunConfig, Role)


def _with(holds: Callable[[Role], bool]) -> tuple[str, ...]:
    return tuple(name for name, role in ROLES.items() if holds(role))


# The same in all trials of a search, because their scores could not be compared otherwise.
NOT_SEARCHABLE = frozenset(_with(lambda role: not role.searchable))
DATA_SETTINGS = _with(lambda role: role.data)  # at the top of a search space, beside `dataset`
DATA_PLACES = _with(lambda role: role.data and role.path is not None)
VALIDATION_SETTINGS = _with(lambda role: role.validation)
# Settings that may change when a run, or a search, is resumed. The data may have moved: its fingerprint shows that it
# is the same.
CHANGEABLE_IN_RUN = frozenset(_with(lambda role: role.change >= Change.RUN))
CHANGEABLE_IN_SEARCH = frozenset(_with(lambda role: role.change >= Change.SEARCH))
SINGLE_RUN = _with(lambda role: role.single_run)
OF_THE_MACHINE = _with(lambda role: role.change is Change.MACHINE)
SCORE_NEUTRAL = frozenset(_with(lambda role: not role.affects_score or role.change is Change.MACHINE))
FOLDERS = _with(lambda role: role.path == "folder")
FILES = _with(lambda role: role.path == "file")
FOLDER_LISTS = _with(lambda role: role.path == "folders")

# What is no setting of a run, and may be typed as one: where there is a flag of this name.
_FLAGS = {"seeds": "of run_single.py and run_search.py --confirm", "top": "of run_search.py --confirm"}


def check_setting(name: str, value: object) -> object:
    """Return one value of one setting as RunConfig keeps it; SettingsError where RunConfig refuses it."""
    if name not in RunConfig.model_fields:
        raise SettingsError([unknown_setting(name)])
    try:
        return _adapter(name).validate_python(value, strict=True)
    except ValidationError as error:
        message = message_of(name, error.errors()[0], RunConfig.model_fields)
        raise SettingsError([Mistake((name,), message)]) from None


def unknown_setting(name: str) -> Mistake:
    """Return the mistake of naming a setting that does not exist, with the nearest one that does."""
    if where := _FLAGS.get(name):
        return Mistake((name,), f"unknown setting {name!r}; there is a flag for it: --{name} N, {where}")
    return Mistake((name,), f"unknown setting {name!r}{nearest(name, RunConfig.model_fields)}")


def present_spelling(name: str, value: Any) -> Any:
    """Return a stored value as it is written now; leave one that its setting does not take."""
    try:
        return check_setting(name, value)
    except SettingsError:
        return value


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(RunConfig)


def base_type(name: str) -> type:
    """Return the plain type of a setting: int, float, bool, str or list."""
    hint = _hints()[name]
    while get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is Literal:
        return str
    return get_origin(hint) or hint


def choices(name: str) -> tuple[str, ...]:
    """Return the values of a setting that has a list of them, else an empty tuple."""
    hint = _hints()[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = RunConfig.model_fields[name]
    parts = (field.annotation, *field.metadata)
    return TypeAdapter(Annotated[parts] if len(parts) > 1 else parts[0])  # type: ignore[arg-type]
