"""JSON Schema of a search space. Editors use it to complete and explain keys, and to underline mistakes.

It covers the grammar of the file and the values of each setting. Only `load_space` finds mistakes in combinations of
values, such as a range whose low is above its high, or two settings that do not go together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from segtune.config import RunConfig
from segtune.fields import DATA_SETTINGS, NOT_SEARCHABLE, base_type
from segtune.space.prior import CONFIDENCES
from segtune.space.settings import SearchSettings
from segtune.vocabulary import ARCHITECTURE_ALIASES, CLASS_WEIGHTS, LEVELS, LOSSES

Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"  # the version that most editors support
_NUMBERS = (int, float)
_NUMBER = r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?"
_TERM = rf"({_NUMBER}\s*\*\s*)?({'|'.join(LOSSES)})"
_COMMON_SUMS = ("dice+ce", "dice+bce", "dice+focal", "lovasz+ce", "jaccard+ce", "0.7*dice+0.3*ce", "dice+boundary")
# pydantic's own keys, which it leaves in the schema of a field with a validator.
_UNTRANSLATED = {"ge": "minimum", "gt": "exclusiveMinimum"}
_SEARCHED = {"$ref": "#/definitions/searched"}


def space_schema() -> Schema:
    """Return the schema as JSON values. Keys are strings in JSON, also YAML's `null`, `true` and `8`."""
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
                "settings that are the same in all runs; all others keep their defaults",
                {name: _reference(name, values) for name in values if name not in DATA_SETTINGS},
            ),
            "space": {
                "description": "searched settings: a list of values, a range of numbers, or a mapping from values to "
                "settings that only this value has; a single value is fixed",
                **_SEARCHED,
            },
            "forbid": _forbid(searchable, values),
            "baseline": _section(
                "settings of the first run; they replace those of run: and the defaults",
                {name: _reference(name, values) for name in searchable},
            ),
            "prior": _section(
                "values that you expect to be good: they are tried early, and others around them more often",
                {name: _expected(name, values) for name in searchable},
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
    """Return the schema as the text of a file."""
    return json.dumps(space_schema(), indent=1, ensure_ascii=False) + "\n"


def _properties(model: type[RunConfig] | type[SearchSettings]) -> dict[str, Schema]:
    """Return the schema of each setting as pydantic writes it, without titles."""
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
    """Return the schema of a setting's values. pydantic's does not know what the validators accept."""
    if name == "model":
        return {**schema, "enum": [*schema["enum"], *ARCHITECTURE_ALIASES]}
    if name == "loss":
        text = {key: value for key, value in schema.items() if key != "type"}
        pattern = rf"^\s*{_TERM}\s*(\+\s*{_TERM}\s*)*$"
        return {**text, "anyOf": [{"enum": [*LOSSES, *_COMMON_SUMS]}, {"type": "string", "pattern": pattern}]}
    if name == "classes":
        named = {"type": "object", "additionalProperties": False, "minProperties": 1}
        named |= {"patternProperties": {r"^[-+]?[0-9]+$": {"type": "string", "minLength": 1}}}
        kept = {key: schema[key] for key in ("description", "default")}
        form = {key: value for key, value in schema.items() if key not in kept}
        return {**kept, "anyOf": [form, named]}
    if name == "augmentation":
        text = {key: value for key, value in schema.items() if key != "type"}
        file = {"type": "string", "pattern": r"\.([yY][aA]?[mM][lL]|[jJ][sS][oO][nN])$"}
        return {**text, "anyOf": [{"enum": list(LEVELS)}, file]}
    if name == "class_weights":
        text = {key: value for key, value in schema.items() if key != "type"}
        weight = {"type": "number", "exclusiveMinimum": 0}
        pattern = rf"^{_NUMBER}(,\s*{_NUMBER})*$"
        lists = [{"type": "array", "items": weight, "minItems": 1}, {"type": "string", "pattern": pattern}]
        return {**text, "anyOf": [{"enum": [*CLASS_WEIGHTS]}, weight, *lists]}
    if schema.get("type") == "array" and schema.get("default") == []:
        kept = {key: schema[key] for key in ("description", "default")}
        form = {key: value for key, value in schema.items() if key not in kept}
        return {**kept, "anyOf": [form, {"enum": ["none"]}]}
    return schema


def _reference(name: str, values: dict[str, Schema]) -> Schema:
    # The description is repeated beside the reference: some editors read it only there.
    return {"description": values[name]["description"], "allOf": [_of(name)]}


def _expected(name: str, values: dict[str, Schema]) -> Schema:
    """Return the schema of a setting under `prior:`."""
    sure = {"description": "how sure you are of the value", "enum": [*CONFIDENCES], "default": "medium"}
    entry = {
        "type": "object",
        "properties": {"value": _reference(name, values), "confidence": sure},
        "required": ["value"],
        "additionalProperties": False,
    }
    return {"description": values[name]["description"], "anyOf": [_of(name), entry]}


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
    """Return the schema of a setting under `space:`."""
    forms = [{"type": "array", "items": _of(name), "minItems": 1}]
    if base_type(name) is not list:  # its values are lists, which cannot be keys
        forms += [_of(name), _branches(name, value)]
    if base_type(name) in _NUMBERS:
        forms.append(_range(name))
    return {"description": value["description"], "anyOf": forms}


def _branches(name: str, value: Schema) -> Schema:
    """Return the schema of a mapping from a setting's values to their branches."""
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
            "log": {"type": "boolean", "description": "draw uniformly on a logarithmic scale", "default": False},
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
    text = "combinations of values that are not tried, such as {model: segformer, encoder: vgg*}; lists and wildcards"
    return {"description": f"{text} are values, too", "type": ["array", "null"], "items": entry}


def _excluded(name: str, value: Schema) -> Schema:
    one: list[Schema] = [_of(name)]
    if base_type(name) is str:
        one.append({"type": "string", "pattern": r"[*?\[]", "description": "a wildcard, such as vgg*"})
    several = {"type": "array", "items": {"anyOf": one}, "minItems": 1}
    return {"description": value["description"], "anyOf": [*one, several]}
