"""python -m segtune.tools collect: a channel that arrived later, or one line that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from segtune.data.alignment import read_georeference
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout
from tests.conftest import WriteDataSet, WriteImage
from tests.scripts import Ended, call

PLACE = {"crs": "EPSG:32652", "transform": Affine(10, 0, 500000, 0, -10, 4000000)}
ELSEWHERE = {**PLACE, "transform": Affine(10, 0, 500040, 0, -10, 4000000)}


def collect(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "collect", *arguments)


def below(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_set: WriteDataSet) -> None:
    monkeypatch.chdir(tmp_path)
    data_set(Path("data"), train=3, val=2, channels=())


def height(path: str, write_image: WriteImage, side: int = 32, **profile: object) -> None:
    write_image(Path(path), np.ones((side, side), np.float32), **profile)


def test_files_of_both_splits_are_found_in_their_own_folders(write_image: WriteImage) -> None:
    for split, names in (("train", "012"), ("val", "01")):
        for name in names:
            height(f"archive/{split}/2023/00{name}.tif", write_image)
    Path("archive/train/2023/001.tfw").write_text("10\n0\n0\n-10\n5\n5\n")
    height("archive/train/2023/other.tif", write_image)
    ended = collect("data", "dem", "--from", "archive")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "data/train/dem: files for 3 of 3 tiles",
        "data/val/dem: files for 2 of 2 tiles",
        "5 files linked",
    ]
    assert below("data/train/dem") == ["000.tif", "001.tfw", "001.tif", "002.tif"]
    assert os.path.samefile("data/val/dem/001.tif", "archive/val/2023/001.tif")
    assert read_georeference(Path("data/train/dem/001.tif"))
    assert len(find_tiles(Path("data/train"), Layout(channels=("dem",)))) == 3


def test_missing_files_are_named_with_counts(write_image: WriteImage) -> None:
    for split in ("train", "val"):
        height(f"a/{split}/000.tif", write_image)
        height(f"b/{split}/deep/001.tif", write_image)
    mistakes = collect("data", "dem", "--from", "a").mistakes
    assert mistakes == [
        "data/train: 2 of 3 tiles have no file: 001, 002; --skip-missing takes the others",
        "data/val: 1 of 2 tiles has no file: 001; --skip-missing takes the others",
    ]
    assert not Path("data/train/dem").exists()
    ended = collect("data", "dem", "--from", "a", "b", "--skip-missing", "--copy")
    assert ended.out.splitlines() == [
        "warning: data/train: 1 of 3 tiles has no file: 002",
        "data/train/dem: files for 2 of 3 tiles",
        "data/val/dem: files for 2 of 2 tiles",
        "4 files copied",
    ]
    assert not os.path.samefile("data/val/dem/001.tif", "b/val/deep/001.tif")
    filtered = call("segtune.tools.__main__", "filter", "data", "--has", "dem", "--to", "whole")
    assert filtered.out.splitlines()[0] == "data/train: 2 of 3 tiles kept"
    assert len(find_tiles(Path("whole/train"), Layout(channels=("dem",)))) == 2


def test_sizes_and_places_must_be_those_of_the_images(write_image: WriteImage) -> None:
    for name in ("000", "001"):
        write_image(Path(f"placed/images/{name}.tif"), np.ones((32, 32, 3), np.uint8), **PLACE)
        height(f"placed/gt/{name}.tif", write_image, **PLACE)
    height("archive/000.tif", write_image, side=16, **PLACE)
    height("archive/001.tif", write_image, **ELSEWHERE)
    small, elsewhere = collect("placed", "dem", "--from", "archive").mistakes
    assert small.startswith("archive/000.tif: its size differs from that of ")
    assert small.endswith("placed/images/000.tif (16x16 and 32x32)")
    assert elsewhere.startswith("archive/001.tif: does not lie where ")
    assert "it lies 4 pixels to the right of there and 0 below" in elsewhere
    assert not Path("placed/dem").exists()


def test_a_dry_run_writes_nothing_and_only_force_replaces(write_image: WriteImage) -> None:
    for name in ("000", "001"):
        height(f"archive/{name}.tif", write_image)
    before = below(".")
    assert collect("data/val", "dem", "--from", "archive", "--dry-run").out.endswith("a dry run: nothing was written\n")
    assert below(".") == before
    assert collect("data/val", "dem", "--from", "archive").status == 0
    (mistake,) = collect("data/val", "dem", "--from", "archive").mistakes
    assert mistake.startswith("NAME: data/val/dem exists and holds 2 files, such as 000.tif; ")
    assert collect("data/val", "dem", "--from", "archive", "--force", "--copy").status == 0
    assert not os.path.samefile("data/val/dem/001.tif", "archive/001.tif")


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("data dem --from nosuch", "--from: nosuch: no such folder"),
        ("data dem", "the following arguments are required: --from"),
        ("nosuch dem --from archive", "nosuch: no such data set folder"),
        ("data a/b --from archive", "NAME: is that of a new folder in each split, such as nir, but got a/b"),
        ("data gt --from archive", "NAME: is that of a new folder in each split, such as nir, but got gt"),
        ("data dem --from data", "--from: the new folder data/train/dem lies in a folder that is searched"),
        ("data dem --from other", "--from: no file in other has the name of a tile of data"),
        (
            "data/val dem --from archive",
            "data/val: several files for one tile: archive/a/000.tif and archive/b/000.tif",
        ),
        (
            "data dem --from both",
            "--from: train and val have tiles of the same names, and both/000.tif would serve both",
        ),
        ("data/val dem --from broken --skip-missing", "broken/000.tif: cannot be read as an image"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(write_image: WriteImage, typed: str, complaint: str) -> None:
    for path in ("archive/a/000.tif", "archive/b/000.tif", "other/x.tif"):
        height(path, write_image)
    height("both/000.tif", write_image)
    Path("broken").mkdir()
    Path("broken/000.tif").write_bytes(b"no picture")
    before = below(".")
    (mistake,) = collect(*typed.split()).mistakes
    assert mistake.startswith(complaint)
    assert below(".") == before
