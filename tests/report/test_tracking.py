"""A tracker is kept up to date while the work goes on, and never holds it up: it may refuse, or hang."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segtune.cli.tracking import send, tracked
from segtune.errors import SegtuneError
from segtune.files.folders import SearchFolder
from segtune.report import tracking
from segtune.report.tracked import Tracked
from segtune.report.tracking import OVER, Sender, watch
from tests.report.tracking import REAL_ONLY, Store, epochs_of, search_in, trial

LATER = "python run_search.py --log s"
TRIALS = [trial(0, "running", 1)]


class Tracker:
    """A tracker in memory; `answer` is called before each run that it gets."""

    where = "here"

    def __init__(self, answer: Callable[[], None] = lambda: None) -> None:
        self.answer, self.runs = answer, dict[str, Tracked]()

    def digest(self, name: str) -> str | None:
        return self.runs[name].digest if name in self.runs else None

    def send(self, run: Tracked) -> None:
        self.answer()
        self.runs[run.name] = run


class Watched:
    """A sender that is watched in a thread, as the process does it; `end` is the end of the work."""

    def __init__(self, folder: Path) -> None:
        self.out = io.StringIO()
        self.sender = Sender("mlflow", folder, self.out)
        told, self._tell = os.pipe()
        self._thread = threading.Thread(target=watch, args=(self.sender, told, False), daemon=True)
        self._thread.start()

    def end(self, over: bool = True) -> None:
        if over:
            os.write(self._tell, OVER)
        os.close(self._tell)
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    return search_in(tmp_path / "s", TRIALS)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """A tracker that is opened at once, and a process that does everything soon."""
    found = Tracker()
    monkeypatch.setattr(tracking, "open_tracker", lambda name, folder: found)
    for name in ("_EVERY_S", "_LOOK_S"):
        monkeypatch.setattr(tracking, name, 0.02)
    return found


def test_epochs_arrive_while_the_work_goes_on(tracker: Tracker, folder: SearchFolder) -> None:
    watched = Watched(folder.path)
    until(lambda: len(tracker.runs) == 2)
    assert tracker.runs["s"].state == tracker.runs["trial_0000"].state == "running"
    epochs_of(folder.trial(0), 3)
    until(lambda: len(tracker.runs["trial_0000"].rows) == 3)
    search_in(folder.path, [trial(0, "finished", 4)])
    watched.end()
    assert (tracker.runs["s"].state, len(tracker.runs["trial_0000"].rows)) == ("finished", 4)
    assert watched.sender.left() == []
    assert watched.lines == ["logging to mlflow: here"]


def test_work_that_was_killed_is_not_running_any_more(tracker: Tracker, folder: SearchFolder) -> None:
    watched = Watched(folder.path)
    until(lambda: len(tracker.runs) == 2)
    watched.end(over=False)
    assert {run.state for run in tracker.runs.values()} == {"waiting"}


def test_a_folder_that_does_not_exist_yet_is_waited_for(tracker: Tracker, tmp_path: Path) -> None:
    watched = Watched(tmp_path / "s")
    time.sleep(0.1)
    assert not (tmp_path / "s").exists()
    search_in(tmp_path / "s", TRIALS)
    until(lambda: len(tracker.runs) == 2)
    watched.end()


def test_a_tracker_that_comes_back_gets_everything_after_one_warning(tracker: Tracker, folder: SearchFolder) -> None:
    def refuse() -> None:
        raise ConnectionError("no route")

    tracker.answer = refuse
    watched = Watched(folder.path)
    until(lambda: len(watched.lines) > 1)
    time.sleep(0.2)  # several attempts
    warning = "mlflow: ConnectionError: no route; the work goes on, and what is missing is sent later"
    assert watched.lines == ["logging to mlflow: here", warning]
    tracker.answer = lambda: None
    until(lambda: len(tracker.runs) == 2)
    watched.end()
    assert watched.sender.left() == []
    assert watched.lines[2:] == []


def test_a_tracker_that_hangs_is_left_alone_soon_after_the_end(
    tracker: Tracker, folder: SearchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_SILENT_S", 0.1)
    monkeypatch.setattr(tracking, "_WAIT_S", 0.3)
    hung = threading.Event()
    tracker.answer = lambda: hung.wait(60) and None
    watched = Watched(folder.path)
    until(lambda: len(watched.lines) > 1)
    assert "mlflow: does not answer; the work goes on" in watched.lines[1]
    watched.end()
    assert watched.sender.left() == ["s", "trial_0000"]
    hung.set()


@pytest.mark.parametrize("address", ["refuses", pytest.param("hangs", marks=pytest.mark.slow)])
def test_what_is_missing_is_said_with_the_command_that_sends_it(
    address: str, folder: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Store(tmp_path, monkeypatch, real=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    lines: list[str] = []
    began = time.monotonic()
    with tracked("mlflow", folder.path, LATER, lines.append) as over:
        inside = time.monotonic() - began
        over()
    assert inside < 5  # a process was started, and not waited for
    assert lines[-1].startswith("not logged to mlflow")
    assert lines[-1].endswith(f"2 runs of s: s, trial_0000; to send what is missing: {LATER}")
    assert fake.runs() == {}


@pytest.mark.slow
@REAL_ONLY
@pytest.mark.parametrize("answers", [True, False], ids=["refuses", "hangs"])
def test_mlflow_itself_is_left_alone_at_a_server_that(
    answers: bool, folder: SearchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        if answers:
            server.close()
        began = time.monotonic()
        with tracked("mlflow", folder.path, LATER, lines.append) as over:
            assert time.monotonic() - began < 5  # a process was started, and not waited for
            over()
    assert time.monotonic() - began < 40
    assert lines[-1].startswith("not logged to mlflow")
    assert lines[-1].endswith(f"2 runs of s: s, trial_0000; to send what is missing: {LATER}")


def test_a_process_that_died_is_said(folder: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path, monkeypatch, real=False)
    monkeypatch.setenv("FAKE_DIES_AFTER", "0")
    lines: list[str] = []
    with tracked("mlflow", folder.path, LATER, lines.append) as over:
        over()
    line = f"not everything was logged to mlflow; to send what is missing: {LATER}"
    assert lines[-1:] == [line]
    with pytest.raises(SegtuneError) as error:
        send("mlflow", folder.path, True, LATER, print)
    assert str(error.value) == line


def test_a_folder_that_cannot_be_read_is_said_with_the_command(
    folder: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(tmp_path, monkeypatch, real=False)
    folder.search_yaml.write_text("search: [\n")
    lines: list[str] = []
    with tracked("mlflow", folder.path, LATER, lines.append) as over:
        over()
    assert lines[-1].startswith("not logged to mlflow (InputError: ")
    assert lines[-1].endswith(f": s; to send what is missing: {LATER}")
    with pytest.raises(SegtuneError) as error:
        send("mlflow", folder.path, True, LATER, print)
    assert str(error.value) == lines[-1]


def test_a_process_that_cannot_be_started_ends_no_search(folder: SearchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **others: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    lines: list[str] = []
    with tracked("mlflow", folder.path, LATER, lines.append) as over:
        over()
    assert lines == [f"not logged to mlflow (OSError: no memory); to send what is missing: {LATER}"]
    with pytest.raises(SegtuneError, match="no memory"):
        send("mlflow", folder.path, True, LATER, print)


def test_an_error_of_the_work_passes_and_what_it_left_is_sent(
    folder: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Store(tmp_path, monkeypatch, real=False)
    with pytest.raises(KeyError), tracked("mlflow", folder.path, LATER, print):
        raise KeyError
    assert fake.runs()["s"].status == "SCHEDULED"


def test_without_a_tracker_nothing_is_started(folder: SearchFolder) -> None:
    with tracked("none", folder.path, LATER, print) as over:
        over()
    assert not (folder.path / ".tracker.json").exists()
