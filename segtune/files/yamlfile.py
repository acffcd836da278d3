"""Read YAML into plain data, and know the line of every part of it; write plain data as it is read here.

Scalars follow YAML 1.2, because YAML 1.1 has surprises in a file of settings: ``1e-5`` is a number here,
``no`` and ``off`` are words, ``010`` is ten and ``2024-05-01`` (a folder, say) is a string.
"""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segtune.errors import InputError

# Limits far above any file of settings, against mistakes and files that are meant to fill the memory.
_MOST_BYTES = 1 << 20
_MOST_VALUES = 20_000  # aliases written out
_MOST_DIGITS = 18  # of a whole number, so that it fits into 64 bits
_WAIT_S = 5.0  # for data from a pipe


class _Composer(yaml.composer.Composer):
    """Composes documents; it refuses too many values, and remembers keys that occur twice in a mapping."""

    peek_event: Callable[[], yaml.Event]  # of the parser
    repeated: list[tuple[int, str]]
    _values = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _too_many(self.peek_event().start_mark)
        return super().compose_node(parent, index)

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


class _Constructor(yaml.constructor.SafeConstructor):
    """Makes plain data of a document; it refuses what no setting can be."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind == "int" and isinstance(node, yaml.ScalarNode) and len(node.value.lstrip("+-0")) > _MOST_DIGITS:
            raise _problem("is too large a number", node)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):  # PyYAML's own: `!!int x`
            raise _problem(f"cannot read this as {kind}", node) from None
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
            raise _problem("holds a character that no name can have", node)
        return value


class _Resolver(yaml.resolver.BaseResolver):
    """Tells what a scalar is, by the rules of YAML 1.2: none of YAML 1.1's, which PyYAML has on its own class."""


class _Dumper(yaml.SafeDumper):
    """Quotes texts that either rules take for something else, such as ``92452292e072``: a number here alone."""


class _Loader(_Composer, _Constructor, _Resolver, yaml.SafeLoader):
    """A loader that finds the line of every mistake."""

    def __init__(self, text: str) -> None:
        yaml.SafeLoader.__init__(self, text)
        self.repeated = []


class _QuickLoader(_Composer, _Constructor, _Resolver, yaml.CSafeLoader):
    """A loader that splits the text in C, several times as fast; its messages are not as clear."""

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        _Composer.__init__(self)  # a parser in C has no such part
        self.repeated = []


def _problem(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _too_many(mark: Any) -> yaml.MarkedYAMLError:
    text = f"more than {_MOST_VALUES:,} values in all, with what aliases stand for"
    return yaml.composer.ComposerError(None, None, text, mark)


def _check_aliases(root: yaml.Node) -> None:
    """Raise YAMLError where aliases, written out, make a document far larger than its text."""
    sizes: dict[int, int] = {}  # by node

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = 1  # for an alias inside its own value; the reader of the setting refuses it
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for entry in node.value for part in entry]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        total = 1 + sum(map(size, parts))
        if total > _MOST_VALUES:
            raise _too_many(node.start_mark)
        sizes[id(node)] = total
        return total

    size(root)


def _load(loader: _Loader | _QuickLoader) -> tuple[yaml.Node | None, Any]:
    """Return the root and the plain data of a document; raise YAMLError, or RecursionError if nested too deeply."""
    root = loader.get_single_node()
    if root is None:
        return None, None
    _check_aliases(root)
    return root, loader.construct_document(root)


def _resolve(tag: str, pattern: str, first: str) -> None:
    for rules in (_Resolver, _Dumper):
        rules.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", "[-+]?[0-9]+", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_resolve("merge", "<<", "<")
_resolve("null", "~|null|Null|NULL", "~nN")
_Resolver.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
_Constructor.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


@dataclass(frozen=True)
class Document:
    """A file that was read: its plain data, and the line of each part of it."""

    path: Path
    data: Any
    repeated: tuple[tuple[int, str], ...]  # (line, message) of each key that occurs twice in its mapping
    root: yaml.Node | None
    loader: yaml.SafeLoader
    entries: dict[int, dict[Any, tuple[yaml.Node, yaml.Node]]] = field(default_factory=dict)  # by id of the mapping

    def line(self, *steps: Hashable) -> int:
        """Return the line of the value at these keys and list indices, or of the nearest part above it."""
        node, line = self.root, 1
        for step in steps:
            if isinstance(node, yaml.MappingNode):
                found = self._entries(node).get(step)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                found = (node.value[step], node.value[step])
            else:
                found = None
            if found is None:
                break
            line, node = _line(found[0]), found[1]
        return line

    def _entries(self, node: yaml.MappingNode) -> dict[Any, tuple[yaml.Node, yaml.Node]]:
        if id(node) not in self.entries:  # of equal keys the last one counts
            self.entries[id(node)] = {self.loader.construct_object(k, deep=True): (k, v) for k, v in node.value}
        return self.entries[id(node)]


def read_document(path: Path) -> Document:
    """Read a file; raise InputError where it cannot be read or is not YAML."""
    return document_of(path, read_text(path))


def document_of(path: Path, text: str) -> Document:
    """Read the text of a file; raise InputError, naming the file, where it is not YAML."""
    try:
        loader = _Loader(text)
        root, data = _load(loader)
    except yaml.YAMLError as error:
        line, problem = _explain(error, text)
        raise InputError(f"{path}:{line}: {problem}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    return Document(path, data, tuple(loader.repeated), root, loader)


def read_yaml(path: Path) -> Any:
    """Return the plain data of a file; raise InputError where it cannot be read, is not YAML or repeats a key."""
    text = read_text(path)
    try:
        quick = _QuickLoader(text)
        data = _load(quick)[1]
    except (yaml.YAMLError, RecursionError):
        pass  # the other loader says what is wrong, and where
    else:
        if not quick.repeated:
            return data
    document = document_of(path, text)
    if document.repeated:
        raise InputError(f"{path}:{line}: {message}" for line, message in document.repeated)
    return document.data


def parse_yaml(text: str) -> Any:
    """Return the plain data of a text, by the same rules; raise InputError where it is not YAML."""
    try:
        return _load(_Loader(text))[1]
    except yaml.YAMLError as error:
        raise InputError(_explain(error, text)[1]) from None
    except RecursionError:
        raise InputError("nested too deeply") from None


def yaml_of(content: Any, width: float = 80, flow: bool | None = False) -> str:
    """Return plain data as YAML that is read as the same data, in the order of its keys.

    Parameters
    ----------
    content: dicts, lists, texts, numbers, booleans and None.
    width: characters of a line, where it can be broken.
    flow: whether lists and mappings are written in brackets; None for those that hold no others.
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow)


def read_text(path: Path) -> str:
    """Return the text of a file; raise InputError where it cannot be read, is too large or is not UTF-8."""
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: is not UTF-8 text (byte 0x{error.object[error.start]:02x})") from None


def _read_bytes(path: Path) -> bytes:
    """Return the bytes of a file or a pipe; raise InputError where they are too many, or none arrive."""
    # A pipe that nobody writes to would block forever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        content = bytearray()
        ready = select.poll()
        ready.register(file, select.POLLIN)
        while len(content) <= _MOST_BYTES:
            if not ready.poll(_WAIT_S * 1000):
                raise InputError(f"{path}: gives nothing to read; expected a file of settings")
            part = file.read(_MOST_BYTES)
            if not part:  # b"" is the end, None means that no data has arrived yet
                if part is not None:
                    return bytes(content)
                continue
            content += part
    raise InputError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB; expected a file of settings")


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
