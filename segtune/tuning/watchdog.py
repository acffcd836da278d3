"""A trial's process that ends itself when the trial hangs: nobody else can tell a long step from a stuck one."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from segtune.clock import Clock
from segtune.folders import RunFolder, write_text

_LOOKS = 10  # at the trial, per time that it may be silent
_LONGEST_LOOK_S = 5.0


class Watchdog:
    """Kills this process when `alive` was not called for `seconds`; a thread, alive inside the `with`.

    A Python thread that waits for a dead disk, a GPU or a loader process cannot be interrupted: only the end of the
    process ends it. Its stacks go to the trial's error.txt, the reason to its fault.txt. Time in which this process
    could not run, such as a pause of the whole search, is no silence.
    """

    def __init__(self, folder: RunFolder, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._look_s = min(_LONGEST_LOOK_S, seconds / _LOOKS)
        self._clock = Clock(self._look_s)
        self._last, self._phase = self._clock.seconds(), "start"
        self._paused, self._ended = False, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self, phase: str) -> None:
        """The trial does something, in this phase."""
        self._last, self._phase = self._clock.seconds(), phase

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the trial waits for the search, which may take its time."""
        self._paused = True
        try:
            yield
        finally:
            self._last, self._paused = self._clock.seconds(), False

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._look_s):
            silent = self._clock.seconds() - self._last
            if not self._paused and silent > self._seconds:
                self._end(f"no sign of life for {silent:.0f} s in {self._phase}: killed (its stacks are in error.txt)")

    def _end(self, reason: str) -> None:
        try:
            self._write_stacks(reason)
        finally:  # a disk that hangs or is full must not save a process that hangs
            os.kill(os.getpid(), signal.SIGKILL)

    def _write_stacks(self, reason: str) -> None:
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._folder.error.unlink(missing_ok=True)  # of an attempt before this one; a link is not followed
        with self._folder.error.open("x", encoding="utf-8") as file:
            faulthandler.dump_traceback(file)
        write_text(self._folder.fault_txt, reason)
