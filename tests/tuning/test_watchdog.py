"""The watchdog: what it writes when a trial gives no sign of life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from segtune.files.folders import RunFolder
from segtune.tuning.watchdog import Watchdog

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


def test_a_link_in_the_place_of_the_stacks_is_replaced_and_not_followed(tmp_path: Path) -> None:
    theirs, run = tmp_path / "mine.txt", RunFolder(tmp_path / "run")
    theirs.write_text("precious", encoding="utf-8")
    run.path.mkdir()
    run.error.symlink_to(theirs)
    Watchdog(run, 1.0)._write_stacks("silent")
    assert theirs.read_text(encoding="utf-8") == "precious"
    assert run.fault() == "silent"


def test_a_paused_trial_is_not_killed_but_a_silent_one_is(tmp_path: Path) -> None:
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
