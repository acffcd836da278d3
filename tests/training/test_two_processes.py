"""Two processes, one folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from segtune.config import RunConfig
from tests.training.processes import FORKED, begin, lives, script
from tests.training.runs import (
    EPOCHS,
    Whole,
    contents,
    left,
    other,
    refusal,
    run,
)

pytestmark = FORKED


def holding(config: RunConfig, folder: Path) -> None:
    """A job: train, stop the loader process, say its number, and go no further."""

    def hold(done: int, total: int, loss: float) -> None:
        loaders = [process.pid for process in multiprocessing.active_children()]
        for pid in loaders:
            os.kill(pid, signal.SIGSTOP)  # or it would end by itself a few seconds after its parent
        (folder / "held.json").write_text(json.dumps(loaders), encoding="utf-8")
        time.sleep(600)

    run(config, folder, go_on=True, on_batch=hold)


@pytest.fixture
def held(config: RunConfig, begun: Path) -> Iterator[tuple[ForkServerProcess, int]]:
    """A process that trains in the folder, and its loader process, which stands still."""
    loader = 0
    process = begin(holding, other(config, workers=1), begun, said=begun.with_name("said"))
    try:
        limit = time.monotonic() + 120
        note = begun / "held.json"
        while not (note.is_file() and note.read_text(encoding="utf-8")) and time.monotonic() < limit:
            time.sleep(0.02)
        (loader,) = json.loads(note.read_text(encoding="utf-8"))
        note.unlink()
        yield process, loader
    finally:
        process.kill()
        process.join()
        if loader:
            with suppress(ProcessLookupError):
                os.kill(loader, signal.SIGKILL)


def test_a_folder_belongs_to_one_process_until_that_dies(
    config: RunConfig, begun: Path, whole: Whole, held: tuple[ForkServerProcess, int]
) -> None:
    process, loader = held
    for epochs in (EPOCHS, EPOCHS + 1):
        mistake = refusal(other(config, epochs=epochs), begun)
        assert mistake.startswith(f"{begun}: another process trains in this folder")
        assert f"process {process.pid} on" in mistake
    before = contents(begun)
    said = script("--exp-name", "run", "--log-dir", begun.parent, where=begun.parent)
    assert (said.status, said.err) == (2, [f"error: {mistake}"])
    assert contents(begun) == before
    assert process.exitcode is None
    process.kill()
    process.join()
    run(config, begun, go_on=True)
    assert lives(loader)  # it was there all the time
    assert left(begun) == whole.left
