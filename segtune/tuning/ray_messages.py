"""Keep Ray's messages in a file: when one of its processes dies, traces and records would fill the terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from ray._private import worker

from segtune.files.checks import open_own

_LAST = 20_000  # bytes that are kept of each log


class RayMessages:
    """Redirects Ray's messages to the file that `into` names, until the block ends.

    They come from Python's loggers, from the raylet and the GCS, and from Ray's C++ parts in this process, which write
    to standard error themselves. An empty file is removed at the end.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.path: Path | None = None

    def __enter__(self) -> RayMessages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Redirect messages no longer."""
        self._stack.close()
        if self.path and not self.path.stat().st_size:
            self.path.unlink()

    def into(self, path: Path) -> None:
        """Append messages to this file from now on."""
        self.path = path
        file = self._stack.enter_context(open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT))
        self._redirect_logger(logging.StreamHandler(file))
        sys.stderr.flush()
        usual = os.dup(2)
        os.dup2(file.fileno(), 2)
        self._stack.callback(os.close, usual)
        self._stack.callback(os.dup2, usual, 2)

    def add(self, logs: Iterable[Path]) -> None:
        """Append the ends of logs of Ray's processes, which are deleted when the search ends."""
        for log in logs:
            with suppress(OSError), log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST))
                if text := file.read():
                    os.write(2, b"\n" + log.name.encode() + b":\n" + text)

    def pointed_to(self, line: str) -> str:
        """Return the line, with a pointer to the file where there are messages."""
        return f"{line}; Ray's messages are in {self.path}" if self.path and self.path.stat().st_size else line

    def _redirect_logger(self, handler: logging.Handler) -> None:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        logger = logging.getLogger("ray")
        handlers, propagate = logger.handlers, logger.propagate

        def put_back() -> None:
            logger.handlers, logger.propagate = handlers, propagate

        logger.handlers, logger.propagate = [handler], False
        self._stack.callback(put_back)
        # The raylet and the GCS report processes that died: Ray prints that, and has no setting to stop it.
        usual = worker.print_to_stdstream
        worker.print_to_stdstream = lambda data, ignore_prefix: logger.error("\n".join(data["lines"]))
        self._stack.callback(setattr, worker, "print_to_stdstream", usual)
