"""Parse the values of settings on the command line: those of flags, and KEY=VALUE."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from segtune.class_names import classes_in, split_classes
from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import FOLDER_LISTS, base_type, check_setting, unknown_setting
from segtune.files.yamlfile import parse_yaml
from segtune.mistakes import Mistake, SettingsError
from segtune.space.settings import SearchSettings


def parse_value(name: str, text: str) -> Any:
    """Parse the value of a setting on the command line; raise InputError where RunConfig refuses it.

    Classes with names, ``1:built-up,2:water``, are returned as a mapping from labels to names.
    """
    if name in SearchSettings.model_fields and name not in RunConfig.model_fields:
        text = f"{name}: is a setting of a search and not of its runs; it stands under search: in the space file"
        raise SettingsError([Mistake((name,), text)])
    if name not in RunConfig.model_fields:
        raise SettingsError([unknown_setting(name)])
    if name == "classes" and (named := _named([text])):
        return named
    kind, text = base_type(name), text.strip()
    value: Any = text
    try:
        if kind is list and text == "none":
            value = []
        elif kind is list:
            value = parse_yaml(text if text.startswith("[") else f"[{_separated(name, text)}]")
        elif kind is not str:
            value = parse_yaml(text)
    except InputError as error:
        raise InputError(f"{name}: cannot read {text!r}: {error}") from None
    try:
        return check_setting(name, value)
    except SettingsError:
        if kind is list:  # folders named 2021 and 2022
            with suppress(SettingsError):
                return check_setting(name, [word.strip() for word in text.strip("[]").split(",")])
        raise


def parse_values(name: str, words: Sequence[str]) -> Any:
    """Parse the value of a list setting from the words after its flag: ``1,2``, ``1 2`` or ``[1, 2]``."""
    if name == "classes" and (named := _named(words)):
        return named
    if words[0].startswith("["):  # that the shell has split
        words = [" ".join(words)]
    return [value for word in words for value in parse_value(name, word)]


def _named(words: Sequence[str]) -> dict[int, str] | None:
    """Return classes with names, checked; None if the words name none. Raises InputError where a name is wrong."""
    try:
        named = classes_in(words)
    except ValueError as error:
        raise SettingsError([Mistake(("classes",), f"classes: {error}")]) from None
    if named:
        check_setting("classes", list(named))
        check_setting("class_names", list(named.values()))
    return named


def _separated(name: str, text: str) -> str:
    """Return a list, ``1,2`` or ``1 2``, with commas; a text for a list of folders is one path."""
    if name in FOLDER_LISTS:
        return json.dumps(text, ensure_ascii=False)
    return text if "," in text else ",".join(text.split())


def parse_assignments(items: Sequence[str]) -> dict[str, Any]:
    """Parse the settings in ``["lr=1e-3", ...]``; the last of a name wins. Raise InputError with all mistakes."""
    settings, mistakes = {}, []
    for place, item in enumerate(items):
        name, equals, text = item.partition("=")
        try:
            if equals:
                settings[name.strip()] = parse_value(name.strip(), text)
            elif place == 0 or "=" in items[place - 1]:  # told of once
                raise InputError(_no_assignment(items[place - 1] if place else "", items[place:]))
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return split_classes(settings)


def _no_assignment(before: str, items: Sequence[str]) -> str:
    """Return what is wrong with words without KEY= that follow an assignment."""
    name, equals, first = before.partition("=")
    if name in RunConfig.model_fields and base_type(name) is list and equals:
        more = itertools.takewhile(lambda item: "=" not in item, items)
        return f"{name}: a list is written without blanks: {name}={','.join([first, *more])}"
    return f"--set: {items[0]!r} is no assignment; write KEY=VALUE, such as lr=1e-3"
