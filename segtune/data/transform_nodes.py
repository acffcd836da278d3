"""Read a file of albumentations transforms, in YAML or JSON: a list of them, or what `albumentations.to_dict` returns.

Only transforms of albumentations itself are made. Nothing is imported by a name in the file.
"""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # see augment.py

import albumentations as A
import numpy as np
from pydantic import ValidationError

from segtune.data.labels import IGNORED, Labels
from segtune.errors import InputError, nearest, nearest_or_all, one_line, requirement, short
from segtune.files.transforms_file import TransformsFile
from segtune.files.yamlfile import Document, document_of

_CLASS = "__class_fullname__"  # the key of a transform's name, as albumentations writes it
_COMPOSITIONS = {
    "Compose": A.Sequential,
    "Sequential": A.Sequential,
    "OneOf": A.OneOf,
    "SomeOf": A.SomeOf,
    "RandomOrder": A.RandomOrder,
}
# What Compose takes besides, which has no use here.
_UNUSED = ("bbox_params", "keypoint_params", "additional_targets", "is_check_shapes")
_BASES = ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D")
_OWN_PART = "the run does that by itself; leave it out"
_MORE_DATA = "needs more than an image and its mask"
_REFUSED = {
    "Lambda": "is code, which a file cannot hold",
    **dict.fromkeys(("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"), _OWN_PART),
    **dict.fromkeys(("FDA", "HistogramMatching", "PixelDistributionAdaptation", "TextImage"), _MORE_DATA),
    **dict.fromkeys(("Mosaic", "OverlayElements"), _MORE_DATA),
    **dict.fromkeys(("AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop"), _MORE_DATA),
    **dict.fromkeys(("RandomCropNearBBox", "RandomSizedBBoxSafeCrop"), _MORE_DATA),
}
_LONGEST = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Node:
    """A transform of a file, or a composition of several."""

    name: str
    arguments: Mapping[str, Any]
    parts: tuple[Node, ...]  # of a composition
    where: str  # file, line and name, for messages

    @property
    def single(self) -> bool:
        """Whether it is a transform and no composition."""
        return self.name not in _COMPOSITIONS

    def leaves(self) -> Iterator[Node]:
        """Yield the transforms in it, or itself."""
        if self.single:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def always(self) -> Node:
        """Return the same transform, to be applied always."""
        return replace(self, arguments={**self.arguments, "p": 1.0})


def read_transforms(file: TransformsFile) -> tuple[Node, ...]:
    """Return the transforms of a file in their order; raise InputError with every mistake, each with its line."""
    reader = _Reader(document_of(Path(file.path), file.text))
    nodes = reader.top()
    if reader.mistakes:
        raise InputError(reader.mistakes)
    return nodes


def make(node: Node, labels: Labels | None = None) -> A.BasicTransform:
    """Return the transform of a node that is no composition; ValueError with the reason where an argument is wrong.

    With the `labels` of the data, `fill_mask` becomes the index of what it names; 0, its usual default, is padding.
    """
    kind = known_transforms()[node.name]
    arguments = dict(node.arguments)
    parameter = inspect.signature(kind).parameters.get("fill_mask")
    fill = arguments.get("fill_mask", parameter.default if parameter else None)
    if labels and fill is not None:
        arguments["fill_mask"] = _index(fill, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints at other transforms, and conversions
        return kind(**arguments, strict=True) if _validated(kind) else kind(**arguments)


def composition(node: Node, parts: Sequence[Any]) -> Any:
    """Return the composition of a node, with these transforms in it."""
    always = {"p": 1.0} if node.name == "Compose" else {}
    return _COMPOSITIONS[node.name](list(parts), **always | dict(node.arguments))


@functools.cache
def known_transforms() -> dict[str, Any]:
    """Return albumentations' transforms of images by name."""
    return {
        name: kind
        for name, kind in vars(A).items()
        if inspect.isclass(kind)
        and issubclass(kind, A.BasicTransform)
        and not issubclass(kind, A.Transform3D)
        and kind.__module__.startswith("albumentations.")
        and name not in _BASES
        and name not in _REFUSED
    }


def _validated(kind: Any) -> bool:
    """Return whether albumentations checks the arguments of this class, so that it takes `strict`."""
    maker = next(base for base in kind.__mro__ if "__init__" in vars(base))
    return "InitSchema" in vars(maker)


def _index(value: Any, labels: Labels) -> int:
    """Return the index of a label that `fill_mask` names."""
    if value == 0:
        return labels.padding
    if value in labels.ignore:
        return IGNORED
    if value not in labels.classes:
        raise ValueError(f"fill_mask: {value!r} is neither 0 nor one of the labels in classes and ignore")
    return int(labels.to_indices(np.array([[int(value)]]))[0, 0])


class _Reader:
    """Reads a document, and collects its mistakes."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.mistakes = [f"{document.path}:{line}: {message}" for line, message in document.repeated]

    def top(self) -> tuple[Node, ...]:
        """Return the transforms of the document."""
        data, steps = self._document.data, tuple[Any, ...]()
        if isinstance(data, dict) and "transform" in data and _CLASS not in data:  # with its __version__
            data, steps = data["transform"], ("transform",)
        if isinstance(data, list) and data:
            return self._nodes(data, steps, ())
        if isinstance(data, dict) and _CLASS in data:
            return self._nodes([data], steps, (), listed=False)
        empty = "" if data else "is empty; "
        self._mistake(steps, (), f"{empty}expected a list of transforms, or what albumentations.to_dict returns")
        return ()

    def _nodes(
        self, items: Sequence[Any], steps: tuple[Any, ...], above: tuple[str, ...], listed: bool = True
    ) -> tuple[Node, ...]:
        found = []
        for number, item in enumerate(items):
            here = (*steps, number) if listed else steps
            if node := self._node(item, here, above):
                found.append(node)
        return tuple(found)

    def _node(self, item: Any, steps: tuple[Any, ...], above: tuple[str, ...]) -> Node | None:
        if not isinstance(item, dict) or not isinstance(item.get(_CLASS), str):
            name, arguments = _short_form(item)
            if name is not None and name not in (*known_transforms(), *_COMPOSITIONS):
                self._no_transform(name, name, steps, above)
                return None
            got = f"expected a transform with its name under {_CLASS}, but got {short(item, _LONGEST)}"
            self._mistake(steps, above, f"{got}; write {_form(name, arguments)}")
            return None
        given = item[_CLASS]
        name = given.rpartition(".")[2] if given.startswith("albumentations.") else given
        names, arguments = (*above, name), {str(key): value for key, value in item.items() if key != _CLASS}
        # Earlier releases of albumentations wrote it for every transform.
        if arguments.get("always_apply") is False:
            del arguments["always_apply"]
        if name in _COMPOSITIONS:
            return self._composition(name, arguments, steps, names)
        if name not in known_transforms():
            self._no_transform(name, given, steps, above)
            return None
        node = Node(name, arguments, (), self._where(steps, names))
        return node if self._right(node, steps, names) else None

    def _no_transform(self, name: str, given: str, steps: tuple[Any, ...], above: tuple[str, ...]) -> None:
        """Report a name that is none of a transform which can be made: it is refused, or unknown."""
        if name in _REFUSED:
            self._mistake(steps, (*above, name), _REFUSED[name])
            return
        hint = nearest(name, (*known_transforms(), *_COMPOSITIONS))
        self._mistake(steps, above, f"{short(given, _LONGEST)} is no transform of albumentations {A.__version__}{hint}")

    def _right(self, node: Node, steps: tuple[Any, ...], names: tuple[str, ...]) -> bool:
        """Report wrong arguments of a transform; return whether there are none."""
        before = len(self.mistakes)
        known = [name for name in inspect.signature(known_transforms()[node.name]).parameters if name != "strict"]
        for argument in node.arguments:
            if argument not in known:
                text = f"unknown argument {argument!r}{nearest_or_all(argument, known)}"
                self._mistake((*steps, argument), names, text)
        if len(self.mistakes) > before:
            return False
        try:
            make(node)
        except Exception as error:  # albumentations raises errors of many kinds
            for argument, text in _reasons(error, node.arguments):
                self._mistake((*steps, argument), names, text)
        return len(self.mistakes) == before

    def _composition(
        self, name: str, arguments: dict[str, Any], steps: tuple[Any, ...], names: tuple[str, ...]
    ) -> Node | None:
        before = len(self.mistakes)
        items = arguments.pop("transforms", None)
        if name == "Compose":
            for unused in _UNUSED:
                if arguments.pop(unused, None) not in (None, {}, True, False):
                    self._mistake((*steps, unused), names, f"{unused} has no use here; leave it out")
        number = name in ("SomeOf", "RandomOrder")
        for argument, value in arguments.items():
            if reason := _wrong_in_composition(argument, value, number):
                self._mistake((*steps, argument), names, reason)
        if not isinstance(items, list) or not items:
            self._mistake(steps, names, "needs a list of transforms")
            return None
        if name == "SomeOf" and "n" not in arguments:
            self._mistake(steps, names, "needs n, the number of transforms to apply")
        parts = self._nodes(items, (*steps, "transforms"), names)
        return Node(name, arguments, parts, self._where(steps, names)) if len(self.mistakes) == before else None

    def _where(self, steps: tuple[Any, ...], names: tuple[str, ...]) -> str:
        place = f"{self._document.path}:{self._document.line(*steps)}"
        return f"{place}: {' > '.join(names)}" if names else place

    def _mistake(self, steps: tuple[Any, ...], names: tuple[str, ...], text: str) -> None:
        self.mistakes.append(f"{self._where(steps, names)}: {text}")


def _short_form(item: Any) -> tuple[str | None, Any]:
    """Return the name and the arguments of a transform that a file gives in another way; None where it names none.

    The other ways are a name alone, ``{name: arguments}``, and ``{name: null, argument: value}``, where the arguments
    are not indented.
    """
    (name, arguments), *others = item.items() if isinstance(item, dict) and item else [(item, None)]
    if not isinstance(name, str) or (others and arguments is not None):
        return None, None
    return name, dict(others) if others else arguments


def _form(name: str | None, arguments: Any) -> str:
    """Return how a transform is written with these arguments, or an example where the file names none."""
    if name in _COMPOSITIONS:
        return f"{{{_CLASS}: {name}, transforms: [...]}}"
    if name is None:
        name, arguments = "HorizontalFlip", None
    given = arguments if isinstance(arguments, dict) else {"p": 0.5}
    parts = (f"{argument}: {short(value, _LONGEST)}" for argument, value in given.items())
    return f"{{{', '.join([f'{_CLASS}: {name}', *parts])}}}"


def _wrong_in_composition(argument: str, value: Any, number: bool) -> str | None:
    """Return what is wrong with an argument of a composition; `number`: it takes a number of transforms."""
    known = ("transforms", "p", "n", "replace") if number else ("transforms", "p")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if argument not in known:
        return f"unknown argument {argument!r}{nearest_or_all(argument, known)}"
    if argument == "p" and not ((whole or isinstance(value, float)) and 0 <= value <= 1):
        return f"p: must be a number from 0 to 1, but got {short(value, _LONGEST)}"
    if argument == "n" and not (whole and value > 0):
        return f"n: must be a whole number above 0, but got {short(value, _LONGEST)}"
    if argument == "replace" and not isinstance(value, bool):
        return f"replace: must be true or false, but got {short(value, _LONGEST)}"
    return None


def _reasons(error: Exception, arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the arguments that albumentations refuses, each with the reason; "" where it names none."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [("", one_line(error) or type(error).__name__)]
    found: dict[str, str] = {}
    for item in cause.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        text = requirement(one_line(item["msg"]))
        if item["type"] == "missing":
            text = f"needs the argument {name!r}"
        elif name:
            text = f"{name}: {text}, but got {short(arguments.get(name), _LONGEST)}"
        found.setdefault(name, text)
    return list(found.items())
