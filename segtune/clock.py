"""A clock that stands still while its process cannot run: after Ctrl-Z, while a batch system or a machine sleeps."""

from __future__ import annotations

import functools
import threading
import time

_TICK_S = 1.0
_LATE = 5.0  # times a tick: later than that, the process was not slow but stopped


class Clock:
    """Seconds in which this process could run, since some moment.

    No clock of the system tells: one goes on while a process is stopped, another only while it computes. But a process
    that looks at the clock every `tick` seconds, and finds that far more time has passed, was stopped meanwhile.

    Parameters
    ----------
    tick: longest time between two calls of `seconds` while the process runs.
    """

    def __init__(self, tick: float) -> None:
        self._tick, self._stopped, self._last = tick, 0.0, time.monotonic()
        self._lock = threading.Lock()  # a pause must be counted by one thread only

    def seconds(self) -> float:
        """The time now; only differences mean something."""
        with self._lock:
            now = time.monotonic()
            passed, self._last = now - self._last, now
            if passed > _LATE * self._tick:
                self._stopped += passed - self._tick
            return now - self._stopped


def running_seconds() -> float:
    """The time by a clock of this process's own; only differences mean something."""
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
