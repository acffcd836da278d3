"""Text from outside, such as a file's name, is shown so that it commands nothing."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from segtune.errors import printable
from segtune.report.terminal import make_console, step_bar
from segtune.trials import Trial, write_trials
from tests.cli.runs import (
    Typed,
)

# A line break, a carriage return, the start of an escape sequence in both forms, a bell, two turns of direction, a line
# separator, and a byte that is no UTF-8.
HARMFUL = "a\nb\rc\x1b[2Jd\x9b1me\x07f\u202eg\u2066h\u2028i\udcff"
SHOWN = r"a\nb\rc\x1b[2Jd\x9b1me\x07f\u202eg\u2066h\u2028i\udcff"


def test_control_characters_are_shown_as_python_writes_them() -> None:
    assert printable(HARMFUL) == SHOWN
    assert printable(SHOWN) == SHOWN


@pytest.mark.parametrize("text", ["straße/日本", "[/red] {x} 100 %", "C:\\new", "نمی\u200cآید", "👩\u200d🌾", "a  b "])
def test_unusual_but_harmless_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("run_search", ["--space", HARMFUL]),
        ("run_search", ["--status", HARMFUL]),
        ("run_search", ["--space", "quickstart", "-d", HARMFUL]),
        ("run_search", ["--space", "quickstart", "--trials", HARMFUL]),  # argparse's own
        ("run_single", ["-d", HARMFUL]),
        ("run_single", ["-d", "x", f"--{HARMFUL}"]),
        ("run_single", ["-d", "x", "--set", f"{HARMFUL}=1"]),
        ("run_single", ["--config", HARMFUL]),
        ("validate", ["-cd", HARMFUL, "-d", "x"]),
        ("validate", ["-cd", "x", "-d", "x", "-o", f"/dev/null/{HARMFUL}"]),
    ],
)
def test_a_mistake_is_one_line_whatever_the_name_holds(typed: Typed, name: str, arguments: list[str]) -> None:
    status, lines = typed(name, *arguments)
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    assert r"\x1b[2J" in lines[0]


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *parts: str | Table) -> str:
    """What the console makes of lines and tables where stdout has this encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    console = make_console()
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    out.seek(0)
    return out.read()


def table_of(text: str) -> Table:
    table = Table(text, title=text)
    table.add_row(text)
    return table


def test_the_console_shows_brackets_and_escapes_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"[red]runs[/] [/x] \\[y] :smile: {HARMFUL}"
    shown = f"[red]runs[/] [/x] \\[y] :smile: {SHOWN}"
    lines = printed(monkeypatch, "utf-8", text, table_of(text)).split("\n")
    assert lines[0] == shown
    assert [line.strip(" ┃│") for line in lines if shown in line] == [shown] * 4


def test_a_bar_shows_brackets_and_escapes_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    bar = step_bar(Console(file=out, force_terminal=True, width=200, color_system=None))
    with bar:
        bar.update(1, 2, f"[red] {HARMFUL}")
    assert f"[red] {SHOWN}" in out.getvalue()
    assert HARMFUL not in out.getvalue()


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"n\xefve \u65e5"), ("latin-1", "nïve \\u65e5")])
def test_characters_outside_the_encoding_are_escaped(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    out = printed(monkeypatch, encoding, "nïve 日", table_of("nïve 日"))
    assert out.count(shown) == 4
    assert len({len(line) for line in out.splitlines()[2:]}) == 1  # the table is straight


def test_output_to_a_file_has_no_control_codes_and_one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    out = printed(monkeypatch, "utf-8", table_of("word " * 30))
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) > 140


def test_the_table_of_trials_has_reasons_without_control_codes(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", [Trial(0, "failed", {"epochs": 1}, error=HARMFUL, repeats=(HARMFUL,))])
    with (tmp_path / "trials.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert (row["error"], row["repeats"]) == (SHOWN, SHOWN)
