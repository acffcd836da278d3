"""Standard output and standard error that never stop the work: what cannot be written is dropped."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Dropping(io.FileIO):
    """A file descriptor that takes everything, also when nobody reads it, its disk is full or it is closed.

    A window that was closed, a `| head` that has read enough and a full disk behind `> log` are no reason to lose hours
    of training.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written, and say that it was all."""
        with suppress(OSError):
            return super().write(data) or _bytes(data)  # None: a full pipe that does not wait
        return _bytes(data)


def drop_what_cannot_be_written() -> None:
    """Have sys.stdout and sys.stderr of this process raise no OSError from here on.

    Streams that are not the process's own, such as a test's, are left alone.
    """
    _open_closed()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _dropping(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _dropping(sys.stderr, 2)


def _open_closed() -> None:
    """Open what was closed with `>&-`: a file that is opened later would get its number, and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one


def _dropping(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # it was closed when Python started; by now the number may be another file's
        return open(os.devnull, "w", encoding="utf-8")
    with suppress(OSError):
        stream.flush()
    # A number of its own: a library that writes to standard error by itself can then be sent elsewhere.
    return io.TextIOWrapper(
        io.BufferedWriter(_Dropping(os.dup(number), "w")),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


def _bytes(data: ReadableBuffer) -> int:
    return memoryview(data).nbytes
