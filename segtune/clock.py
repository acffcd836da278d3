"""A clock that stops while its process is stopped: by Ctrl-Z, by a batch system, or by a machine that sleeps."""

from __future__ import annotations

import functools
import threading
import time

_TICK_S = 1.0
_LATE = 5.0  # ticks: after a longer gap, the process was stopped and not just slow


class Clock:
    """A clock of the seconds in which this process was able to run.

    The system has no such clock: one goes on while a process is stopped, another advances only while it computes. But
    a process that reads the time every `tick` seconds, and finds a far longer gap, was stopped in between.

    Parameters
    ----------
    tick: the longest time in seconds between two calls of `seconds` while the process runs.
    """

    def __init__(self, tick: float) -> None:
        self._tick, self._stopped, self._last = tick, 0.0, time.monotonic()
        self._lock = threading.Lock()  # a pause must be counted by one thread only

    def seconds(self) -> float:
        """Return the present time in seconds; only differences are meaningful."""
        with self._lock:
            now = time.monotonic()
            passed, self._last = now - self._last, now
            if passed > _LATE * self._tick:
                self._stopped += passed - self._tick
            return now - self._stopped


def running_seconds() -> float:
    """Return the present time of this process's own clock in seconds; only differences are meaningful."""
    return _clock().seconds()


@functools.cache
def _clock() -> Clock:
    clock = Clock(_TICK_S)

    def look() -> None:
        while True:
            time.sleep(_TICK_S)
            clock.seconds()

    threading.Thread(target=look, name="clock", daemon=True).start()
    return clock
