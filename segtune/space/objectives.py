"""The value of `objectives:` in the `search:` section: what is searched for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from segtune.objectives import MEASURES, objective_name


def _objectives(value: object) -> object:
    """Return the objectives as a list of names, each in its one spelling."""
    given = value if isinstance(value, list) else [value]
    names = list(dict.fromkeys(objective_name(one) for one in given))
    if not names:
        raise ValueError("names nothing to search for; the default is miou")
    if len(names) > 1:
        mean = ", ".join(f"{name}: 1" for name in names[:2])
        raise ValueError(
            f"has {len(names)} measures of quality ({', '.join(names)}), and trials are compared by one; "
            f"give one of them, or a weighted mean such as {{{mean}}}"
        )
    return names


_ONE: dict[str, Any] = {
    "anyOf": [
        {"enum": list(MEASURES)},
        {"type": "string", "pattern": "^[ a-zA-Z0-9_./*+]+$"},
        {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}, "minProperties": 1},
    ]
}
Objectives = Annotated[
    list[str],
    BeforeValidator(_objectives),
    WithJsonSchema({"anyOf": [*_ONE["anyOf"], {"type": "array", "items": _ONE, "minItems": 1}]}),
]
