"""The watchdog: what it writes when a trial gives no sign of life."""

from __future__ import annotations

from pathlib import Path

from segtune.files.folders import RunFolder
from segtune.tuning.watchdog import Watchdog


def test_a_link_in_the_place_of_the_stacks_is_replaced_and_not_followed(tmp_path: Path) -> None:
    theirs, run = tmp_path / "mine.txt", RunFolder(tmp_path / "run")
    theirs.write_text("precious", encoding="utf-8")
    run.path.mkdir()
    run.error.symlink_to(theirs)
    Watchdog(run, 1.0)._write_stacks("silent")
    assert theirs.read_text(encoding="utf-8") == "precious"
    assert run.fault() == "silent"
