"""Processes that train, and die at a chosen moment.

They come from a fork server, which imports torch once and never computes: forking this process, where torch may have
threads, is not safe everywhere.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import re
import resource
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml

from segtune.config import RunConfig
from tests.training.runs import run

SCRIPT = Path(__file__).parent.parent.parent / "run_single.py"
# The marks of tests that start such processes.
FORKED = [
    pytest.mark.usefixtures("fork_server"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@dataclass(frozen=True)
class Blow:
    """A signal that a process gets at one moment of its work."""

    when: str  # before or after (a file takes its place), half (of it is written), step (of training), batch (of any)
    name: str = ""  # of the file
    count: int = 1  # the how manieth time
    number: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        return "-".join(filter(None, (self.when, self.name.replace("/", "-"), str(self.count))))

    def falls(self) -> None:
        os.kill(os.getpid(), self.number)

    def arrange(self) -> None:
        """In the process that is to be hit."""
        calls = 0

        def hit(path: Any) -> bool:
            nonlocal calls
            parts = [re.sub(r"^\.(.*)\.tmp-\d+-[0-9a-f]{8}$", r"\1", part) for part in Path(path).parts]
            if "/".join(parts).endswith(f"/{self.name}"):
                calls += 1
                return calls == self.count
            return False

        replace, save, write_text = os.replace, torch.save, Path.write_text

        def replacing(source: Any, place: Any) -> None:
            strikes = hit(place)
            if strikes and self.when == "before":
                self.falls()
            replace(source, place)
            if strikes and self.when == "after":
                self.falls()

        def saving(state: Any, path: Any) -> None:
            if hit(path):
                data = io.BytesIO()
                save(state, data)
                Path(path).write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
                self.falls()
            save(state, path)

        def writing(path: Path, text: str, **others: Any) -> int:
            if hit(path):
                write_text(path, text[: len(text) // 2], **others)
                self.falls()
            return write_text(path, text, **others)

        if self.when in ("before", "after"):
            mock.patch("os.replace", replacing).start()
        elif self.when == "half":
            mock.patch("torch.save", saving).start()
            mock.patch("pathlib.Path.write_text", writing).start()

    def hooks(self) -> dict[str, Any]:
        """What train() calls, for a blow that falls after a batch."""
        calls = 0

        def count(*_: Any) -> bool:
            nonlocal calls
            calls += 1
            if calls == self.count:
                self.falls()
            return False

        return {"step": {"on_batch": count}, "batch": {"stop": count}}.get(self.when, {})


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["pytest", "rasterio", "segtune.training.train", "segtune.data.scan", "segtune.report.console"]
)


def begin(job: Callable[..., None], *arguments: Any, said: Path) -> ForkServerProcess:
    """Start a job in a process of its own; what it says goes to files, `said`.out and `said`.err."""
    process = PROCESSES.Process(target=_begun, args=(job, arguments, said))
    process.start()
    return process


def _begun(job: Callable[..., None], arguments: tuple[Any, ...], said: Path) -> None:
    for number, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(said.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of its loader processes, as in a process that was typed
    gc.freeze()
    job(*arguments)


def ended(process: ForkServerProcess) -> int | None:
    """The exit status; negative for a signal."""
    process.join(120)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def training(config: RunConfig, folder: Path, blow: Blow, save_every: float = 600.0) -> None:
    """A job: train, and be hit."""
    blow.arrange()
    with mock.patch("segtune.training.run._SAVE_EVERY_S", save_every):
        run(config, folder, go_on=True, **blow.hooks())


def killed(config: RunConfig, folder: Path, blow: Blow, save_every: float = 600.0) -> None:
    """Train until the blow falls."""
    process = begin(training, config, folder, blow, save_every, said=folder.with_name("said"))
    assert ended(process) == -signal.SIGKILL, folder.with_name("said.err").read_text(encoding="utf-8")


def scripting(arguments: Sequence[object], where: Path, limit: int | None = None, blow: Blow | None = None) -> None:
    """A job: run_single.py with these arguments, in this folder; no file may grow beyond the limit."""
    os.chdir(where)
    sys.argv = [str(SCRIPT), *map(str, arguments)]
    if blow:
        blow.arrange()
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    runpy.run_path(str(SCRIPT), run_name="__main__")


@dataclass(frozen=True)
class Said:
    """How a script ended."""

    status: int | None
    out: list[str]
    err: list[str]


def script(*arguments: object, where: Path, limit: int | None = None, blow: Blow | None = None) -> Said:
    """run_single.py in a process of its own."""
    said = where / "said"
    status = ended(begin(scripting, arguments, where, limit, blow, said=said))
    out, err = (said.with_suffix(suffix).read_text(encoding="utf-8").splitlines() for suffix in (".out", ".err"))
    return Said(status, out, err)


def line(config: RunConfig, where: Path) -> list[str]:
    """What is typed for this run, named run."""
    path = where / "settings.yaml"
    path.write_text(yaml.safe_dump(config.settings()), encoding="utf-8")
    return ["--config", str(path), "--log-dir", str(where), "--exp-name", "run"]


def lives(pid: int) -> bool:
    """A process whose first thread has ended keeps its files, and their locks, until its last one has."""
    place = Path(f"/proc/{pid}")
    try:
        state = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state != "Z" or len(list((place / "task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):  # the second one: it ended between opening and reading
        return False
