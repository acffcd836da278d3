"""Threads that read files, and leave nothing behind that a forked process would wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

_TASKS = Path("/proc/self/task")  # a folder for each thread; on Linux, where loader processes are forked
_LONGEST_S = 5.0


@contextmanager
def reading_threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads that may open rasters; they have left the process when the block has ended.

    A thread that has done its work frees what PROJ keeps for it, under a lock of PROJ's database, and Python does not
    wait for that. A loader process that is forked meanwhile would find the lock taken for ever, and hang.
    """
    begun: list[int] = []
    try:
        with ThreadPoolExecutor(number, initializer=lambda: begun.append(threading.get_native_id())) as pool:
            yield pool
    finally:
        end = time.monotonic() + _LONGEST_S
        while any((_TASKS / str(thread)).exists() for thread in begun) and time.monotonic() < end:
            time.sleep(0.0005)
