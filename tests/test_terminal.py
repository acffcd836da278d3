"""What people type and read: text from outside on a terminal, tables by width, flags, and what is refused at once."""

from __future__ import annotations

import csv
import importlib.util
import io
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from rich.table import Table

from segtune import cli
from segtune.console import make_console
from segtune.errors import printable
from segtune.trials import Trial, write_trials

ROOT = Path(__file__).parent.parent
# A line break, a carriage return, the start of an escape sequence in both forms, a bell, two turns of direction, a line
# separator, and a byte that is no UTF-8.
HARMFUL = "a\nb\rc\x1b[2Jd\x9b1me\x07f\u202eg\u2066h\u2028i\udcff"
SHOWN = r"a\nb\rc\x1b[2Jd\x9b1me\x07f\u202eg\u2066h\u2028i\udcff"


Typed = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    found = {}
    for name in ("run_search", "run_single", "validate"):
        spec = importlib.util.spec_from_file_location(f"terminal_{name}", ROOT / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        found[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    return found


@pytest.fixture
def typed(
    scripts: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Typed]:
    """A script's exit status and lines on stderr, for what is typed in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    handler = signal.getsignal(signal.SIGTERM)

    def call(name: str, *arguments: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run(scripts[name].main)
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().err.split("\n")[:-1]

    yield call
    signal.signal(signal.SIGTERM, handler)


# Text from outside.


def test_what_commands_a_terminal_is_shown_as_python_writes_it() -> None:
    assert printable(HARMFUL) == SHOWN
    assert printable(SHOWN) == SHOWN


@pytest.mark.parametrize("text", ["straße/日本", "[/red] {x} 100 %", "C:\\new", "نمی\u200cآید", "👩\u200d🌾", "a  b "])
def test_what_only_looks_unusual_stays_as_it_is(text: str) -> None:
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


def test_the_console_shows_brackets_as_they_are_and_nothing_that_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"[red]runs[/] [/x] \\[y] :smile: {HARMFUL}"
    shown = f"[red]runs[/] [/x] \\[y] :smile: {SHOWN}"
    lines = printed(monkeypatch, "utf-8", text, table_of(text)).split("\n")
    assert lines[0] == shown
    assert [line.strip(" ┃│") for line in lines if shown in line] == [shown] * 4


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"n\xefve \u65e5"), ("latin-1", "nïve \\u65e5")])
def test_what_an_encoding_does_not_have_is_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str) -> None:
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


# Flags.


@pytest.mark.parametrize(
    ("name", "word", "hint"),
    [
        ("validate", "-c", "did you mean '-cd'?"),
        ("validate", "--checkpoint", "did you mean '--checkpoint-dir'?"),
        ("validate", "-dataset", "did you mean '--dataset'?"),
        ("validate", "-dev", "did you mean '--device'?"),
        ("validate", "--zzz", ""),
        ("run_single", "-l", "did you mean '-lr'?"),
        ("run_single", "-va", "did you mean '-val'?"),
        ("run_single", "-lr1e-3", "did you mean '-lr 1e-3'?"),
        ("run_single", "-lo", "did you mean '-log'?"),
        ("run_single", "-batch", "did you mean '--batch'?"),
        ("run_single", "--class", "did you mean '--classes'?"),
        ("run_single", "--exp", "did you mean '--exp-name'?"),
        ("run_single", "-epochs=3", "did you mean '--epochs'?"),
        ("run_search", "--res", "did you mean '--resume'?"),
        ("run_search", "-trials", "did you mean '--trials'?"),
        ("run_search", "--epochs", "here it is --set epochs=VALUE"),
        ("run_search", "-lr", "here it is --set lr=VALUE"),
        ("run_search", "--class-list=1", "here it is --set classes=VALUE"),
    ],
)
def test_a_flag_that_is_not_spelt_out_is_refused_with_the_one_that_is_meant(
    typed: Typed, name: str, word: str, hint: str
) -> None:
    status, lines = typed(name, word, "x")
    assert status == 2
    flag = word.partition("=")[0]
    assert lines == [f"error: unknown flag {flag!r}{hint and '; '}{hint} (see --help)"]


def test_all_unknown_flags_are_told_of_at_once(typed: Typed) -> None:
    assert len(typed("run_single", "-c", "x", "--epoch", "3", "-lr", "1e-3", "--", "-y")[1]) == 2


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("-lr=1e-3", "lr", 1e-3),
        ("-e3", "epochs", 3),
        ("-munet", "model", "unet"),
        ("-w 0", "workers", 0),
        ("--class-list 1 2 3", "classes", [1, 2, 3]),
        ("--class-list 1, 2, 3", "classes", [1, 2, 3]),
        ("--class-list 1,2 3", "classes", [1, 2, 3]),
        ("--class-list [1, 2]", "classes", [1, 2]),
        ("--class-list=1,2,3", "classes", [1, 2, 3]),
        ("--classes 1 --classes 2 3", "classes", [2, 3]),
        ("--add-dirs nir dem", "channels", ["nir", "dem"]),
        ("--add-dirs 2021 2022", "channels", ["2021", "2022"]),
        ("--ignore 0 254", "ignore", [0, 254]),
        ("--rgb 3 2 1", "rgb", [3, 2, 1]),
        ("--add-val-dirs a b --add-val-dirs c", "add_val_dirs", ["a", "b", "c"]),
    ],
)
def test_lists_are_taken_with_and_without_commas(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, words: str, name: str, value: object
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_single.py", *words.split(), "-d", "x"])
    assert cli.given_settings(scripts["run_single"].parse())[name] == value


@pytest.mark.parametrize("value", ["-1", "-1,-100", "-1 -100", "-0.5"])
def test_a_negative_value_is_no_flag(typed: Typed, value: str) -> None:
    _, lines = typed("run_single", "-d", "x", "-lr", *value.split())
    assert "flag" not in lines[0]
    assert "expected" not in lines[0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("classes=1 2 3 lr=1", "classes: a list is written without blanks: classes=1,2,3"),
        ("channels=nir dem", "channels: a list is written without blanks: channels=nir,dem"),
        ("lr=1 2", "'2' is no assignment; write KEY=VALUE"),
        ("lr", "'lr' is no assignment; write KEY=VALUE"),
    ],
)
def test_a_list_among_assignments_is_told_how_it_is_written(typed: Typed, words: str, line: str) -> None:
    assert typed("run_search", "--space", "quickstart", "--set", *words.split()) == (2, [f"error: {line}"])
