"""Locks: what lies in their place and is none of ours stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files.folders import RunFolder, SearchFolder


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
