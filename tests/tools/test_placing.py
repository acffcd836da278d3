"""Files that tools put into folders, and those of earlier ones that they delete."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.tools import placing
from segtune.tools.placing import joined_tree

# What GDAL looks at beside a.tif, in spellings that it knows, too.
OF_A = ("a.tif.aux.xml", "a.tif.msk", "a.tfw", "a.tifw", "a.TFW", "a.wld", "a.tab", "a.RPB", "a_RPC.TXT")


def put(final: Path, *names: str, replaced: tuple[Path, ...] = ()) -> None:
    with joined_tree(final, replaced) as tree:
        for name in names:
            (tree / name).write_text("new")


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hold(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("before")


@pytest.mark.parametrize("image", [("a.tif",), ()])
def test_facts_on_earlier_pixels_are_deleted(image: tuple[str, ...], tmp_path: Path) -> None:
    hold(tmp_path / "set", *OF_A, *image)  # also where the image itself is gone
    put(tmp_path / "set", "a.tif")
    assert there(tmp_path / "set") == ["a.tif"]


def test_files_that_gdal_does_not_look_at_stay(tmp_path: Path) -> None:
    mine = ("a.raw", "a.arw", "a.view", "a.txt", "a.json", "names.tab", "notes.txt", "split.tab")
    hold(tmp_path / "set", "a.tif", "names.txt", "split.json", *mine)
    gone = tmp_path / "set" / "split.json"
    put(tmp_path / "set", "a.tif", "names.txt", replaced=(gone,))
    assert there(tmp_path / "set") == sorted(["a.tif", "names.txt", *mine])


def test_facts_on_another_image_of_the_name_stay(tmp_path: Path) -> None:
    hold(tmp_path / "set", "a.tif", "a.png", "a.wld", "a.tfw", "a.pgw", "a.tif.aux.xml", "a.png.aux.xml")
    put(tmp_path / "set", "a.tif")
    assert there(tmp_path / "set") == ["a.pgw", "a.png", "a.png.aux.xml", "a.tif", "a.wld"]


def test_facts_that_come_along_stay(tmp_path: Path) -> None:
    hold(tmp_path / "set", "a.tif", "a.tfw", "a.tif.aux.xml")
    put(tmp_path / "set", "a.tif", "a.tfw")
    assert there(tmp_path / "set") == ["a.tfw", "a.tif"]
    assert (tmp_path / "set" / "a.tfw").read_text() == "new"


def test_no_new_pixels_have_earlier_facts_when_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(tmp_path / "set", "a.tif", "a.tif.aux.xml")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(placing.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "set", "a.tif")
    assert there(tmp_path / "set") == ["a.tif"]
    assert (tmp_path / "set" / "a.tif").read_text() == "before"
