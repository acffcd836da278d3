"""Keep an experiment tracker up to date with a folder, in a process of its own: nothing that it does slows a search.

    python -m segtune.report.tracking TRACKER FOLDER SEND_LATER [--patient]

The process that trains starts it and tells it by its standard input how the work went: `over` where it does not go on,
and the end of the input when it ended, in whatever way. Every line that it prints is for the user. It reads nothing but
the folder, so nothing can be lost or sent twice: what a tracker lacks is sent when it answers again, or by SEND_LATER,
the command that it then names. Without --patient it gives up soon after the work has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from segtune.errors import InputError, counted, first_few, named, one_line
from segtune.files.folders import lock_of_tracker
from segtune.files.locks import locked_file
from segtune.report.tracked import TrackedFolder
from segtune.report.trackers import Ledger, Tracker, missing, send_missing

OVER = b"o"  # the work does not go on
SAID = 3  # exit status: a line said what is missing; Python itself ends with 1 or 2
_EVERY_S = 10.0  # between two looks at the folder
_SHARE = 0.05  # at most, of the time that looks may take
_LONGEST_PAUSE_S = 300.0  # between two attempts while a tracker does not answer
_LOOK_S = 1.0  # between two looks at whether the work ended, or its process died
_SILENT_S = 45.0  # without an answer, until a line says so
# After the work has ended: as long as files of a model take; before there was an answer; and after a failure.
_WAIT_S, _WAIT_UNHEARD_S, _WAIT_FAILED_S = 60.0, 20.0, 10.0


def open_tracker(name: str, folder: Path) -> Tracker:
    """Connect to the tracker of this name for the search, or the run, in a folder."""
    ledger = Ledger(folder)
    if name == "mlflow":
        from segtune.report.to_mlflow import MlflowRuns

        return MlflowRuns(ledger.id)
    from segtune.report.to_wandb import WandbRuns

    return WandbRuns(ledger, folder.name)


class Sender:
    """Sends what a tracker lacks, in a thread of its own, because libraries of trackers may never return.

    Parameters
    ----------
    name: the tracker.
    folder: of a search or of a run.
    out: takes lines for the user.
    """

    def __init__(self, name: str, folder: Path, out: TextIO) -> None:
        self.name, self._path, self._out = name, folder, out
        self._folder = TrackedFolder(folder)
        self._tracker: Tracker | None = None
        self.ended, self.over = threading.Event(), False  # set from outside: `over` first
        self.done = threading.Event()  # it has sent all, or tried for the last time
        self.failed: str | None = None  # why the last attempt failed
        self._held = contextlib.ExitStack()
        self._asked: float | None = None  # when the attempt that is going on began
        self.warned = False  # whether a line said that the tracker does not answer

    def start(self) -> None:
        """Begin to send, in a thread that does not keep the process alive."""
        threading.Thread(target=self._work, daemon=True).start()

    def check(self) -> None:
        """Say once if the tracker gives no answer."""
        asked = self._asked
        if asked is not None and time.monotonic() > asked + _SILENT_S:
            self._warn("does not answer")

    def longest_wait(self) -> float:
        """Return how long it may go on after the work has ended, in seconds."""
        if self.failed:
            return _WAIT_FAILED_S
        return _WAIT_S if self._tracker else _WAIT_UNHEARD_S

    def left(self) -> list[str]:
        """Return the names of the runs that the tracker does not have as they are now."""
        return missing(self._tracker, self._folder.read(live=False, over=self.over))

    def say(self, line: str) -> None:
        """Print a line for the user; where nobody reads it any more, it is lost."""
        try:
            print(line, file=self._out, flush=True)
        except BrokenPipeError:
            self._out = open(os.devnull, "w")  # noqa: SIM115

    def _work(self) -> None:
        pause = _EVERY_S
        while True:
            last, began = self.ended.is_set(), time.monotonic()
            try:
                self._send(live=not last)
                self.failed = None
                pause = max(_EVERY_S, (time.monotonic() - began) / _SHARE)
            except Exception as error:  # of the tracker's library, whatever it is
                self.failed = str(error.mistakes[0]) if isinstance(error, InputError) else named(error)
                self._warn(self.failed)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            self._asked = None
            if last:
                self.done.set()
                return
            self.ended.wait(pause)

    def _send(self, live: bool) -> None:
        if not self._folder.begun:
            return
        self._asked = time.monotonic()
        if self._tracker is None:
            self._held.close()
            self._held.enter_context(locked_file(lock_of_tracker(self._path), self._busy))
            self._tracker = open_tracker(self.name, self._path)
            self.say(f"logging to {self.name}: {self._tracker.where}")
        for _ in send_missing(self._tracker, self._folder.read(live, self.over)):
            self._asked = time.monotonic()

    def _busy(self) -> None:
        raise InputError(f"another process logs {self._path}")

    def _warn(self, why: str) -> None:
        if not (self.warned or self.ended.is_set()):
            self.warned = True
            self.say(f"{self.name}: {one_line(why)}; the work goes on, and what is missing is sent later")


def watch(sender: Sender, told: int, patient: bool) -> None:
    """Send until the work ended, and then what is left; give up after a while, unless it is `patient`.

    A patient one sends nothing before: the work ended long ago. `told` is the file from which it is told.
    """
    parent = os.getppid()
    if not patient:
        sender.start()
    while os.getppid() == parent:
        sender.check()
        if select.select([told], [], [], _LOOK_S)[0]:
            word = os.read(told, 64)
            sender.over = sender.over or OVER in word
            if not word:
                break
    sender.ended.set()
    if patient:
        sender.start()
    began = time.monotonic()
    while not sender.done.wait(0.2):
        if not patient and time.monotonic() - began > sender.longest_wait():
            break


def main(words: Sequence[str]) -> int:
    """Keep a tracker up to date; return 0 when it has everything, and SAID when the last line says what it lacks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tracker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("send_later")
    parser.add_argument("--patient", action="store_true")
    given = parser.parse_args(words)
    # Libraries print what they like; only this process's own lines are for the user.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sender = Sender(given.tracker, given.folder, out)
    missing = None
    try:
        watch(sender, 0, given.patient)
        if left := sender.left():
            why = f" ({one_line(sender.failed)})" if sender.failed and not sender.warned else ""
            missing = f"{why}: {counted(len(left), 'run')} of {given.folder.name}: {first_few(left)}"
    except Exception as error:  # such as that of a file in the folder that cannot be read
        missing = f" ({named(error)}): {given.folder.name}"
    if missing:
        sender.say(f"not logged to {given.tracker}{missing}; to send what is missing: {given.send_later}")
    out.flush()
    return SAID if missing else 0


if __name__ == "__main__":
    # A library's thread, or what it does at the exit, may never end.
    os._exit(main(sys.argv[1:]))
