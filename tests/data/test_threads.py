"""Threads that read files have left the process before it may fork loader processes."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segtune.data.threads import reading_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the threads of a process in /proc")


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def free(value: object) -> None:
    """Take a while, as a library may that frees what it had for a thread."""
    time.sleep(0.3)


@pytest.fixture
def key() -> Iterator[ctypes.c_uint]:
    """A key of the C library: it calls `free` when a thread ends that has a value for it, after Python let it go."""
    made = ctypes.c_uint()
    assert ctypes.CDLL(None).pthread_key_create(ctypes.byref(made), free) == 0
    yield made
    ctypes.CDLL(None).pthread_key_delete(made)


def there(thread: int) -> bool:
    return Path(f"/proc/self/task/{thread}").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_that_frees_what_it_had_is_waited_for(fails: bool, key: ctypes.c_uint) -> None:
    def look(number: int) -> int:
        ctypes.CDLL(None).pthread_setspecific(key, ctypes.c_void_p(1))
        if fails and number == 3:
            raise ValueError
        return threading.get_native_id()

    seen: list[int] = []
    try:
        with reading_threads(2) as pool:
            seen += pool.map(look, range(3))
            assert all(map(there, seen))
            list(pool.map(look, [3]))
    except ValueError:
        assert fails
    assert not any(map(there, seen))
