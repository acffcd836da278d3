"""Time in which a process could run, and who is silent in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segtune.clock import Clock

TRIAL = """
import sys, time
from pathlib import Path
from segtune.files.folders import RunFolder
from segtune.tuning.watchdog import Watchdog

with Watchdog(RunFolder(Path(sys.argv[1])), 1.0) as watchdog:
    print("begun", flush=True)
    for _ in range(4):
        sys.stdin.readline()
        watchdog.alive("training")
        print("alive", flush=True)
    time.sleep(60)
"""


def test_a_clock_stands_still_while_its_process_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("segtune.clock.time.monotonic", lambda: now)
    clock = Clock(tick=1.0)
    start = clock.seconds()
    for passed, counted in [(0.4, 0.4), (3.0, 3.4), (3600.0, 4.4), (1.0, 5.4), (90.0, 6.4)]:
        now += passed
        assert clock.seconds() - start == pytest.approx(counted)


def test_a_pause_of_a_trial_is_no_hang_and_silence_is_one(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", TRIAL, str(tmp_path)], start_new_session=True, **pipes) as trial:
        assert trial.stdout.readline() == "begun\n"
        for _ in range(2):
            os.killpg(trial.pid, signal.SIGSTOP)
            time.sleep(1.5)
            os.killpg(trial.pid, signal.SIGCONT)
            time.sleep(0.2)
            trial.stdin.write("\n")
            trial.stdin.flush()
            assert trial.stdout.readline() == "alive\n"
        assert trial.wait(30) == -signal.SIGKILL
    assert (tmp_path / "fault.txt").read_text().startswith("no sign of life for 1 s in training")


def test_a_process_that_is_stopped_alone_is_killed(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", TRIAL, str(tmp_path)], **pipes) as trial:
        assert trial.stdout.readline() == "begun\n"
        os.kill(trial.pid, signal.SIGSTOP)
        assert trial.wait(30) == -signal.SIGKILL
    assert (tmp_path / "fault.txt").read_text() == "its process did not run for 1 s (stopped, or stuck): killed"


HANGING_DISK = """
from segtune.tuning import watchdog as module
module._WRITING_S = 0.2
Watchdog._write_stacks = lambda self, reason: time.sleep(60)
"""


def test_a_hanging_disk_does_not_save_a_trial_that_hangs(tmp_path: Path) -> None:
    code = TRIAL.replace("\nwith", f"{HANGING_DISK}\nwith", 1)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as trial:
        for _ in range(4):
            trial.stdin.write("\n")
        trial.stdin.flush()
        assert trial.wait(30) == -signal.SIGKILL
