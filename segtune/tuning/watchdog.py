"""End a trial's process when the trial hangs; only the process itself can tell a long step from a stuck one."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from segtune.clock import Clock
from segtune.files.atomic import write_text
from segtune.files.folders import RunFolder

_LOOKS = 10  # looks at the trial, per time that it may be silent
_LONGEST_LOOK_S = 5.0
_WRITING_S = 10.0  # seconds to wait for a disk that may hang, before the kill
# The guard process, which is paused together with the trial's process. It kills that process when it is silent for so
# many seconds, counted in looks, and ends when the other end of its input is closed.
_GUARD = """
import os, select, signal, sys, threading
process, seconds, look, file = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
silent = 0.0
while silent <= seconds:
    if not select.select([0], [], [], look)[0]:
        silent += look
    elif os.read(0, 4096):
        silent = 0.0
    else:
        sys.exit()
def note():
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(file, new, 0o666), "w") as fault:
        fault.write(f"its process did not run for {seconds:g} s (stopped, or stuck): killed")
writer = threading.Thread(target=note, daemon=True)
writer.start()
writer.join(float(sys.argv[5]))
if os.getppid() == process:
    os.kill(process, signal.SIGKILL)
"""


class Watchdog:
    """A thread that kills this process when `alive` was not called for `seconds`; it runs inside the `with` block.

    A Python thread that waits for a dead disk, a GPU or a loader process cannot be interrupted: only the end of the
    process ends it. The stacks go to the trial's error.txt, the reason to its fault.txt. Time in which this process
    could not run, such as a pause of the whole search, does not count. If only this process cannot run, because it is
    stopped or a library blocks all of Python, a guard process kills it after the same time.
    """

    def __init__(self, folder: RunFolder, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._look_s = min(_LONGEST_LOOK_S, seconds / _LOOKS)
        self._clock = Clock(self._look_s)
        self._last, self._phase = self._clock.seconds(), "start"
        self._paused, self._ended = False, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self, phase: str) -> None:
        """Report that the trial is alive, in this phase."""
        self._last, self._phase = self._clock.seconds(), phase

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend the watch while the trial waits for the search."""
        self._paused = True
        try:
            yield
        finally:
            self._last, self._paused = self._clock.seconds(), False

    def __enter__(self) -> Watchdog:
        command = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), str(self._seconds), str(self._look_s)]
        self._guard = subprocess.Popen(
            [*command, str(self._folder.fault_txt.absolute()), str(_WRITING_S)], stdin=subprocess.PIPE
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()  # it may be about to write to the guard
        assert self._guard.stdin
        self._guard.stdin.close()
        self._guard.kill()  # a loader process may hold the other end as well
        self._guard.wait()

    def _watch(self) -> None:
        assert self._guard.stdin
        while not self._ended.wait(self._look_s):
            with suppress(BrokenPipeError):  # the guard was ended
                os.write(self._guard.stdin.fileno(), b".")
            silent = self._clock.seconds() - self._last
            if not self._paused and silent > self._seconds:
                self._end(f"no sign of life for {silent:.0f} s in {self._phase}: killed (its stacks are in error.txt)")

    def _end(self, reason: str) -> None:
        # A disk that hangs or is full must not prevent the kill.
        writer = threading.Thread(target=self._write_stacks, args=(reason,), daemon=True)
        writer.start()
        writer.join(_WRITING_S)
        os.kill(os.getpid(), signal.SIGKILL)

    def _write_stacks(self, reason: str) -> None:
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._folder.error.unlink(missing_ok=True)  # of an earlier attempt; a link is not followed
        with self._folder.error.open("x", encoding="utf-8") as file:
            faulthandler.dump_traceback(file)
        write_text(self._folder.fault_txt, reason)
