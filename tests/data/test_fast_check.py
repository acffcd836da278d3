"""Before tiles are decoded, a scan refuses what headers show to be wrong, and warns of tiles that two splits share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.fast_check import fast_findings
from segtune.data.reading import read_image
from segtune.data.scan import scan
from segtune.data.splits import find_data_set
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage
from tests.data.caching import Counted
from tests.tools.sets import moved, sound


def said(root: Path, **settings: object) -> list[str]:
    """The warnings of a scan."""
    lines: list[str] = []
    scan(RunConfig.from_settings({"dataset": str(root), "classes": [1]} | settings), say=lines.append)
    return [line for line in lines if line.startswith("warning: ")]


def test_a_sound_set_gives_no_warning(tmp_path: Path) -> None:
    root = sound(tmp_path / "set")
    assert said(root) == []
    assert fast_findings(find_data_set(RunConfig(dataset=str(root)), ["nir"])) == []


def test_equal_files_and_places_that_meet_are_told_at_each_scan(tmp_path: Path, reads: Counted) -> None:
    root = sound(tmp_path / "set")
    shutil.copy(root / "train/images/t03.tif", root / "val/images/t03.tif")
    for folder in ("gt", "nir"):
        shutil.copy(root / "train" / folder / "t03.tif", root / "val" / folder / "t03.tif")
    moved(root, "val/images/t05.tif", 6.7, 0)
    first = said(root)
    copies, places = first
    command = f"python -m segtune.tools check {root} shows all"
    end = f"1 of the 8 val tiles; scores are too good; {command}"
    assert copies == f"warning: the same pixels in train and val: {end}"
    assert places == f"warning: overlap on the ground between train and val, by up to 30% of a tile: {end}"
    read = len(reads.tiles)
    assert said(root) == first
    assert len(reads.tiles) == read  # all of it comes from the cache
    assert said(root, cache_dir="none") == first


def test_several_sets_that_share_tiles_are_one_line(tmp_path: Path) -> None:
    root = sound(tmp_path / "set")
    for folder in ("images", "gt", "nir"):
        shutil.copy(root / "train" / folder / "t03.tif", root / "val" / folder / "t03.tif")
    more = shutil.copytree(root / "val", tmp_path / "more sets" / "more")
    (line,) = said(root, add_val_dirs=[str(more)])
    assert line == (
        "warning: the same pixels in train and val: 1 of the 8 val tiles, train and add_val/more: "
        "1 of the 8 add_val/more tiles, val and add_val/more: 8 of the 8 add_val/more tiles; scores are too good; "
        f"python -m segtune.tools check {root} --set 'add_val_dirs=[{more}]' shows all"
    )
    config = RunConfig(dataset=str(root), classes=[1], add_val_dirs=[str(more)])
    lines: list[str] = []
    scan(config, say=lines.append, shared=False)
    assert not any("same pixels" in line for line in lines)


def test_what_splits_share_that_are_dealt_to_folds_is_not_told(tmp_path: Path) -> None:
    root = sound(tmp_path / "set")
    shutil.copytree(root / "val", root / "more")
    for folder in ("images", "gt"):
        shutil.copy(root / "train" / folder / "t03.tif", root / "val" / folder / "t03.tif")
    moved(root, "val/images/t05.tif", 6.7, 0)
    config = RunConfig(dataset=str(root), classes=[1], add_val_dirs=[str(root / "more")])
    for _ in range(2):  # the second time, from the cache
        lines: list[str] = []
        scan(config, say=lines.append, folded=True)
        shared = [line for line in lines if line.startswith("warning: ")]
        assert shared
        assert all("add_val/more" in line for line in shared)
    assert [line for line in said(root, add_val_dirs=[str(root / "more")]) if " train and val" in line]


def test_equal_files_in_one_split_are_left_to_the_whole_check(tmp_path: Path) -> None:
    root = sound(tmp_path / "set")
    for folder in ("images", "gt", "nir"):
        shutil.copy(root / "train" / folder / "t03.tif", root / "train" / folder / "t99.tif")
    assert said(root) == []


def test_what_headers_show_is_refused_before_a_tile_is_decoded(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, reads: Counted
) -> None:
    root = data_set(tmp_path / "set", train=8, channels=())
    for i in range(7):
        path = root / f"train/gt/00{i}.png"
        write_image(path, read_image(path)[0][:-1])
    with pytest.raises(InputError) as caught:
        scan(RunConfig(dataset=str(root)))
    assert reads.tiles == []
    assert len(caught.value.mistakes) == 6
    assert "gt/000.png: its size differs from that of " in caught.value.mistakes[0]
    assert caught.value.mistakes[-1] == f"{root}: 2 more files with mistakes"
