"""Locks that give a folder, or a file, to one process, and end with that process."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TextIO

from segtune.errors import InputError
from segtune.files.checks import open_own

_LOCK_POLL_S = 0.3
_HELD_BY = "process "  # how the text of a lock file begins
_own: set[Path] = set()  # lock files of the folders that this process holds
_GLANCES, _GLANCE_S = 3, 0.02  # first attempts: a process that only asks for the holder may be in the way


def lock_of(folder: Path) -> Path:
    """Return the lock file of a folder."""
    return folder / ".lock"


@contextmanager
def held_folder(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder; raise InputError, saying that another process does `what`, where that holds it."""
    place = lock_of(folder)

    def refuse() -> None:
        raise InputError(f"{folder}: another process {what} ({_text_of(place) or 'unknown'})")

    with locked_file(place, refuse) as file:
        if not (file.read(len(_HELD_BY)) or _HELD_BY).startswith(_HELD_BY):
            raise InputError(f"{place}: is not a lock file of segtune; move it away")
        file.seek(0)
        file.truncate(0)
        file.write(f"{_this_process()}\n")
        file.flush()
        own = place.resolve()
        _own.add(own)
        try:
            yield
        finally:
            _own.discard(own)


def holder(folder: Path) -> str | None:
    """Return the process that holds the lock of a folder, as ``process 4711 on NODE``; None where there is none."""
    # A POSIX lock ends when its process closes the file, even a second time opened: the holder must not open it again.
    if lock_of(folder).resolve() in _own:
        return _this_process()
    try:
        # A shared lock needs read access only.
        with open_own(lock_of(folder), os.O_RDONLY) as file:
            try:
                _try_lock(file, fcntl.LOCK_SH)
            except (BlockingIOError, PermissionError):
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def _this_process() -> str:
    return f"{_HELD_BY}{os.getpid()} on {platform.node()}"


def _text_of(path: Path) -> str:
    with open_own(path, os.O_RDONLY) as file:
        return file.read().strip()


@contextmanager
def locked_file(path: Path, busy: Callable[[], None]) -> Iterator[TextIO]:
    """Hold a lock until the block ends; while another process holds it, call `busy` repeatedly.

    A POSIX lock ends with its process and is not inherited, so loader processes that outlive a killed run do not hold
    it. A process that only asks for the holder takes the lock for a moment; `busy` is not called for that. Where a file
    system has no locks, the block runs without one.
    """
    with open_own(path, os.O_RDWR | os.O_CREAT) as file:
        for attempt in count():
            try:
                _try_lock(file, fcntl.LOCK_EX)
                break
            except (BlockingIOError, PermissionError):
                if attempt >= _GLANCES:
                    busy()
                time.sleep(_GLANCE_S if attempt < _GLANCES else _LOCK_POLL_S)
        yield file


def _try_lock(file: TextIO, kind: int) -> None:
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
