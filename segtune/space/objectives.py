"""The values of `objectives:` and `prefer:` in the `search:` section: what is searched for, and what it may cost."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from segtune.objectives import COSTS, MEASURES, objective_name
from segtune.space.prefer import Preference


def _objectives(value: object) -> object:
    """Return the objectives as a list of names: the measure of quality in its one spelling, then the costs."""
    given = value if isinstance(value, list) else [value]
    if not given:
        raise ValueError("names nothing to search for; the default is miou")
    costs = [one for one in dict.fromkeys(map(str, given)) if one in COSTS]
    names = list(dict.fromkeys(objective_name(one) for one in given if str(one) not in COSTS))
    if not names:
        raise ValueError(f"names costs alone ({', '.join(costs)}); add a measure of quality, such as miou")
    if len(names) > 1:
        mean = ", ".join(f"{name}: 1" for name in names[:2])
        raise ValueError(
            f"has {len(names)} measures of quality ({', '.join(names)}), and trials are compared by one; "
            f"give one of them, or a weighted mean such as {{{mean}}}"
        )
    return [*names, *costs]


_ONE: dict[str, Any] = {
    "anyOf": [
        {"enum": [*MEASURES, *COSTS]},
        {"type": "string", "pattern": "^[ a-zA-Z0-9_./*+]+$"},
        {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}, "minProperties": 1},
    ]
}
Objectives = Annotated[
    list[str],
    BeforeValidator(_objectives),
    WithJsonSchema({"anyOf": [*_ONE["anyOf"], {"type": "array", "items": _ONE, "minItems": 1}]}),
]


def _prefer(value: object) -> object:
    """Return a preference in its one spelling; None where there is none."""
    return found.text if (found := Preference.of_setting(value)) else None


Prefer = Annotated[str | None, BeforeValidator(_prefer), WithJsonSchema({"type": ["string", "null"]})]
