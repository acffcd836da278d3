"""What people type and read: text from outside on a terminal, tables by width, flags, and what is refused at once."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import segmentation_models_pytorch as smp
from rich.console import Console
from rich.table import Table

from segtune.cli.exits import run_script
from segtune.cli.given import given_settings
from segtune.cli.tasks import SPACES
from segtune.errors import counted, printable
from segtune.report.commands import same_command, script_command, tensorboard_command
from segtune.report.console import SearchConsole, make_console, step_bar, trial_line
from segtune.report.tables import SettingsTable, class_table, comparison, ranking, state_of
from segtune.trials import SearchState, Trial, write_trials
from segtune.vocabulary import ENCODERS

ROOT = Path(__file__).parent.parent.parent
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
            run_script(scripts[name].main)
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


def test_a_bar_shows_brackets_as_they_are_and_nothing_that_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    bar = step_bar(Console(file=out, force_terminal=True, width=200, color_system=None))
    with bar:
        bar.update(1, 2, f"[red] {HARMFUL}")
    assert f"[red] {SHOWN}" in out.getvalue()
    assert HARMFUL not in out.getvalue()


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
    assert given_settings(scripts["run_single"].parse())[name] == value


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


# What to type next.


@pytest.mark.parametrize("started", ["run_search.py", "../segtune/run_search.py", "/opt/segtune/run_search.py"])
def test_the_next_command_lies_where_the_one_that_was_typed_did(monkeypatch: pytest.MonkeyPatch, started: str) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    words = script_command("validate.py", ["-cd", "a b"]).split(" ", 1)
    assert words[1] == f"{started.replace('run_search', 'validate')} -cd 'a b'"
    assert same_command(["--resume"]).endswith(f" {started} --resume")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the programs of a virtual environment in the working folder, whose Python this is."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "tensorboard"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python3"))
    monkeypatch.setattr(sys, "argv", ["run_single.py"])
    return folder


def test_an_environment_that_is_not_activated_is_named(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert same_command([]) == ".venv/bin/python run_single.py"
    assert tensorboard_command("my logs") == ".venv/bin/tensorboard --logdir 'my logs'"
    (environment / "elsewhere").mkdir()
    monkeypatch.chdir(environment / "elsewhere")
    assert same_command([]) == f"{environment}/python run_single.py"


def test_an_environment_that_is_activated_is_not(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment}:/usr/bin:/bin")
    assert same_command([]) == "python run_single.py"
    assert tensorboard_command("logs") == "tensorboard --logdir logs"


# The data set, and what is refused before anything takes time.


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("run_single", "", "dataset: is missing; -d FOLDER says where the data lies"),
        ("run_single", "-e 3", "dataset: is missing"),
        ("run_single", "--preview-augmentation 2", "dataset: is missing"),
        ("run_single", "--config run.yaml", "dataset: is missing"),
        ("run_single", "--exp-name typo -e 3", "--exp-name: there is no run logs/typo to go on with"),
        ("run_single", "--exp-name frist -e 3", "did you mean 'first'?"),
        ("run_search", "--space encoders", "dataset: is missing"),
        ("run_search", "--space space.yaml", "dataset: is missing"),
        ("run_search", "--space overnight --dry-run", "dataset: is missing"),
    ],
)
def test_without_a_data_set_nothing_begins_and_the_demo_is_not_meant(
    typed: Typed, name: str, words: str, line: str
) -> None:
    Path("run.yaml").write_text("epochs: 3\n")
    Path("space.yaml").write_text("space: {lr: [0.1, 0.2]}\n")
    Path("logs/first").mkdir(parents=True)
    Path("logs/first/run.yaml").write_text("epochs: 3\n")
    status, lines = typed(name, *words.split())
    assert (status, len(lines)) == (2, 1)
    assert line in lines[0]
    assert not Path("data").exists()


def test_a_search_goes_on_with_the_data_that_it_was_started_with(typed: Typed) -> None:
    Path("ray_results/encoders").mkdir(parents=True)
    Path("ray_results/encoders/search.yaml").write_text("dataset: moved\nspace: {lr: [0.1, 0.2]}\n")
    line = "error: moved: no such data set folder (dataset, -d)"
    assert typed("run_search", "--space", "encoders", "--resume") == (2, [line])


def test_only_the_quickstart_space_names_the_demo() -> None:
    spaces = {path.stem: path.read_text(encoding="utf-8") for path in SPACES.glob("*.yaml")}
    assert [name for name, text in spaces.items() if re.search("^dataset:", text, re.M)] == ["quickstart"]


AT_ONCE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*sorted({"torch", "ray", "optuna", "timm", "cv2", "rasterio"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("words", [("run_search", "--status"), ("run_single", "-d", "x", "--from-search")])
def test_a_search_that_there_is_not_comes_with_the_nearest_name(typed: Typed, words: tuple[str, ...]) -> None:
    Path("ray_results/encoders").mkdir(parents=True)
    Path("ray_results/encoders/search.yaml").touch()
    where = "" if words[0] == "run_search" else "ray_results/"
    _, (line,) = typed(*words, f"{where}encodres")
    assert line == "error: ray_results/encodres: no search (it has no search.yaml); did you mean 'encoders'?"


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("run_search", "--space quickstart -d nowhere", "nowhere: no such data set folder"),
        ("run_search", "--space quickstart -d half", "half/val: no such folder"),
        ("run_search", "--space wrong.yaml -d half", "wrong.yaml:1: space.encodr: unknown"),
        ("run_search", "--space quickstart --name there", "ray_results/there: this search exists"),
        ("run_search", "--status nowhere", "ray_results/nowhere: no search"),
        ("run_single", "-d half", "half/val: no such folder"),
        ("run_single", "-d half/train", "/half?\n"),
        ("run_single", "-d half -lr 0", "lr: "),
        ("validate", "-cd nowhere -d half/train", "nowhere: no such folder"),
        ("validate", "-cd model -d nowhere", "nowhere: no such folder; a split's folder is needed"),
    ],
)
def test_what_can_be_refused_without_torch_and_ray_is(tmp_path: Path, name: str, words: str, line: str) -> None:
    (tmp_path / "half" / "train" / "images").mkdir(parents=True)
    (tmp_path / "half" / "train" / "gt").mkdir()
    (tmp_path / "half" / "train" / "nir").mkdir()
    (tmp_path / "ray_results" / "there").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    (tmp_path / "model" / "run.yaml").write_text("epochs: 3\n")
    (tmp_path / "wrong.yaml").write_text("space: {encodr: [resnet18, resnet34]}\n")
    command = [sys.executable, "-c", AT_ONCE, str(ROOT / f"{name}.py"), *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert done.stdout == "\n"


def test_the_encoders_that_are_known_beforehand_are_those_of_smp() -> None:
    assert sorted(ENCODERS) == sorted(smp.encoders.get_encoder_names())


def test_a_misspelt_encoder_is_told_of_with_the_other_mistakes_of_a_space(typed: Typed) -> None:
    Path("space.yaml").write_text("space: {encoder: [resnet19, tu-resnet18], lr: [fast]}\n")
    status, lines = typed("run_search", "--space", "space.yaml")
    assert (status, len(lines)) == (2, 2)
    assert "did you mean 'resnet18'?" in lines[0]
    Path("space.yaml").write_text("dataset: data/demo\nspace: {encoder: [resnet18, tu-resnt18]}\n")
    assert "did you mean 'tu-resnet18'?" in typed("run_search", "--space", "space.yaml")[1][0]
    assert not Path("data").exists()


# Tables by the width of the terminal, and lines while something goes on.

_ENCODERS = ("resnet18", "tu-mobilenetv3_small_100", "efficientnet-b0")
_TRIALS = [
    Trial(
        number,
        "finished",
        {"epochs": 12},
        epochs=12,
        miou=0.9123 - number / 100,
        best_epoch=3,
        seconds=62.0,
        parameters=24_400_000,
        searched={
            "encoder": _ENCODERS[number],
            "loss": "dice+bce",
            "optimizer": "adamw",
            "lr": 0.0012,
            "momentum": 0.95,
            "augmentation": "hard",
            "batch_size": 16,
        },
    )
    for number in range(3)
]


def shown(part: Table | SettingsTable, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_ranking_is_whole_at_every_width(width: int) -> None:
    lines = shown(ranking(_TRIALS), width)
    assert max(map(len, lines)) <= width
    text = " ".join("\n".join(lines).split())
    for trial in _TRIALS:
        (row,) = (line for line in lines if f"#{trial.number}" in line)
        assert f"{trial.miou:.4f}" in row
        assert "12/12" in row
        assert "1 min 02 s" in row
        for name, value in trial.searched.items():
            assert str(value) in (row if width == 160 else text)
            assert width == 160 or f"{name} {value}" in text
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_scores_are_never_cut_nor_broken(width: int) -> None:
    iou = {"1": 0.5, "65535": None, "background": 0.25}
    for table in (comparison(_TRIALS, "encoder"), class_table([1, 65535], iou)):
        lines = shown(table, width)
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
    by_encoder = [replace(trial, searched={"encoder": trial.searched["encoder"]}) for trial in _TRIALS]
    text = "\n".join(shown(comparison(by_encoder, "encoder"), width))
    for trial in _TRIALS:
        assert text.count(f"{trial.miou:.4f}") == 2
    assert text.count("24.4 M") == 3


@pytest.mark.parametrize("width", [60, 80, 160])
def test_trials_that_run_and_runs_to_come_are_whole_at_every_width(width: int) -> None:
    running = replace(_TRIALS[1], status="running", epochs=3, since=1.0, where="node-17, GPU 3")
    state = SearchState(Path("ray_results/x"), [_TRIALS[0], running], 20, 300.0, "process 1 on node-17")
    (table,) = (part for part in state_of(state, 100.0) if isinstance(part, SettingsTable))
    lines = shown(table, width)
    assert max(map(len, lines)) <= width
    assert any(" ".join(line.split()).startswith("#1 3/12 0.9023 1 min 39 s node-17, GPU 3") for line in lines)
    assert any("tu-mobilenetv3_small_100" in line for line in lines)


def test_the_state_of_a_search_that_ended_early_says_why_and_of_one_that_did_not_how_to_go_on() -> None:
    state = SearchState(Path("x"), [_TRIALS[0]], 20, 300.0, None)
    assert state_of(state, 0.0)[0] == "x: not running; --resume goes on with it"
    assert state_of(replace(state, reason="nothing is left"), 0.0)[0] == "x: not running; ended early: nothing is left"
    running = replace(state, reason="nothing is left", holder="process 1 on node-17")
    assert state_of(running, 0.0)[0] == "x: running (process 1 on node-17)"
    assert str(state_of(state, 0.0)[2]).startswith("best so far: trial #0")
    assert str(state_of(replace(state, wanted=1), 0.0)[2]).startswith("winner: trial #0")


def test_one_of_something_is_singular() -> None:
    once = replace(_TRIALS[0], settings={"epochs": 1}, epochs=1)
    assert "finished 1 epoch in" in trial_line(once, 3)
    assert "after 0 of 1 epoch:" in trial_line(replace(once, status="failed", epochs=0, error="why"), 3)
    assert [counted(number, "tile") for number in (0, 1, 2, 1000)] == ["0 tiles", "1 tile", "2 tiles", "1000 tiles"]


def test_the_bar_of_a_search_does_not_end_with_nothing_running_and_no_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    console = SearchConsole(make_console(), 3)
    monkeypatch.setattr(console._bar, "update", lambda done, total, text: said.append(text))
    console.started("a plan", [])
    for trial in _TRIALS:
        console.epoch(trial.number, {"epoch": 6, "epochs": 12, "best_miou": 0.1, "collapsed_epochs": 0})
        console.ended(trial)
    assert said[-3].startswith("2/3 trials, best 0.9123 (#0), about ")
    assert said[-2].startswith("2/3 trials, 1 running, best 0.9123 (#0), about ")
    assert said[-1] == "3/3 trials, best 0.9123 (#0)"
