"""DATASET/exclude.txt: tiles that training and validation leave out, told and part of the fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.exclusion import FILE, exclusion_text, read_exclusion
from segtune.data.pairs import find_tiles
from segtune.data.scan import scan
from segtune.data.tiles import Layout
from segtune.errors import InputError
from tests.conftest import WriteDataSet
from tests.data.empty import split_with, tiles, touch
from tests.scripts import call


def names(place: Path) -> list[str]:
    return [tile.name for tile in tiles(place)]


def excluding(root: Path, *lines: str) -> Path:
    (root / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return root


def test_listed_tiles_are_left_out_of_their_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        split_with(tmp_path / split, "a.png", "b.png", "c # d.png")
    excluding(tmp_path, "# a comment", "", "train/a # blurred", "train/c # d # a name with a mark", "val/b")
    assert names(tmp_path / "train") == ["b"]
    assert names(tmp_path / "val") == ["a", "c # d"]
    assert read_exclusion(tmp_path / FILE) == {
        "train": {"a": "blurred", "c # d": "a name with a mark"},
        "val": {"b": ""},
    }


def test_a_tile_that_is_left_out_may_lack_its_mask(tmp_path: Path) -> None:
    split_with(tmp_path / "train", "a.png", "b.png")
    for folder in ("images", "nir"):
        touch(tmp_path / "train" / folder, "alone.png")
    with pytest.raises(InputError, match="no partner"):
        find_tiles(tmp_path / "train", Layout())
    excluding(tmp_path, "train/alone # no mask")
    assert names(tmp_path / "train") == ["a", "b"]


def test_list_files_have_the_name_of_their_split(tmp_path: Path) -> None:
    split_with(tmp_path, "a.png", "b.png")
    (tmp_path / "train.txt").write_text("a\nb\n")
    excluding(tmp_path, "train/b", "val/a")
    assert names(tmp_path / "train.txt") == ["a"]


def test_any_way_to_name_a_split_finds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split_with(tmp_path / "val", "a.png", "b.png")
    excluding(tmp_path, "val/b")
    monkeypatch.chdir(tmp_path / "val")
    for place in (Path("."), Path("../val"), Path("images/.."), tmp_path / "val"):
        assert names(place) == ["a"], place


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train/misspelt", "exclude.txt: 1 of its tiles is not in "),
        ("b", "exclude.txt:1: 'b' is not SPLIT/NAME"),
        ("train/images/b.png", "exclude.txt:1: 'train/images/b.png' is not SPLIT/NAME"),
        ("/b", "exclude.txt:1: '/b' is not SPLIT/NAME"),
    ],
)
def test_wrong_lines_are_refused(tmp_path: Path, line: str, said: str) -> None:
    split_with(tmp_path / "train", "a.png", "b.png")
    excluding(tmp_path, line)
    with pytest.raises(InputError) as caught:
        find_tiles(tmp_path / "train", Layout())
    assert said in caught.value.mistakes[0]


def test_a_split_that_the_data_set_lacks_is_named_once(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = data_set(tmp_path / "set", train=4, val=3, channels=())
    excluding(root, "trian/001", "train/002", "val/000", "notes/1 # none")
    said = f"{root / FILE}: 2 of its tiles are in no split of {root}: notes/1, trian/001; correct or delete these lines"
    assert call("run_single", "-d", root).mistakes == [said]
    (root / "trian.txt").write_text("001\n")
    (root / "notes").mkdir()
    assert scan(RunConfig(dataset=str(root))).counts == {"train": 3, "val": 2}


def test_a_list_of_everything_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    split_with(tmp_path / "train", "a.png")
    excluding(tmp_path, "train/a")
    with pytest.raises(InputError, match="leaves out all tiles of"):
        find_tiles(tmp_path / "train", Layout())
    (tmp_path / FILE).write_bytes(b"train/\xff\xfe\n")
    with pytest.raises(InputError, match=r"exclude\.txt: cannot be read as a list of tiles"):
        find_tiles(tmp_path / "train", Layout())


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    reasons = {"val/b # c": ["empty", "empty", "a # in a reason"], "train/a": ["two\nlines"]}
    (tmp_path / FILE).write_text(exclusion_text(reasons), encoding="utf-8")
    assert read_exclusion(tmp_path / FILE) == {
        "train": {"a": "two\\nlines"},
        "val": {"b # c": "empty; a in a reason"},
    }


def test_a_scan_tells_what_is_left_out_and_has_another_fingerprint(tmp_path: Path, data_set: WriteDataSet) -> None:
    config = RunConfig(dataset=str(data_set(tmp_path / "set", train=4, val=3, channels=())))
    whole = scan(config)
    excluding(tmp_path / "set", "train/001 # blurred", "train/002", "val/000")
    lines: list[str] = []
    info = scan(config, say=lines.append)
    assert info.counts == {"train": 2, "val": 2}
    assert f"3 tiles are left out ({tmp_path / 'set' / FILE})" in lines
    assert info.fingerprint != whole.fingerprint
    (tmp_path / "set" / FILE).unlink()
    assert scan(config).fingerprint == whole.fingerprint
