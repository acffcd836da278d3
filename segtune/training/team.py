"""Several processes that train one run, watched over by the process that asked for it.

That process trains nothing itself: whatever happens to one of the others, it can end them all, and their memory on the
GPUs is free again.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import cv2
import torch
from torch import Tensor

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.errors import ProcessError, SegtuneError
from segtune.files.folders import RunFolder
from segtune.files.temporary import workplace
from segtune.files.transforms_file import TransformsFile
from segtune.machine import HANGUP
from segtune.torch_errors import memory_error
from segtune.training.result import EpochResult
from segtune.training.step import ShortMemoryError
from segtune.training.stopwatch import Alive, OnBatch

_LOOK_S = 0.25  # between looks at the processes and at the caller's wish to stop
_SILENT_S = 600.0  # without a sign of life, after which processes that nobody else watches are ended
_READ_S = 1.0  # between looks at the loss
_CLOSING_S = 60.0  # that the processes have to close their files
_AFTER_A_DEATH_S = 3.0  # in which other processes notice that one has died
_CLOSE, _GO_ON, _STOP = "close", "go on", "stop"
# The path is this process's: the other one finds the same modules, wherever they lie.
_START = "import sys; sys.path[:] = sys.argv[2:]; from segtune.training.team import member; member(int(sys.argv[1]))"

# torch warns of every network in which no weight is unused, and not as Python does.
_QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Job:
    """What each process of a team is told."""

    config: RunConfig
    info: DataInfo
    folder: RunFolder
    go_on: bool  # resume from the state in the folder
    cores: int  # of each process
    threads: int  # of each process
    size: int  # number of processes
    steps_told: bool  # the caller wants to know of every step
    transforms: TransformsFile | None = None  # see `train`
    each_epoch: bool = False  # see `train`
    micro_batch: int | None = None  # largest number of tiles at a time, if memory was too small for more
    rank: int = 0
    work: Path = Path()  # a folder of the team

    @property
    def meeting(self) -> Path:
        """The file through which the processes find each other."""
        return self.work / "meeting"

    @property
    def scratch(self) -> RunFolder:
        """The folder for what a process other than the first one writes; it is thrown away."""
        return RunFolder(self.work / f"process_{self.rank}")


class Link:
    """The connection of a process of a team to the one that started it."""

    def __init__(self, connection: Connection[Any, Any], first: bool) -> None:
        self._connection, self._first = connection, first
        self._loss, self._read = torch.zeros(()), -_READ_S

    def alive(self, phase: str) -> None:
        """Give a sign of life; only the first process does, for which the others wait, and the other way round."""
        if self._first:
            self._connection.send(("alive", phase))

    def step(self, done: int, steps: int, loss: Tensor) -> None:
        """Tell of a training step, with the loss of one within the last second: reading a loss waits for the GPU."""
        if time.monotonic() - self._read > _READ_S:
            self._loss, self._read = loss.cpu(), time.monotonic()
        self._connection.send(("step", (done, steps, float(self._loss))))

    def stopping(self) -> bool:
        """Return whether the run is to stop; only the first process asks."""
        return self._connection.poll()


Entry = Callable[[Job, Link], Iterator[EpochResult]]  # what each process runs


def train_together(
    entry: Entry,
    job: Job,
    on_batch: OnBatch | None,
    stop: Callable[[], bool] | None,
    alive: Alive | None,
    silent: float = _SILENT_S,
) -> Generator[EpochResult]:
    """Run `entry` in the processes of a team; yield the epochs of the first one.

    Where memory is too small for a part of a batch, the team starts again with half of it, from the last state that it
    wrote.

    Parameters
    ----------
    entry: a function of a module.
    job: what the processes are told; the team sets `rank` and `work`.
    on_batch, stop, alive: see `train`.
    silent: seconds without a sign of life after which the team is ended, if there is no `alive` to watch it.

    Raises ProcessError when a process dies or hangs, and whatever ended one of the processes.
    """
    found = _written(job.folder)  # a new run does not go on from it
    while True:
        try:
            with workplace(Path(tempfile.gettempdir(), "segtune-team")) as work:
                job = replace(job, work=work.absolute())
                with _Team(entry, job, on_batch, stop, alive, None if alive else silent) as team:
                    yield from team.epochs()
            return
        except ShortMemoryError as error:
            if error.micro_batch <= job.size:  # a tile for each process
                raise memory_error(error.reason) from None
            go_on = job.go_on or _written(job.folder) != found
            job = replace(job, micro_batch=(error.micro_batch + 1) // 2, go_on=go_on)


def _written(folder: RunFolder) -> int | None:
    """Return when the state in a folder was written, in nanoseconds; None if there is none."""
    return folder.state.stat().st_mtime_ns if folder.state.is_file() else None


class _Team:
    """The processes of a run; none of them is left when the `with` block ends."""

    def __init__(
        self,
        entry: Entry,
        job: Job,
        on_batch: OnBatch | None,
        stop: Callable[[], bool] | None,
        alive: Alive | None,
        silent: float | None,
    ) -> None:
        self._job, self._on_batch, self._stop, self._alive, self._silent = job, on_batch, stop, alive, silent
        self._phase, self._stopping = "start", False
        self._ended: set[int] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._links: list[Connection[Any, Any]] = []
        for _ in range(job.size):
            own, other = Pipe()
            command = [sys.executable, "-c", _START, str(other.fileno()), *sys.path]
            # Each one holds the end of its input: at the end of this process, it reads that and ends.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=[other.fileno()], env=_QUIET | os.environ
            )
            other.close()
            self._processes.append(process)
            self._links.append(own)
        # A large job waits in the connection until the process reads it: all of them import their libraries meanwhile.
        for rank, link in enumerate(self._links):
            with suppress(ConnectionError):  # one that has died is noticed in `epochs`
                link.send((entry, replace(job, rank=rank)))

    def __enter__(self) -> _Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process, link in zip(self._processes, self._links, strict=True):
            assert process.stdin
            process.wait()
            process.stdin.close()
            link.close()

    def epochs(self) -> Generator[EpochResult]:
        """Yield the epochs; closing the generator lets the processes close their files."""
        while (result := self._next_epoch()) is not None:
            try:
                yield result
            except GeneratorExit:
                self._tell(_CLOSE)
                self._closed()
                raise
            self._tell(_GO_ON)
        if not self._stopping:  # else the others wait for the first one
            self._closed()

    def _next_epoch(self) -> EpochResult | None:
        """Follow the processes until an epoch is done; None when the first one has closed its files."""
        heard = running_seconds()
        while True:
            for rank, kind, content in self._messages():
                heard = running_seconds()
                if kind == "epoch":
                    return cast(EpochResult, content)
                if kind == "end":
                    self._ended.add(rank)
                    if rank == 0:
                        return None
                self._note(kind, content)
            limit = _SILENT_S if self._phase == "start" else self._silent  # imports take long on a busy machine
            if self._silent is not None and limit is not None and running_seconds() - heard > limit:
                raise ProcessError(
                    f"no sign of life for {limit:.0f} s in {self._phase}: one of the {self._job.size} processes of the "
                    f"run hangs"
                )
            if self._stop and not self._stopping and self._stop():
                self._stopping = True
                self._links[0].send(_STOP)

    def _messages(self) -> Iterator[tuple[int, str, Any]]:
        """Yield what the processes say within a moment: rank, kind and content; raise what ended one of them."""
        for link in wait(self._links, _LOOK_S):
            rank = self._links.index(link)  # type: ignore[arg-type]
            try:
                kind, content = self._links[rank].recv()
            except (EOFError, ConnectionError):
                self._raise_death(_AFTER_A_DEATH_S)
                continue  # it is still ending
            if kind == "error":
                self._raise(rank, *content)
            yield rank, kind, content
        self._raise_death()

    def _note(self, kind: str, content: Any) -> None:
        if kind == "alive":
            self._phase = content
            if self._alive:
                self._alive(content)
        elif kind == "step" and self._on_batch:
            done, steps, loss = content
            self._on_batch(done, steps, torch.tensor(loss))

    def _raise(self, rank: int, error: Exception, trace: str) -> None:
        """Raise the error of a process; where another one died, it is only a consequence of that."""
        if not isinstance(error, SegtuneError | ShortMemoryError | OSError):
            self._raise_death(_AFTER_A_DEATH_S)
        error.add_note(f"in process {rank + 1} of {self._job.size}:\n{trace}")
        raise error

    def _raise_death(self, seconds: float = 0.0) -> None:
        """Raise ProcessError if a process has died, or dies within so many seconds."""
        limit = time.monotonic() + seconds
        while True:
            for rank, process in enumerate(self._processes):
                status = process.poll()
                if status is not None:
                    reason = f"signal {-status}, such as for lack of memory" if status < 0 else f"status {status}"
                    name = f"process {rank + 1} of the {self._job.size} that train this run together"
                    raise ProcessError(f"{name} died ({reason})")
            if time.monotonic() >= limit:
                return
            time.sleep(0.05)

    def _tell(self, what: str) -> None:
        for link in self._links:
            link.send(what)

    def _closed(self) -> None:
        """Wait until all processes have closed their files, but not long."""
        limit = time.monotonic() + _CLOSING_S
        open_links = set(range(len(self._links))) - self._ended
        while open_links and time.monotonic() < limit:
            for link in wait([self._links[rank] for rank in open_links], _LOOK_S):
                rank = self._links.index(link)  # type: ignore[arg-type]
                try:
                    kind, content = self._links[rank].recv()
                except (EOFError, ConnectionError):
                    kind, content = "end", None
                if kind == "error":
                    self._raise(rank, *content)
                if kind == "end":
                    open_links.discard(rank)
                self._note(kind, content)


def member(descriptor: int) -> None:
    """Be a process of a team, at the other end of a connection; the program of each of its processes."""
    connection: Connection[Any, Any] = Connection(descriptor)
    # Ctrl-C and SIGTERM of a batch system reach all processes; the one that started this one decides.
    for number in (signal.SIGINT, signal.SIGTERM, HANGUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), name="end", daemon=True).start()
    cv2.setNumThreads(0)  # else OpenCV would use all cores of the machine in each process
    try:
        entry, job = connection.recv()
        with closing(entry(job, Link(connection, job.rank == 0))) as epochs:
            for result in epochs:
                if job.rank == 0:
                    connection.send(("epoch", result))
                if connection.recv() == _CLOSE:
                    break
        connection.send(("end", None))
    except Exception as error:
        connection.send(("error", (_sendable(error), traceback.format_exc())))
    threading.Event().wait()  # for the end: whoever waits for this process must not take it for dead


def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended, even while a library waits for another process."""
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0] and not os.read(0, 1):
            break
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error's own methods raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
