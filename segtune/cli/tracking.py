"""Let another process keep an experiment tracker up to date with a search or a run; see segtune.report.tracking."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from segtune.errors import InputError, SegtuneError, named
from segtune.files.folders import RunFolder, SearchFolder
from segtune.remarks import Say
from segtune.report.commands import same_command, words_of
from segtune.report.trackers import NONE, TRACKERS, check_installed
from segtune.report.tracking import OVER, SAID
from segtune.space.reader import load_space

_ROOT = Path(__file__).resolve().parent.parent.parent  # what holds the package
_LONGEST_S = 90.0  # more than the process waits for a tracker after the work ended


class Tracking:
    """The process that keeps a tracker up to date; without a tracker, there is none.

    Raises SegtuneError, with the command that sends everything later, where the process cannot be started.
    """

    def __init__(self, words: list[str], say: Say) -> None:
        self._say = say
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "segtune.report.tracking", *words]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the search, which ends it in order
            )
        except OSError as error:  # such as no memory for another process
            tracker, _, later, *_ = words
            raise SegtuneError(f"not logged to {tracker} ({named(error)}); to send what is missing: {later}") from error
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            self._say(line.decode(errors="replace").rstrip())

    def over(self) -> None:
        """Tell it that the search, or the run, does not go on."""
        self._tell(OVER)

    def end(self, longest: float | None) -> int:
        """Let it send what is missing, for so many seconds at most; return its exit status."""
        try:
            with suppress(BrokenPipeError):
                assert self._process.stdin
                self._process.stdin.close()
            status = self._process.wait(longest)
        finally:
            self._process.kill()
        self._reader.join(1.0)
        return status

    def _tell(self, word: bytes) -> None:
        with suppress(BrokenPipeError):  # it died; `end` says so
            assert self._process.stdin
            self._process.stdin.write(word)
            self._process.stdin.flush()


@contextmanager
def tracked(tracker: str, folder: Path, later: str, say: Say) -> Iterator[Callable[[], None]]:
    """Keep a tracker up to date while the block trains in a folder; yield what says that the work does not go on.

    Parameters
    ----------
    tracker: its name; ``none`` does nothing.
    later: the command that sends what is missing then.
    say: prints a line, from another thread, too.
    """
    if tracker == NONE:
        yield lambda: None
        return
    try:
        tracking = Tracking([tracker, str(folder), later], say)
    except SegtuneError as error:  # the work goes on without it
        say(str(error))
        tracking = None
    if tracking is None:
        yield lambda: None
        return
    try:
        yield tracking.over
    finally:
        try:
            status = tracking.end(_LONGEST_S)
        except subprocess.TimeoutExpired:
            status = -1
        if status not in (0, SAID):  # it could not say itself what is missing
            say(f"not everything was logged to {tracker}; to send what is missing: {later}")


def send(tracker: str, folder: Path, over: bool, later: str, say: Say) -> int:
    """Bring a tracker up to date with a folder in which nothing trains; return the exit status.

    Raises SegtuneError, which says why, where something could not be sent.
    """
    lines: list[str] = []
    tracking = Tracking([tracker, str(folder), later, "--patient"], lines.append)
    if over:
        tracking.over()
    status = tracking.end(None)
    if status == SAID and lines:
        raise SegtuneError(lines[-1])
    for line in lines:
        say(line)
    if status:
        raise SegtuneError(f"not everything was logged to {tracker}; to send what is missing: {later}")
    return 0


def send_search(given: Namespace) -> int:
    """Bring the tracker up to date with the search that --log names; return the exit status."""
    folder = SearchFolder.named(Path(given.results_dir), given.log, "--log")
    folder.check_begun()
    tracker = given.search_log_to or load_space(folder.search_yaml).search.log_to
    if tracker == NONE:
        raise InputError("--log: the search was started without a tracker; --log-to mlflow (or wandb) says where to")
    if tracker not in TRACKERS:
        raise InputError(f"--log-to: must be {' or '.join(TRACKERS)}, but got {tracker!r}")
    check_installed(tracker)
    if process := folder.holder():
        raise InputError(f"{folder.path}: {process} runs this search; --log sends it when it has ended")
    # Optuna and torch take seconds to import; common mistakes do not wait for them.
    from segtune.report.terminal import make_console
    from segtune.tuning.status import search_state

    state = search_state(folder)
    later = same_command(sys.argv[1:])
    return send(tracker, folder.path, state.over or bool(state.reason), later, make_console().print)


def to_send_later(folder: SearchFolder) -> list[str]:
    """Return the words after run_search.py that bring the tracker up to date with a search."""
    return words_of("--log", folder)


@contextmanager
def tracked_run(given: Namespace, folder: RunFolder, say: Say) -> Iterator[Callable[[int], int]]:
    """Keep the tracker that --log-to names up to date while the block trains a run of `run_single.py`.

    Yields a function that takes the exit status of the training, and returns it.
    """
    with tracked(given.log_to, folder.path, command_to_go_on(given, folder), say) as over:

        def ended(status: int) -> int:
            if status == 0:
                over()
            return status

        yield ended


def command_to_go_on(given: Namespace, folder: RunFolder) -> str:
    """Return the command line that goes on with a run, or sends a finished one to its tracker."""
    where = ["--log-dir", given.log_dir] if given.log_dir != "logs" else []
    tracker = ["--log-to", given.log_to] if given.log_to != NONE else []
    return same_command(["--exp-name", folder.path.name, *where, *tracker])
