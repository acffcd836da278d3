"""Files and folders on disk: replaced completely or not at all, repaired after a kill."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from segtune.files.atomic import discard_folder, recover_folder, replaced_folder, write_text
from segtune.files.folders import RunFolder


def filled(folder: Path, text: str) -> Path:
    with replaced_folder(folder) as temporary:
        (temporary / "run.yaml").write_text(text, encoding="utf-8")
        (temporary / "model.safetensors").write_text(text, encoding="utf-8")
    return folder


def content(folder: Path) -> str:
    assert {path.name for path in folder.iterdir()} == {"run.yaml", "model.safetensors"}
    (text,) = {path.read_text(encoding="utf-8") for path in folder.iterdir()}
    return text


def test_a_folder_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = filled(tmp_path / "best", "old")
    assert content(filled(folder, "new")) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_the_old_folder_whole(tmp_path: Path, error: type[BaseException]) -> None:
    folder = filled(tmp_path / "best", "old")

    def fail() -> None:
        with replaced_folder(folder) as temporary:
            (temporary / "run.yaml").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert content(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def killed_between_the_renames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace a folder and die after the first of the two renames."""
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("segtune.files.atomic.os.replace", replace)
        with pytest.raises(KeyboardInterrupt):
            filled(folder, "new")
    assert not folder.exists()


def test_a_kill_between_the_two_renames_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "best", "old")
    killed_between_the_renames(folder, monkeypatch)
    recover_folder(folder)
    assert content(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_after_such_a_kill_the_folder_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "best", "old")
    killed_between_the_renames(folder, monkeypatch)
    assert content(filled(folder, "newer")) == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_kill_before_the_old_one_is_removed_keeps_the_new_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    filled(run.best, "new")
    filled(tmp_path / ".best.old-4711-0123abcd", "old")
    with run.locked():
        assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["best"]
    assert content(run.best) == "new"


def test_what_earlier_releases_left_aside_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    filled(tmp_path / ".best.old", "old")
    recover_folder(folder)
    assert content(folder) == "old"


@pytest.mark.parametrize("way", ["replaced", "discarded"])
def test_what_somebody_put_beside_a_model_is_set_aside(tmp_path: Path, way: str) -> None:
    folder = filled(tmp_path / "best", "old")
    (folder / "validation").mkdir()
    (folder / "validation" / "mine.txt").write_text("precious", encoding="utf-8")
    if way == "replaced":
        filled(folder, "new")
        assert content(folder) == "new"
    else:
        discard_folder(folder)
        assert not folder.exists()
    assert (tmp_path / "best_set_aside_1" / "validation" / "mine.txt").read_text(encoding="utf-8") == "precious"
    assert not list((tmp_path / "best_set_aside_1").glob("*.*"))


def test_what_looks_like_a_folder_left_aside_but_is_somebodys_stays(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".best.old", ".notes.tmp-1", ".best.tmp-1", ".git.old", ".best.tmp-backup")]
    for place in theirs:
        place.mkdir()
        (place / "mine.txt").write_text("precious", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".best.tmp-1-0123abcd").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".table.tmp-1").write_text("precious", encoding="utf-8")
    with RunFolder(tmp_path).locked():
        filled(tmp_path / "best", "old")
        filled(tmp_path / "best", "new")
        recover_folder(tmp_path / "best")
    assert all((place / "mine.txt").is_file() for place in theirs)
    assert (tmp_path / "elsewhere").is_dir()
    assert (tmp_path / ".table.tmp-1").is_file()


def test_what_a_killed_process_left_in_a_run_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in (".best.tmp-4711", ".best.next.tmp-4711-0123abcd", ".best.gone-4711-0123abcd"):  # an earlier release's
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    for name in (".state.pt.tmp-4711", ".metrics.csv.tmp-4711-0123abcd"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path).locked():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_file_whose_name_is_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ж" * 127)
    write_text(path, "text")
    assert path.read_text(encoding="utf-8") == "text"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_recovering_where_nothing_happened_does_nothing(tmp_path: Path) -> None:
    recover_folder(tmp_path / "best")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_get_the_users_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "text", "")
        with RunFolder(tmp_path).locked():
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("text", ".lock"), 0o666 & ~umask)


def test_links_in_the_place_of_files_are_replaced_and_not_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "mine.txt"
    theirs.write_text("precious", encoding="utf-8")
    table = tmp_path / "metrics.csv"
    for place in (table, tmp_path / f".{table.name}.tmp-{os.getpid()}"):
        place.symlink_to(theirs)
    write_text(table, "epoch")
    assert theirs.read_text(encoding="utf-8") == "precious"
    assert table.read_text(encoding="utf-8") == "epoch"
