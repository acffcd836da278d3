"""Each flag of validate.py is tested by a command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from segtune.cli.validate_flags import validate_parser

HERE = Path(__file__).resolve().parent


def typed_words() -> set[str]:
    """All words that stand alone, or between spaces, in a text of these tests; what they check for does not count."""
    found = set()
    for path in HERE.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        checked = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare)
            for part in ast.walk(node)
            if not isinstance(node.left, ast.Call)  # run("-cd", ...) == 0
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in checked:
                found |= set(node.value.split())
    return found


def test_each_flag_stands_in_a_command_line_of_a_test() -> None:
    lines = [line for line in validate_parser("").format_help().splitlines() if line.startswith("  -")]
    named = [line.strip().partition("  ")[0] for line in lines]  # before the text of the help
    flags = {flag for line in named for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line)} - {"-h", "--help"}
    assert len(flags) > 30
    assert flags - typed_words() == set()
