"""python -m segtune.tools filter: some tiles, with all of their files, or one line that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from segtune.config import RunConfig
from segtune.data.pairs import find_tiles
from segtune.data.splits import find_data_set
from segtune.data.tiles import Layout
from segtune.tools.conditions import TileFacts, parse_condition
from tests.conftest import WriteImage
from tests.scripts import Ended, call

FACTS = TileFacts({0: 60, 2: 30, -1: 10}, width=10, height=10, valid=0.95, labelled=0.9)


def keep(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "filter", *arguments)


def below(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage) -> None:
    """Tiles whose masks have label 2 in as many of ten rows as the tile's name says, and label 0 elsewhere."""
    monkeypatch.chdir(tmp_path)
    for split, rows in (("train", (0, 1, 5)), ("val", (1, 9))):
        for number in rows:
            mask = np.zeros((10, 10), np.uint8)
            mask[:number] = 2
            write_image(Path(f"data/{split}/gt/t{number}.png"), mask)
            image = np.full((10, 10, 3), 7, np.float32)
            image[: 10 - number, :2] = np.nan
            write_image(Path(f"data/{split}/images/t{number}.tif"), image)
            write_image(Path(f"data/{split}/nir/t{number}.tif"), image[..., 0] + 1)
    Path("data/train/images/t5.tfw").write_text("10\n0\n0\n-10\n5\n5\n")
    Path("data/train/images/t5.tif.aux.xml").write_text("<PAMDataset/>")
    Path("data/train/notes.txt").write_text("mine")


def test_a_division_by_zero_in_every_tile_is_one_line() -> None:
    (mistake,) = keep("data", "--where", "width / 0 > 1", "--to", "x").mistakes
    assert mistake.startswith("--where: 'width / 0' divides by zero in ")


def test_tiles_are_kept_by_class_share_with_all_of_their_files() -> None:
    ended = keep("data", "--where", "share(2) > 0.05", "--to", "few")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "data/train: 2 of 3 tiles kept",
        "data/val: 2 of 2 tiles kept",
        "few: 14 files linked",
    ]
    own = [f"train/{folder}/{name}" for name in ("t1", "t5") for folder in ("gt", "images", "nir")]
    own += [f"val/{folder}/{name}" for name in ("t1", "t9") for folder in ("gt", "images", "nir")]
    beside = ["train/images/t5.tfw", "train/images/t5.tif.aux.xml"]
    assert below("few") == sorted([*(f"{name}.{'png' if '/gt/' in name else 'tif'}" for name in own), *beside])
    assert os.path.samefile("few/val/gt/t9.png", "data/val/gt/t9.png")
    assert find_tiles(Path("few/train"), Layout(channels=("nir",))).names == ("t1", "t5")


def test_a_copy_shares_nothing_with_the_data_set() -> None:
    assert "copied" in keep("data/train", "--where", "share(2) >= 0.5", "--to", "few", "--copy").out
    assert below("few") == ["gt/t5.png", "images/t5.tfw", "images/t5.tif", "images/t5.tif.aux.xml", "nir/t5.tif"]
    assert not os.path.samefile("few/gt/t5.png", "data/train/gt/t5.png")
    assert Path("few/gt/t5.png").read_bytes() == Path("data/train/gt/t5.png").read_bytes()


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--where", "valid >= 0.9"], ["train/t5", "val/t9"]),
        (["--where", "valid > 0.8 and share(2) < 0.8"], ["train/t1", "train/t5", "val/t1"]),
        (["--where", "pixels(2) == 10"], ["train/t1", "val/t1"]),
        (["--where", "labelled > 0.05", "--ignore", "0"], ["train/t1", "train/t5", "val/t1", "val/t9"]),
        (["--tiles", "list.txt"], ["train/t5", "val/t1"]),
        (["--without", "list.txt"], ["train/t0", "train/t1", "val/t9"]),
        (["--without", "list.txt", "--where", "share(2) > 0"], ["train/t1", "val/t9"]),
        (["--has", "later"], ["train/t0", "val/t9"]),
    ],
)
def test_names_that_meet_every_wish_are_listed(write_image: WriteImage, flags: list[str], kept: list[str]) -> None:
    Path("list.txt").write_text("# mine\nt5.tif\nval/t1  # a comment\n")
    for name in ("train/later/t0.png", "val/later/t9.png"):
        write_image(Path("data", name), np.zeros((10, 10), np.uint8))
    assert keep("data", *flags, "--list", "kept.txt").status == 0
    found = [
        f"{split}/{name}" for split in ("train", "val") for name in Path(f"data/{split}/kept.txt").read_text().split()
    ]
    assert found == kept
    assert find_tiles(Path("data/val/kept.txt"), Layout()).names == tuple(
        name.removeprefix("val/") for name in kept if name.startswith("val/")
    )


def test_tiles_that_the_data_set_leaves_out_stay_out() -> None:
    Path("data/exclude.txt").write_text("train/t5 # a cloud\n")
    ended = keep("data", "--where", "share(2) > 0.05", "--to", "few")
    assert ended.out.splitlines()[:2] == ["1 tile is left out (data/exclude.txt)", "data/train: 1 of 2 tiles kept"]
    assert not any("t5" in name for name in below("few"))


@pytest.mark.parametrize("given", ["data", "data/train"])
def test_other_tiles_can_be_left_out_in_place(given: str) -> None:
    Path("data/exclude.txt").write_text("val/t9 # a cloud\n")
    if given == "data":
        Path("data/exclude.txt").unlink()
    ended = keep(given, "--where", "share(2) > 0.05", "--exclude-file", "data/exclude.txt")
    assert ended.out.splitlines()[-1] == "data/exclude.txt: 1 tile added; look at the list: training leaves them out"
    assert find_tiles(Path("data/train"), Layout()).names == ("t1", "t5")
    lines = Path("data/exclude.txt").read_text().splitlines()
    assert lines[-1] == "train/t0 # filter --where share(2) > 0.05"
    assert ("val/t9 # a cloud" in lines) == (given != "data")
    before = below(".")
    again = keep(given, "--where", "share(2) > 0.05", "--exclude-file", "data/exclude.txt")
    assert again.out.splitlines()[-1] == "data/exclude.txt: no tile to add"
    assert below(".") == before


def test_tiles_of_lists_are_left_out_of_their_lists(write_image: WriteImage) -> None:
    for name in ("t0", "t1", "t5"):
        write_image(Path(f"data/train/later/{name}.png"), np.zeros((10, 10), np.uint8))
    write_image(Path("data/train/gt/t6.png"), np.zeros((10, 10), np.uint8))  # in no list
    write_image(Path("data/train/images/t6.tif"), np.zeros((10, 10), np.uint8))
    Path("data/train").rename("lists")
    Path("lists/train.txt").write_text("t0\nt5\n")
    Path("lists/val.txt").write_text("t1\n")
    flags = ("--has", "later", "--where", "share(2) > 0.05", "--exclude-file", "lists/exclude.txt")
    ended = keep("lists", *flags)
    assert ended.out.splitlines() == [
        "lists/train: 1 of 2 tiles kept",
        "lists/val: 1 of 1 tile kept",
        "lists/exclude.txt: 1 tile added; look at the list: training leaves them out",
    ]
    found = find_data_set(RunConfig(dataset="lists"), [])
    assert {split: tiles.names for split, tiles in found.items()} == {"train": ("t5",), "val": ("t1",)}
    assert keep("lists", *flags).out.splitlines()[-1] == "lists/exclude.txt: no tile to add"
    Path("lists/exclude.txt").write_text("val/t0\n")
    (mistake,) = keep("lists", *flags).mistakes
    assert mistake.startswith("lists/exclude.txt: 1 of its tiles is not in lists/val.txt: t0")


def test_a_misspelt_split_of_the_list_is_named() -> None:
    Path("data/exclude.txt").write_text("trian/t5 # a cloud\n")
    (mistake,) = keep("data", "--where", "share(2) > 0.05", "--exclude-file", "data/exclude.txt").mistakes
    assert mistake.startswith("data/exclude.txt: 1 of its tiles is in no split of data: trian/t5; ")


def test_where_one_split_keeps_no_tile_the_other_can_be_filtered_alone() -> None:
    Path("few.txt").write_text("train/t1\n")
    assert keep("data", "--tiles", "few.txt", "--to", "x").mistakes == [
        "data/val: no tile is kept of 2; filter data/train alone takes one split"
    ]
    assert keep("data/train", "--tiles", "few.txt", "--to", "x").status == 0


def test_channels_count_for_validity(write_image: WriteImage) -> None:
    for name in ("t1", "t9"):
        write_image(Path(f"data/val/nir/{name}.tif"), np.full((10, 10), np.nan if name == "t9" else 1, np.float32))
    (mistake,) = keep("data/val", "--where", "valid > 0.9", "--channels", "nir", "--to", "few").mistakes
    assert mistake == "data/val: no tile is kept of 2"
    assert keep("data/val", "--where", "valid > 0.9", "--to", "few").status == 0


def test_tiles_with_dots_in_their_names_stay_apart(write_image: WriteImage) -> None:
    for name in ("a", "a.b"):
        write_image(Path(f"dots/gt/{name}.png"), np.full((4, 4), len(name), np.uint8))
        write_image(Path(f"dots/images/{name}.tif"), np.zeros((4, 4), np.uint8))
    assert keep("dots", "--where", "share(1) == 1", "--to", "few").status == 0
    assert below("few") == ["gt/a.png", "images/a.tif"]


def test_a_dry_run_writes_nothing_and_only_force_replaces() -> None:
    before = below(".")
    ended = keep("data", "--where", "share(2) > 0.05", "--to", "few", "--dry-run")
    assert ended.out.splitlines()[-1] == "a dry run: nothing was written"
    assert below(".") == before
    assert keep("data", "--where", "share(2) > 0.05", "--to", "few").status == 0
    (mistake,) = keep("data", "--where", "share(2) > 0.4", "--to", "few").mistakes
    assert mistake.startswith("--to: few exists and holds 2 files, such as train; ")
    assert keep("data", "--where", "share(2) > 0.05", "--to", "few", "--force", "--copy").status == 0
    assert not os.path.samefile("few/val/gt/t9.png", "data/val/gt/t9.png")
    assert keep("data", "--where", "share(2) > 0.05", "--list", "kept.txt").status == 0
    mistakes = keep("data", "--where", "share(2) > 0.4", "--list", "kept.txt").mistakes
    assert [mistake.split(";")[0] for mistake in mistakes] == [
        f"--list: data/{split}/kept.txt exists" for split in ("train", "val")
    ]
    assert keep("data", "--where", "share(2) > 0.4", "--list", "kept.txt", "--force").status == 0
    assert Path("data/val/kept.txt").read_text() == "t9\n"


def test_tiles_of_two_filters_are_not_mixed() -> None:
    assert keep("data", "--where", "share(2) > 0.05", "--to", "few").status == 0
    before = below("few")
    (mistake,) = keep("data", "--where", "share(2) > 0.4", "--to", "few", "--force").mistakes
    assert mistake == (
        "--to: few holds 6 files of tiles that are not kept now, such as few/train/gt/t1.png; delete what an earlier "
        "filter wrote, or give another folder"
    )
    (mistake,) = keep("data/train", "--where", "share(2) > 0.4", "--to", "few/train", "--force").mistakes
    assert mistake.startswith("--to: few/train holds 3 files of tiles that are not kept now")
    assert below("few") == before
    Path("few/train/notes.txt").write_text("mine")
    os.remove("data/train/images/t5.tfw")  # the old one would move the new tile
    Path("few/val/gt/t9.png.aux.xml").write_text("<PAMDataset/>")
    assert keep("data", "--where", "share(2) >= 0", "--to", "few", "--force").status == 0
    assert "train/images/t5.tif.aux.xml" in below("few")  # it is in the data set, too
    assert not {"train/images/t5.tfw", "val/gt/t9.png.aux.xml"} & {*below("few")}


@pytest.mark.parametrize("more", [[], ["--force"]])
def test_a_dry_run_tells_what_a_run_will_refuse(more: list[str]) -> None:
    assert keep("data", "--where", "share(2) > 0.05", "--to", "few").status == 0
    typed = ["data", "--where", "share(2) > 0.4", "--to", "few", *more]
    assert keep(*typed, "--dry-run").mistakes == keep(*typed).mistakes
    assert len(keep(*typed).mistakes) == 1


def test_a_data_set_of_lists_becomes_one_of_folders(write_image: WriteImage) -> None:
    for name in ("t5.b", "t7"):  # in no list
        write_image(Path(f"data/train/gt/{name}.png"), np.full((10, 10), 2, np.uint8))
        write_image(Path(f"data/train/images/{name}.tif"), np.zeros((10, 10), np.uint8))
    Path("data/train").rename("lists")
    Path("lists/train.txt").write_text("t0\nt5\n")
    Path("lists/val.txt").write_text("t1\n")
    ended = keep("lists", "--where", "share(2) > 0.05", "--to", "few")
    assert ended.out.splitlines()[:2] == ["lists/train: 1 of 2 tiles kept", "lists/val: 1 of 1 tile kept"]
    beside = ["train/images/t5.tfw", "train/images/t5.tif.aux.xml"]
    tiles, places = ("train/{}/t5.{}", "val/{}/t1.{}"), (("gt", "png"), ("images", "tif"), ("nir", "tif"))
    own = [tile.format(*place) for tile in tiles for place in places]
    assert below("few") == sorted([*own, *beside])
    (mistake,) = keep("lists", "--where", "share(2) > 0.05", "--list", "kept.txt").mistakes
    assert mistake.startswith("--list: lists is split by lists (train.txt, val.txt); --to writes")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--to", "x"], "--where CONDITION, --tiles FILE, --without FILE or --has NAME is required"),
        (["--where", "valid > 0"], "one of the arguments --to --list --exclude-file is required"),
        (["--where", "valid > 0", "--to", "data/new"], "--to: data/new lies in data; give a folder outside of it"),
        (["--where", "valid > 0", "--list", "a/b.txt"], "--list: is the name of a file, such as kept.txt, but got a/b"),
        (["--where", "share(2) > 2", "--to", "x"], "data/train: no tile is kept of 3"),
        (
            ["--where", "1 / share(2) > 2", "--to", "x"],
            "--where: '1 / share(2)' divides by zero in /",
        ),
        (["--has", "gt", "--exclude-file", "data"], "--exclude-file: data is a folder; name a file"),
        (["--tiles", "nosuch", "--to", "x"], "nosuch: cannot be read as a list"),
        (["--tiles", "odd.txt", "--to", "x"], "--tiles: odd.txt: 2 names of no tile: t7, train/t9"),
        (["--has", "swir", "--to", "x"], "--has: data/train/swir: no such folder"),
        (["--where", "valid > 0", "--masks-dir", "labels", "--to", "x"], "data/train/labels: no such folder"),
        (
            ["--where", "valid > 0", "--images-dir", "img", "--to", "x"],
            "data: holds no split: neither img nor a folder",
        ),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(flags: list[str], complaint: str) -> None:
    Path("odd.txt").write_text("t7\nt5\ntrain/t9\n")
    before = below(".")
    assert keep("data", *flags).mistakes[0].startswith(complaint)
    assert below(".") == before


def test_what_cannot_be_read_or_has_no_partner_is_named() -> None:
    Path("data/val/gt/t9.png").write_bytes(b"no picture")
    (mistake,) = keep("data", "--where", "valid > 0", "--to", "x").mistakes
    assert mistake.startswith(f"{Path.cwd()}/data/val/gt/t9.png: cannot be read as a mask")
    os.remove("data/val/gt/t9.png")
    (mistake,) = keep("data", "--where", "valid > 0", "--to", "x").mistakes
    assert mistake == "data/val/images: 1 of 2 files has no partner in data/val/gt: t9.tif"
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("share(2) > 0.25 and valid > 0.9", True),
        ("share(2) > 0.3 or share(-1) == 0.1", True),
        ("not share(7) > 0", True),
        ("0.1 < share(2) < 0.2", False),
        ("0.1 < share(2) <= 0.3", True),
        ("(share(2) + share(0)) * 2 - 1 > 0.5", True),
        ("pixels(2) / (width * height) == share(2)", True),
        ("labelled != 0.9 or -1 > 0", False),
    ],
)
def test_conditions_compare_numbers(text: str, holds: bool) -> None:
    assert parse_condition(text)(FACTS) is holds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("share(2)", "'share(2)' says nothing that is true or false"),
        ("share(2) >", "'share(2) >' is no condition"),
        ("share > 1", "there is no 'share'; write share(LABEL)"),
        ("vaild > 1", "there is no 'vaild'; did you mean 'valid'?"),
        ("share(0.5) > 0", "'share(0.5)': share takes one label, such as share(2)"),
        ("share(1, 2) > 0", "'share(1, 2)': share takes one label"),
        ("mean(2) > 0", "'mean(2)' is not known; known are share(LABEL), "),
        ("valid ** 9 > 0", "'valid ** 9' is no number"),
        ("valid > 'a'", "\"'a'\" is no number"),
        ("valid > True", "'True' is no number"),
        ("valid is 1", "'valid is 1' says nothing that is true or false"),
        ("__import__('os').system('touch x') > 0", "\"__import__('os').system('touch x')\" is not known"),
        ("valid.real > 0", "'valid.real' is no number"),
        ("[valid for valid in (1,)] > 0", "'[valid for valid in (1,)]' is no number"),
        (f"valid > {'9' * 400}", "a number in "),
        ("(" * 300 + "valid > 0" + ")" * 300, "is longer than 500 characters"),
        ("(" * 240 + "valid > 0" + ")" * 240, "is no condition"),
        ("valid > 0\x00", "is no condition"),
        ("", "'' is no condition"),
    ],
)
def test_anything_but_comparisons_of_numbers_is_refused(text: str, complaint: str) -> None:
    (mistake,) = keep("data", "--where", text, "--to", "x").mistakes
    assert mistake.startswith("--where: ")
    assert complaint in mistake
    assert not Path("x").exists()


def test_lists_beside_folders_of_the_same_splits_are_refused() -> None:
    Path("data/train").rename("lists")
    Path("lists/train").mkdir()
    Path("lists/train.txt").write_text("t0\nt5\n")
    Path("lists/val.txt").write_text("t1\n")
    (mistake,) = keep("lists", "--where", "share(2) > 0.05", "--to", "few").mistakes
    assert mistake == "lists/train.txt: lies beside lists/train, and both could define the tiles; remove one"
    assert not Path("few").exists()
