"""Standard output and standard error that never raise: output that cannot be written is dropped."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Dropping(io.FileIO):
    """A file that accepts all output, also when its reader is gone, its disk is full or it is closed.

    A closed terminal, a `| head` that has ended or a full disk behind `> log` must not end hours of training.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written; return the full length."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        with suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or len(rest) :]  # None: a non-blocking pipe is full
        return length


def drop_what_cannot_be_written() -> None:
    """Replace sys.stdout and sys.stderr by streams that raise no OSError.

    Streams that something else has put there, such as a test, are left alone.
    """
    _open_closed()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _dropping(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _dropping(sys.stderr, 2)


def _open_closed() -> None:
    """Open descriptors that were closed with `>&-`; else a file opened later would get the number and the output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # opens the lowest free number, which is this one


def _dropping(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # closed when Python started; the number may belong to another file by now
        return open(os.devnull, "w", encoding="utf-8")
    with suppress(OSError):
        stream.flush()
    # A descriptor of its own, so that output which a library writes to number 2 can be redirected.
    file = _Dropping(os.dup(number), "w")
    # No BufferedWriter between them: a line during whose write a signal arrives would stay in it, and come once more
    # when Python ends, behind the last message.
    return io.TextIOWrapper(file, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
