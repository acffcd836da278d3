"""Locks: what lies in their place and is none of ours stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.locks import locked_file


@pytest.mark.parametrize("place", ["link", "pipe", "text"])
def test_a_lock_that_is_none_of_ours_is_left_as_it_is(tmp_path: Path, place: str) -> None:
    run, theirs = RunFolder(tmp_path / "run"), tmp_path / "mine.txt"
    theirs.write_text("precious", encoding="utf-8")
    run.path.mkdir()
    lock = run.path / ".lock"
    if place == "link":
        lock.symlink_to(theirs)
    elif place == "pipe":
        os.mkfifo(lock)
    else:
        os.link(theirs, lock)
    with pytest.raises(InputError, match=r"run/\.lock: is "), run.locked():
        pass
    if place != "text":
        with pytest.raises(InputError, match=r"run/\.lock: is "):
            run.held()
    assert theirs.read_text(encoding="utf-8") == "precious"


def test_a_study_that_is_a_link_is_refused(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    folder.study_db.symlink_to(tmp_path / "other.db")
    with pytest.raises(InputError, match=r"study\.db: is a link"), folder.locked():
        pass


def test_who_waits_for_a_lock_shows_that_it_lives(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX);"
         "print(flush=True); sys.stdin.read()", str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin
    assert holder.stdout
    holder.stdout.readline()
    signs: list[float] = []

    def busy() -> None:
        signs.append(time.monotonic())
        if len(signs) == 3:
            holder.kill()
            holder.wait()

    with locked_file(tmp_path / "lock", busy):
        assert len(signs) == 3


def test_who_holds_a_folder_can_ask_for_the_holder_and_keeps_it(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    ask = "import pathlib, sys; from segtune.files import locks; print(locks.holder(pathlib.Path(sys.argv[1])))"
    with folder.locked():
        own = folder.holder()
        assert own
        assert own.startswith(f"process {os.getpid()} on ")
        other = subprocess.run([sys.executable, "-c", ask, str(tmp_path)], capture_output=True, text=True, check=True)
        assert other.stdout == f"{own}\n"
    assert folder.holder() is None
