"""Output that cannot be written never ends the work: a closed window, a pipe that nobody reads, a full disk."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals, signals")
# Waits until the other end is gone, says something there, and writes down how it came on.
WORK = """
import os, sys
from pathlib import Path
from rich.console import Console
from segtune.cli.exits import run_script

def main():
    print("begun", file=sys.stderr)
    sys.stdin.readline()
    for _ in range(3):
        Console().print("a line", style="bold")
        print("another", file=sys.stderr)
    file = open("own", "w")  # may get the number of an output that was closed
    print("a third")
    file.close()
    Path("done").touch()
    return 0

run_script(main)
"""


def begin(folder: Path, shell: str, **outputs: int) -> subprocess.Popen[str]:
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", WORK]
    return subprocess.Popen(command, cwd=folder, text=True, stdin=subprocess.PIPE, start_new_session=True, **outputs)


def closed_terminal(folder: Path) -> subprocess.Popen[str]:
    ours, theirs = pty.openpty()
    process = begin(folder, '"$@"', stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"begun")
    os.close(ours)
    return process


@pytest.mark.parametrize(
    "start",
    [
        closed_terminal,
        lambda folder: begin(folder, '"$@" 2>&1 | true; exit ${PIPESTATUS[0]}'),
        lambda folder: begin(folder, '"$@" >/dev/full 2>&1'),
        lambda folder: begin(folder, '"$@" >&- 2>&-'),
        lambda folder: begin(folder, '"$@" >&-', stderr=subprocess.DEVNULL),
    ],
    ids=["terminal", "pipe", "disk", "closed", "stdout-closed"],
)
def test_work_goes_on_when_nothing_can_be_printed(
    start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(tmp_path)
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "done").is_file()
    assert (tmp_path / "own").read_text() == ""


WAIT = """
import time
from segtune.cli.exits import run_script
from segtune.machine import signals_noted

def main():
    print("begun", flush=True)
    end = time.monotonic() + 20
    with signals_noted() as caught:
        while not caught and time.monotonic() < end:
            time.sleep(0.01)
            {during}
    return 128 + caught[0] if caught else 0

run_script(main)
"""


@pytest.mark.parametrize(("prefix", "status"), [("exec ", 129), ("trap '' HUP; exec ", 0)], ids=["heard", "ignored"])
def test_a_closed_terminal_ends_the_work_in_order_except_under_nohup(prefix: str, status: int, tmp_path: Path) -> None:
    during = "" if status else "end = min(end, time.monotonic() + 0.5)"
    command = ["bash", "-c", f'{prefix}"$@"', "bash", sys.executable, "-c", WAIT.format(during=during)]

    def hear() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup

    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, preexec_fn=hear) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == status
