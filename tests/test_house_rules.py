"""Files and functions fit in a head, and tests have names that fit on a line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 400  # of a file
MOST_FUNCTION_LINES = 60
LONGEST_TEST_NAME = 69
FILES = [
    path for folder in ("segtune", "tests", "benchmarks", "docs") for path in sorted((ROOT / folder).rglob("*.py"))
] + sorted(ROOT.glob("*.py"))


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Every function's name and number of lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def faults(source: str) -> list[str]:
    """What in a file is too long."""
    found = [f"{name}: {lines} lines" for name, lines in functions(source) if lines > MOST_FUNCTION_LINES]
    found += [name for name, _ in functions(source) if name.startswith("test_") and len(name) > LONGEST_TEST_NAME]
    count = len(source.splitlines())
    return [*found, f"{count} lines"] if count > MOST_LINES else found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_too_long(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_what_is_too_long_is_found() -> None:
    assert faults("\n" * 401) == ["401 lines"]
    assert faults("def long():\n" + "    x = 1\n" * 60) == ["long: 61 lines"]
    assert faults(f"def test_{'a' * 65}(): ...") == [f"test_{'a' * 65}"]
    assert faults("def short(): ...") == []
