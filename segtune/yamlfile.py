"""YAML as segtune reads it: plain data, and for every part of it the line on which it stands.

Scalars follow YAML 1.2, because YAML 1.1 has surprises in a file of settings: ``1e-5`` is a number here,
``no`` and ``off`` are words, ``010`` is ten and ``2024-05-01`` (a folder, say) is a string.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segtune.errors import InputError


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars, which remembers the keys that stand in a mapping twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (none of YAML 1.1's; PyYAML declares it on the class)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[tuple[int, str]] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not while constructing: by then merge keys (<<) have been written into the mapping.
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (first := seen.get((key.tag, key.value))) is not None:
                text = f"{key.value}: stands in the same mapping twice (first on line {first})"
                self.repeated.append((_line(key), text))
            seen.setdefault((key.tag, key.value), _line(key))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError):  # PyYAML's own, on tags such as `!!int x`
            problem = f"cannot read this as {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", "[-+]?[0-9]+", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_resolve("merge", "<<", "<")
_resolve("null", "~|null|Null|NULL", "~nN")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


@dataclass(frozen=True)
class Document:
    """A file that was read: its plain data, and where in the file each part of it stands."""

    path: Path
    data: Any
    repeated: tuple[tuple[int, str], ...]  # (line, message) of each key that stands in its mapping twice
    root: yaml.Node | None
    loader: yaml.SafeLoader

    def line(self, *steps: Hashable) -> int:
        """The line of what the keys and list indices lead to, or of the nearest part above it."""
        node, line = self.root, 1
        for step in steps:
            if isinstance(node, yaml.MappingNode):
                entries = reversed(node.value)  # of keys that stand there twice, the last is the one in force
                found = next(((k, v) for k, v in entries if self._key(k) == step), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                found = (node.value[step], node.value[step])
            else:
                found = None
            if found is None:
                break
            line, node = _line(found[0]), found[1]
        return line

    def _key(self, node: yaml.Node) -> object:
        return self.loader.construct_object(node, deep=True)


def read_document(path: Path) -> Document:
    """Read a file; InputError when it cannot be read or is no YAML."""
    text = _read_text(path)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        data = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        line, problem = _explain(error, text)
        raise InputError(f"{path}:{line}: {problem}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    return Document(path, data, tuple(loader.repeated), root, loader)


def read_yaml(path: Path) -> Any:
    """The plain data of a file; InputError when it cannot be read, is no YAML or repeats a key."""
    document = read_document(path)
    if document.repeated:
        raise InputError(f"{path}:{line}: {message}" for line, message in document.repeated)
    return document.data


def parse_yaml(text: str) -> Any:
    """The plain data of a text, by the same rules; InputError when it is no YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(_explain(error, text)[1]) from None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: is not UTF-8 text (byte 0x{error.object[error.start]:02x})") from None


def _explain(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, f"{error.reason} ({error.character!r})"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 1, str(error)
    problem = error.problem or "is no YAML"
    if error.context and error.context_mark:
        problem += f" ({error.context} that starts on line {error.context_mark.line + 1})"
    return error.problem_mark.line + 1, problem


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
