"""A search writes its page by itself: while it runs, when it ends, and without any harm where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segtune.cli.reporting import PageWhileRunning
from segtune.cli.searching import SearchDisplay
from segtune.files.folders import SearchFolder
from segtune.planning.feasibility import scan_data
from segtune.report import written
from segtune.report.terminal import make_console
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.trials import Trial
from segtune.tuning.search import run_search
from tests.report.reports import parsed
from tests.scripts import Ended, call
from tests.tuning.searches import RUN

SPACE = (
    RUN.replace("workers: 0", "workers: 0, threads: 1").replace("epochs: 3", "epochs: 2")
    + "space: {lr: [1e-9, 5e-3]}\nsearch: {sampler: grid, scheduler: none, trials: 2, gpus_per_trial: 0}\n"
)
PICTURE = "data:image/webp"
HOLDER = """
import sys
from pathlib import Path
from segtune.files.locks import holder
print(holder(Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def space(tiles: Path) -> Path:
    path = tiles.parent / "s.yaml"
    path.write_text(f"dataset: {tiles}\n{SPACE}")
    return path


def searched(space: Path, results: Path, *flags: object) -> Ended:
    return call("run_search", "--space", space, "--results-dir", results, "--in-process", *flags)


@pytest.fixture(scope="module")
def finished(space: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchFolder, Ended]:
    results = tmp_path_factory.mktemp("results")
    return SearchFolder(results / "s"), searched(space, results)


def page_of(folder: SearchFolder) -> str:
    return folder.report_html.read_text(encoding="utf-8")


def test_a_search_ends_with_its_page_and_says_where(finished: tuple[SearchFolder, Ended]) -> None:
    folder, ended = finished
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines.index(f"the page of the search: {folder.report_html}") + 1 == lines.index(
        f"everything is in {folder.path}; next:"
    )
    html = page_of(folder)
    assert PICTURE in html
    assert "Winner: " in parsed(html).text
    index = parsed((folder.path.parent / "index.html").read_text(encoding="utf-8"))
    assert [link["href"] for link in index.all("a")] == ["s/report.html"]


def test_an_interrupted_search_has_a_page_and_a_new_one_after_the_rest(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: SearchDisplay, number: int, result: EpochResult) -> None:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)

    folder = SearchFolder(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(SearchDisplay, "epoch", interrupt)
        ended = searched(space, tmp_path)
    assert ended.status == 128 + signal.SIGINT
    said = ended.out.splitlines()[-2:]
    assert said[0] == f"the page of the search: {folder.report_html}"
    assert said[1].startswith("interrupted; to go on: ")
    html = page_of(folder)
    assert PICTURE not in html
    assert "not finished at" in parsed(html).text
    ended = searched(space, tmp_path, "--resume")
    assert (ended.status, ended.err) == (0, "")
    html = page_of(folder)
    assert PICTURE in html
    assert "not finished" not in parsed(html).text


@pytest.mark.parametrize("why", ["a folder is in its place", "the program has a mistake"])
def test_a_page_that_cannot_be_written_is_one_line(
    why: str, finished: tuple[SearchFolder, Ended], space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(report: object) -> str:
        raise KeyError("nowhere")

    folder, whole = finished
    place = folder.report_html
    table = folder.trials_csv.read_bytes()
    if why == "the program has a mistake":
        monkeypatch.setattr(written, "page", mistaken)
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    ended = searched(space, folder.path.parent, "--resume")
    if place.is_dir():
        place.rmdir()
    assert (ended.status, ended.err) == (0, "")
    (line,) = (line for line in ended.out.splitlines() if "report.html" in line)
    assert line.startswith(f"{place} is missing or incomplete: ")
    assert "KeyError: 'nowhere'" in line or "directory" in line
    assert line.endswith(f" --report {folder.path.name} --results-dir {folder.path.parent}")
    assert ended.out.splitlines()[-3:] == whole.out.splitlines()[-3:]
    assert folder.trials_csv.read_bytes() == table


def test_who_ends_the_drawing_of_tiles_has_the_page_without_them(
    finished: tuple[SearchFolder, Ended], space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: SearchFolder, on_done: object = None) -> None:
        raise KeyboardInterrupt

    folder, _ = finished
    folder.report_html.unlink(missing_ok=True)
    monkeypatch.setattr("segtune.report.gather.look_at_winner", interrupted)
    ended = searched(space, folder.path.parent, "--resume")
    assert ended.status == 128 + signal.SIGINT
    assert "winner: " in ended.out
    html = page_of(folder)
    assert "Winner: " in html
    assert PICTURE not in html


def test_a_dry_run_refuses_a_teacher_that_is_none(space: Path, tmp_path: Path) -> None:
    ended = searched(space, tmp_path / "r", "--dry-run", "--warm-start", str(tmp_path / "nowhere"))
    assert ended.status == 2
    assert f"error: --warm-start {tmp_path / 'nowhere'}: no search has started here" in ended.err


def test_a_dry_run_writes_no_page(space: Path, tmp_path: Path) -> None:
    ended = searched(space, tmp_path / "r", "--dry-run")
    assert (ended.status, ended.err) == (0, "")
    assert not (tmp_path / "r").exists()


class Watched(SearchDisplay):
    """A display that reads the page after each trial, and asks another process who runs the search."""

    def __init__(self, space: Space, folder: SearchFolder) -> None:
        super().__init__(make_console(), space, folder)
        self.folder = folder
        self.pages: list[str] = []
        self.holders: list[str] = []

    def ended(self, trial: Trial) -> None:
        super().ended(trial)
        self.pages.append(page_of(self.folder))
        command = [sys.executable, "-c", HOLDER, str(self.folder.path)]
        self.holders.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_search_that_runs_has_a_page_and_stays_locked(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtune.cli.reporting._EVERY_S", 0.0)
    monkeypatch.setattr("segtune.cli.reporting._SHARE", 1e9)
    found, folder = load_space(space), SearchFolder(tmp_path / "s")
    listener = Watched(found, folder)
    run_search(found, scan_data(found), folder, listener, in_process=True)
    assert len(listener.pages) == 2
    for ended, html in enumerate(listener.pages, start=1):
        text = parsed(html).text
        assert "running at" in text
        assert f"{ended} of 2" in text
        assert PICTURE not in html
    assert all(said.startswith(f"process {os.getpid()} on ") for said in listener.holders)


def test_a_page_is_written_seldom_and_fails_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, wrote = [0.0], []
    failing = [False]

    def write(folder: SearchFolder, with_examples: bool) -> None:
        assert not with_examples
        wrote.append(now[0])
        now[0] += 3
        if failing[0]:
            raise ZeroDivisionError

    monkeypatch.setattr(written, "write_report", write)
    page = PageWhileRunning(SearchFolder(tmp_path), lambda: now[0])

    def trials_end(until: int) -> list[float]:
        wrote.clear()
        for second in range(int(now[0]), until):
            now[0] = max(now[0], float(second))
            page.trial_ended()
        return list(wrote)

    assert trials_end(400) == [60, 363]  # three seconds of work, and 300 without
    failing[0] = True
    assert trials_end(1000) == [666, 969]
