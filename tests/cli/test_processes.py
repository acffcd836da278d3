"""run_single.py as a process: its help, and the signals that end it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from segtune.cli.exits import Terminated
from segtune.cli.flags import ALIASES
from segtune.config import RunConfig
from segtune.fields import base_type, choices
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    FAST,
    Run,
)
from tests.scripts import ROOT

SCRIPT = ROOT / "run_single.py"


def test_help_comes_fast_and_shows_every_setting() -> None:
    start = time.perf_counter()
    wide = os.environ | {"COLUMNS": "1000"}  # no line breaks within words with hyphens
    command = [sys.executable, SCRIPT, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=wide)
    assert time.perf_counter() - start < 5
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for name, field in RunConfig.model_fields.items():
        value = "[VALUE]" if base_type(name) is bool else "VALUE"  # a switch needs none
        assert f"--{name.replace('_', '-')} {value}" in text
        assert field.description in text
        assert ", ".join(choices(name)) in text
    for aliases in ALIASES.values():
        assert all(re.search(rf"(?<!\S){alias}(?!\S)", text) for alias in aliases)
    assert done.stdout.index("python run_single.py -d DATASET") < done.stdout.index("options:")


def long_run(tiles: Path, where: Path) -> tuple[subprocess.Popen[str], RunFolder]:
    """Start a run of very many epochs in a session of its own; return when two of them are done."""
    line = [sys.executable, str(SCRIPT), "-d", str(tiles), *FAST, "-e", "5000", "-w", "1", "--exp-name", "run"]
    run = subprocess.Popen(
        line, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    folder = RunFolder(where / "logs" / "run")
    limit = time.monotonic() + 90
    while len(read_rows(folder)) < 2 and run.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    return run, folder


@pytest.mark.slow  # tests.training.test_stopped_runs has quicker ones, without loader processes
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_quietly_and_leaves_a_sound_folder(
    tiles: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    run, folder = long_run(tiles, tmp_path)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does: the loader processes too
    else:
        run.send_signal(number)
    try:
        said, told = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == status, told
    assert "Traceback" not in told
    assert told == ""
    assert said.splitlines()[-1].endswith(f"python {SCRIPT} --exp-name run")
    limit = time.monotonic() + 10  # an ended process counts until somebody has taken note of it
    while _session_lives(run.pid) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not _session_lives(run.pid)  # nobody is left
    assert load_model(folder.best, torch.device("cpu"))[1].config.epochs == 5000
    assert yaml.safe_load(folder.run_yaml.read_text(encoding="utf-8"))["epochs"] == 5000
    assert not [path.name for path in folder.path.iterdir() if ".tmp-" in path.name]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_to_a_whole_batch_job_lets_the_run_save_its_state(tiles: Path, tmp_path: Path) -> None:
    run, folder = long_run(tiles, tmp_path)
    os.killpg(run.pid, signal.SIGTERM)  # the loader processes too
    try:
        said, told = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert (run.returncode, told) == (143, "")
    assert said.splitlines()[-1].endswith(f"python {SCRIPT} --exp-name run")
    assert folder.state.is_file()


@pytest.mark.parametrize(
    ("ending", "status", "word"), [(KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "terminated")]
)
def test_a_run_interrupted_while_reading_tiles_resumes_by_the_same_line(
    ending: type[BaseException],
    status: int,
    word: str,
    tiles: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(*given: object, **more: object) -> None:
        raise ending

    monkeypatch.setattr("segtune.data.scan.scan", ended)
    assert run("-d", tiles, *FAST) == status
    line = " ".join(["-d", str(tiles), *FAST])
    said, hint = capsys.readouterr().err.splitlines()
    assert said == word
    assert re.fullmatch(rf"to go on: (\S*/)?python run_single\.py {re.escape(line)}", hint)
    assert not Path("logs").exists()


def _session_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True
