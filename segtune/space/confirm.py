"""The value of `confirm:` in the `search:` section: which trials train again, and with how many seeds."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from segtune.errors import nearest, short

AUTO_CONFIRM = "auto"  # where there is a time budget
TIME_SHARE = 0.25  # of the time budget, kept for the confirmation
FEWEST = {"top": 1, "seeds": 2}  # that can be compared
_FORM = "must be auto, none or a mapping such as {top: 3, seeds: 3}"


@dataclass(frozen=True)
class Confirm:
    """How many of the best trials train again beside the baseline, and with how many seeds each.

    `group` is a regular expression whose first parentheses match the scene in a tile's name; tiles of one scene are
    drawn together for the intervals.
    """

    top: int = 3
    seeds: int = 3
    group: str | None = None


def _confirm(value: object) -> object:
    if value is None or value == "none":
        return None
    if value == AUTO_CONFIRM or isinstance(value, Confirm):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{_FORM}, but got {short(value)}")
    known = [field.name for field in fields(Confirm)]
    for name in value:
        if name not in known:
            raise ValueError(f"unknown key {name!r}{nearest(str(name), known)}; it {_FORM}")
    for name, least in FEWEST.items():
        number = value.get(name, least)
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, but got {short(number)}")
    _check_group(value.get("group"))
    return Confirm(**value)


def _check_group(pattern: object) -> None:
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups if isinstance(pattern, str) else 0
    except re.error as error:
        raise ValueError(f"group: {pattern!r} is not a regular expression ({error.msg})") from None
    if not groups:
        raise ValueError(
            f"group must be a regular expression with parentheses around the part of a tile's name that names its "
            f"scene, such as 'scene_(\\d+)', but got {short(pattern)}"
        )


_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": [AUTO_CONFIRM, "none", None]},
        {
            "type": "object",
            "properties": {
                "top": {"type": "integer", "minimum": 1, "default": 3, "description": "best trials that train again"},
                "seeds": {"type": "integer", "minimum": 2, "default": 3, "description": "fresh seeds of each"},
                "group": {
                    "type": ["string", "null"],
                    "description": "regular expression that matches the scene in a tile's name, in parentheses",
                },
            },
            "additionalProperties": False,
        },
    ]
}
ConfirmSetting = Annotated[Confirm | str | None, BeforeValidator(_confirm), WithJsonSchema(_SCHEMA)]
