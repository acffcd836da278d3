"""A run on a full disk keeps what it had. No file may grow beyond a limit here."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.config import RunConfig
from segtune.files.folders import RunFolder
from segtune.training.runlog import RunLog
from segtune.training.state import load_state
from tests.training.processes import FORKED, begin, ended, script
from tests.training.runs import (
    SLOW,
    Whole,
    best_epoch,
    left,
    nothing_else,
    other,
    rows,
    run,
    steps_of,
)

pytestmark = FORKED


def size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("state.pt", 0.9),
        pytest.param("state.pt", 0.99, marks=SLOW),
        ("best.next/model.safetensors", 0.9),
        ("run.yaml", 0.5),
    ],
)
def test_on_a_full_disk_a_run_keeps_what_it_had_and_can_go_on(
    config: RunConfig, begun: Path, whole: Whole, name: str, share: float
) -> None:
    where, typed = begun.parent, ["--exp-name", "run", "--log-dir", begun.parent]
    said = script(*typed, where=where, limit=int(size(whole.folder, name.replace(".next", "")) * share))
    assert said.status == 1
    mistake, hint = said.err
    assert mistake.startswith(f"error: {begun / Path(name).parts[0]}: ")
    assert hint.startswith("to go on: ")
    assert hint.endswith(f"run_single.py --exp-name run --log-dir {where}")
    assert nothing_else(begun)
    assert load_state(begun / "state.pt")["progress"]["epoch"] == 1
    assert best_epoch(begun) == 1
    done = script(*typed, where=where)
    assert (done.status, done.err) == (0, [])
    assert left(begun) == whole.left
    assert nothing_else(begun)


def failing(config: RunConfig, folder: Path, limit: int) -> None:
    """A job: train where no file may become larger than the limit, and say which file could not be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        run(config, folder, go_on=True, stop=lambda: True)
    except OSError as error:
        print(error.filename)


def test_on_a_full_disk_a_stopped_run_keeps_its_last_state(config: RunConfig, begun: Path, whole: Whole) -> None:
    said = begun.with_name("said")
    assert ended(begin(failing, config, begun, size(begun, "state.pt") // 2, said=said)) == 0
    assert said.with_suffix(".out").read_text(encoding="utf-8").split() == [str(begun / "state.pt")]
    assert steps_of(config, begun) == 6
    assert left(begun) == whole.left


def test_on_a_full_disk_the_first_file_that_failed_is_named(
    config: RunConfig, tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Any, place: Any) -> None:
        if Path(place).name in ("state.pt", "worst.png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
        replace(source, place)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OSError) as caught:
            run(other(config, worst=2), tmp_path)
    assert caught.value.filename == str(tmp_path / "state.pt")
    run(config, tmp_path, go_on=True)
    assert left(tmp_path) == whole.left


def logging(folder: Path, limit: int) -> None:
    """A job: a run's log where no file may become larger than the limit, until a file cannot be written."""
    log = RunLog(RunFolder(folder), RunConfig())
    log.write(1, {"epoch": 1, "loss": 1.0})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for epoch in range(2, 999):
        try:
            log.write(epoch, {"epoch": epoch, "loss": 1.0})
        except OSError as error:
            print(epoch, error.filename)
            return


def test_on_a_full_disk_events_are_whole_and_the_file_is_named(tmp_path: Path) -> None:
    folder, said = tmp_path / "run", tmp_path / "said"
    folder.mkdir()
    assert ended(begin(logging, folder, 9999, said=said)) == 0
    assert said.with_suffix(".err").read_text(encoding="utf-8") == ""
    epoch, name = said.with_suffix(".out").read_text(encoding="utf-8").split()
    (events,) = folder.glob("events.out.tfevents*")
    assert name == str(events)
    assert len(rows(folder)) == int(epoch) - 1 > 1
    RunLog(RunFolder(folder), RunConfig(), int(epoch), {"epoch": epoch, "loss": 2.0}).close(finished=True)
    losses = EventAccumulator(str(folder)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in losses][-2:] == [(int(epoch) - 1, 1.0), (int(epoch), 2.0)]
    assert len(losses) == int(epoch)
