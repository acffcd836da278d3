"""Names of classes: a mapping from labels to names becomes the list of labels and the list of names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from segtune.errors import InputError

_NAMED = re.compile(r"([-+]?[0-9]+)\s*:(.*)", re.DOTALL)  # 1:built-up
# Between two of them stands a comma, or a blank before the next label: names may have blanks.
_REVERSED = re.compile(r"([^:]*[^:0-9][^:]*):\s*([-+]?[0-9]+)")  # built-up:1
_BETWEEN = re.compile(r"\s*,\s*|\s+(?=[-+]?[0-9]+\s*:)")


def split_classes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which a mapping under `classes` has become two lists: `classes` and `class_names`.

    Raises InputError if the mapping gives a label no name, and if there are `class_names` beside it.
    """
    given = settings.get("classes")
    if not isinstance(given, Mapping):
        return dict(settings)
    if settings.get("class_names"):
        raise InputError("classes: has names already; leave class_names out")
    try:
        return {**settings, "classes": list(given), "class_names": _names(given.items())}
    except ValueError as error:
        raise InputError(f"classes: {error}") from None


def _names(pairs: Iterable[tuple[Any, Any]]) -> list[str]:
    names = []
    for label, name in pairs:
        if swapped := _REVERSED.fullmatch(f"{label}:{name}" if name not in (None, "") else str(label)):
            text = f"write label:name, such as {swapped[2]}:{swapped[1].strip()}, but got {swapped[0]!r}"
            raise ValueError(text)
        if name is None or name == "":
            raise ValueError(f"{label} has no name; name every class, or none")
        if not isinstance(name, str):
            raise ValueError(f"the name of {label} is not text, but {name!r}; write it in quotes")
        names.append(name)
    return names


def classes_in(words: Iterable[str]) -> dict[int, str] | None:
    """Return the classes that words of the command line name, such as ``1:built-up``; None if they name none.

    Raises ValueError if a label has no name, is named twice, or stands after its name.
    """
    parts = [part for word in words for part in _BETWEEN.split(word.strip().strip("{}[]").strip())]
    pairs = [(match[1], match[2].strip()) if (match := _NAMED.fullmatch(part)) else (part, "") for part in parts]
    if not any(name for _, name in pairs) and not any(_REVERSED.fullmatch(label) for label, _ in pairs):
        return None
    _names(pairs)
    labels = [int(label) for label, _ in pairs]
    if len(set(labels)) < len(labels):
        raise ValueError("the list contains a value twice")
    return dict(zip(labels, (name for _, name in pairs), strict=True))


def class_text(label: int | str, classes: Iterable[int], names: Iterable[str]) -> str:
    """Return a label as people read it: with its name, ``1 built-up``, if it is that of a class that has one."""
    known = dict(zip(map(str, classes), names, strict=False))
    return f"{label} {known[str(label)]}" if str(label) in known else str(label)


def without_old_names(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without `class_names` if `given` has other classes: names belong to their labels."""
    other = "classes" in given and given["classes"] != settings.get("classes")
    return {name: value for name, value in settings.items() if not (other and name == "class_names")}
