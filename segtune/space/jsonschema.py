"""JSON Schema of a search space: editors complete and explain with it, and underline what `load_space` would refuse.

It follows the file's grammar and every setting's own values. What only the values together show (two settings that
exclude each other, a range whose low is above its high), `load_space` alone refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from segtune.config import RunConfig
from segtune.fields import DATA_SETTINGS, NOT_SEARCHABLE, base_type
from segtune.space.settings import SearchSettings
from segtune.vocabulary import ARCHITECTURE_ALIASES, LOSSES

Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that editors know best
_NUMBERS = (int, float)
_TERM = f"({'|'.join(LOSSES)})"
_COMMON_SUMS = ("dice+ce", "dice+bce", "dice+focal", "lovasz+ce", "jaccard+ce")
_UNTRANSLATED = {"ge": "minimum", "gt": "exclusiveMinimum"}  # pydantic's own words, left where there is a validator
_SEARCHED = {"$ref": "#/definitions/searched"}


def space_schema() -> Schema:
    """The schema, as JSON values; it is read after YAML, whose keys are texts there: `null`, `true` and `8` too."""
    values = {name: _value(name, schema) for name, schema in _properties(RunConfig).items()}
    searchable = [name for name in values if name not in NOT_SEARCHABLE]
    searched = {name: _searched(name, values[name]) for name in searchable}
    return {
        "$schema": _DIALECT,
        "title": "A search space of segtune",
        "type": "object",
        "properties": {
            **{name: _reference(name, values) for name in DATA_SETTINGS},
            "run": _section(
                "settings that are the same in every run; all others keep their defaults",
                {name: _reference(name, values) for name in values if name not in DATA_SETTINGS},
            ),
            "space": {
                "description": "settings that are searched: a list of values, a range of numbers, or a mapping whose "
                "values bring settings of their own; a single value is fixed",
                **_SEARCHED,
            },
            "forbid": _forbid(searchable, values),
            "baseline": _section(
                "settings of the first run, over run: and the defaults",
                {name: _reference(name, values) for name in searchable},
            ),
            "search": _section("how to search", _properties(SearchSettings)),
        },
        "required": ["space"],
        "additionalProperties": False,
        "definitions": {
            "searched": {
                "type": "object",
                "properties": searched,
                "additionalProperties": False,
                "minProperties": 1,
            },
            **{f"value.{name}": schema for name, schema in values.items()},
        },
    }


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(space_schema(), indent=1, ensure_ascii=False) + "\n"


def _properties(model: type[RunConfig] | type[SearchSettings]) -> dict[str, Schema]:
    """Each setting's own schema, as pydantic has it, without what explains nothing."""
    schema = model.model_json_schema()
    assert "$defs" not in schema  # no setting is a model of its own
    return {name: _tidied(part) for name, part in schema["properties"].items()}


def _tidied(part: Any) -> Any:
    if isinstance(part, list):
        return [_tidied(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {_UNTRANSLATED.get(key, key): _tidied(value) for key, value in part.items() if key != "title"}


def _value(name: str, schema: Schema) -> Schema:
    """What a setting can be. pydantic knows nothing of what validators do."""
    if name == "model":
        return {**schema, "enum": [*schema["enum"], *ARCHITECTURE_ALIASES]}
    if name == "loss":
        text = {key: value for key, value in schema.items() if key != "type"}
        pattern = rf"^\s*{_TERM}\s*(\+\s*{_TERM}\s*)*$"
        return {**text, "anyOf": [{"enum": [*LOSSES, *_COMMON_SUMS]}, {"type": "string", "pattern": pattern}]}
    return schema


def _reference(name: str, values: dict[str, Schema]) -> Schema:
    # The description stands beside the reference too: some editors look for it nowhere else.
    return {"description": values[name]["description"], "allOf": [_of(name)]}


def _of(name: str) -> Schema:
    return {"$ref": f"#/definitions/value.{name}"}


def _section(description: str, properties: dict[str, Schema]) -> Schema:
    return {
        "description": description,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }


def _searched(name: str, value: Schema) -> Schema:
    """How a setting is searched."""
    forms = [{"type": "array", "items": _of(name), "minItems": 1}]
    if base_type(name) is not list:  # a list of such a setting is a list of lists, and no key
        forms += [_of(name), _branches(name, value)]
    if base_type(name) in _NUMBERS:
        forms.append(_range(name))
    return {"description": value["description"], "anyOf": forms}


def _branches(name: str, value: Schema) -> Schema:
    """A mapping from the setting's values to what each brings."""
    brought = {"anyOf": [{"type": "null"}, {"type": "object", "maxProperties": 0}, _SEARCHED]}
    mapping: Schema = {"type": "object", "minProperties": 1, "additionalProperties": False}
    if "enum" in value:
        return {**mapping, "properties": dict.fromkeys(value["enum"], brought)}
    kind = base_type(name)
    if kind is bool:
        return {**mapping, "properties": {"true": brought, "false": brought}}
    if kind in _NUMBERS:
        return {**mapping, "patternProperties": {r"^([-+]?[0-9.]+([eE][-+]?[0-9]+)?|null|~)$": brought}}
    return {**mapping, "additionalProperties": brought, "propertyNames": {"not": {"enum": ["low", "high"]}}}


def _range(name: str) -> Schema:
    number = "integer" if base_type(name) is int else "number"
    bound = {"allOf": [{"type": number}, _of(name)]}
    return {
        "type": "object",
        "description": "the numbers from low to high, both included",
        "properties": {
            "low": {"description": "the smallest value", **bound},
            "high": {"description": "the largest value", **bound},
            "log": {"type": "boolean", "description": "draw evenly between the logarithms", "default": False},
            "step": {
                "type": [number, "null"],
                "exclusiveMinimum": 0,
                "description": "only low, low + step, ... up to high",
            },
        },
        "required": ["low", "high"],
        "additionalProperties": False,
        "not": {"required": ["log", "step"], "properties": {"log": {"const": True}, "step": {"type": number}}},
    }


def _forbid(names: Iterable[str], values: dict[str, Schema]) -> Schema:
    entry = {
        "type": "object",
        "properties": {name: _excluded(name, values[name]) for name in names},
        "additionalProperties": False,
        "minProperties": 1,
    }
    text = "settings that exclude each other, such as {model: segformer, encoder: vgg*}: a run that has all of them is "
    return {"description": f"{text}not tried", "type": ["array", "null"], "items": entry}


def _excluded(name: str, value: Schema) -> Schema:
    one: list[Schema] = [_of(name)]
    if base_type(name) is str:
        one.append({"type": "string", "pattern": r"[*?\[]", "description": "a wildcard, such as vgg*"})
    several = {"type": "array", "items": {"anyOf": one}, "minItems": 1}
    return {"description": value["description"], "anyOf": [*one, several]}
