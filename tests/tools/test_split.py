"""python -m segtune.tools split: tiles become a data set, and what leaks is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

from segtune.config import RunConfig
from segtune.data.reading import read_mask
from segtune.data.splits import find_data_set
from tests.conftest import WriteImage
from tests.scripts import Ended, call

SIDE = 16


def split(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "split", *arguments)


def write_tiles(
    write_image: WriteImage,
    rows: int,
    columns: int,
    scene: str = "a",
    stride: int = SIDE,
    placed: bool = True,
    folder: Path = Path("tiles"),
) -> None:
    """Write a grid of tiles of noise; the label 5 is rare, and only in some tiles."""
    random = np.random.default_rng(len(scene) + ord(scene[-1]))
    far = 1_000_000 + 100_000 * ord(scene[-1])
    for row in range(rows):
        for column in range(columns):
            name = f"{scene}_r{row * stride:04d}_c{column * stride:04d}.tif"
            place = Affine(2, 0, far + 2 * column * stride, 0, -2, far - 2 * row * stride)
            known = {"crs": "EPSG:32643", "transform": place} if placed else {}
            write_image(folder / "images" / name, random.integers(1, 255, (SIDE, SIDE, 3), np.uint8), **known)
            write_image(folder / "nir" / name, random.integers(1, 255, (SIDE, SIDE), np.uint8), **known)
            mask = (random.random((SIDE, SIDE)) < random.random() * 0.6).astype(np.uint8)
            mask[0, :8] = 5 if random.random() < 0.3 else 0
            write_image(folder / "gt" / name, mask, **known)


def tiles_of(folder: Path, split: str, kind: str = "images") -> list[str]:
    return sorted(path.stem for path in (folder / split / kind).glob("*.tif"))


def place_of(name: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"(.+)_r(\d+)_c(\d+)", name)
    assert found
    return found[1], int(found[2]), int(found[3])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", params=[True, False], ids=["placed", "named"])
def written(request: pytest.FixtureRequest, write_image: WriteImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid") / "tiles"
    write_tiles(write_image, 12, 12, placed=request.param, folder=folder)
    return folder


@pytest.fixture
def grid(written: Path) -> None:
    """A grid of tiles in the folder tiles, for one test alone."""
    shutil.copytree(written, "tiles")


@pytest.mark.usefixtures("grid")
def test_blocks_have_a_gap_between_splits() -> None:
    flags = ("--by", "blocks", "--block", 3 * SIDE, "--gap", 10, "--shares", 0.6, 0.2, 0.2)
    ended = split("tiles", *flags, "--to", "set")
    assert ended.err == ""
    found = {name: tiles_of(Path("set"), name) for name in ("train", "val", "test")}
    kept = {name: [place_of(tile)[1:] for tile in tiles] for name, tiles in found.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        for row, column in kept[one]:
            for y, x in kept[other]:
                assert max(abs(row - y), abs(column - x)) - SIDE >= 10
    blocks = {(y // (3 * SIDE), x // (3 * SIDE)): name for name in kept for y, x in kept[name]}
    for name, places in kept.items():
        assert all(blocks[y // (3 * SIDE), x // (3 * SIDE)] == name for y, x in places)
    left_out = 144 - sum(map(len, found.values()))
    assert left_out > 0
    # Test gives up nothing.
    assert len(kept["test"]) == 9 * len({(y // (3 * SIDE), x // (3 * SIDE)) for y, x in kept["test"]})
    lines = ended.out.splitlines()
    assert any(re.match(rf"left out +{left_out} ", line) for line in lines)
    assert "val: 0 of" in ended.out
    assert "test: 0 of" in ended.out


def test_overlapping_tiles_of_blocks_are_left_out_without_a_gap(write_image: WriteImage) -> None:
    write_tiles(write_image, 8, 8, stride=SIDE // 2)
    ended = split("tiles", "--by", "blocks", "--block", 2 * SIDE, "--to", "set")
    places = {name: [place_of(tile)[1:] for tile in tiles_of(Path("set"), name)] for name in ("train", "val")}
    least = min(max(abs(y - b), abs(x - a)) for y, x in places["train"] for b, a in places["val"])
    assert least == SIDE
    assert "overlap" not in ended.out


def test_a_random_split_of_overlapping_tiles_says_what_leaks(write_image: WriteImage) -> None:
    write_tiles(write_image, 6, 6, stride=SIDE // 2)
    ended = split("tiles", "--by", "random", "--dry-run", "--to", "set")
    found = re.search(r"^val: (\d+) of 7 tiles leak from train \(.*overlapping", ended.out, re.MULTILINE)
    assert found
    assert int(found[1]) >= 6
    (line,) = re.findall(r"^warning: overlap: .*$", ended.out, re.MULTILINE)
    assert re.fullmatch(r"warning: overlap: \d+ pairs of tiles, such as train/a_\w+ and val/a_\w+", line)
    hint = "--by blocks keeps places together, and --gap N leaves out tiles that lie too near to another split"
    assert hint in ended.out.splitlines()
    assert ended.out.endswith("dry run: nothing was written\n")
    assert not Path("set").exists()


def test_scenes_stay_together(write_image: WriteImage) -> None:
    for scene in ("a", "b_r1", "c", "d", "e"):
        write_tiles(write_image, 2, 4, scene)
    assert split("tiles", "--by", "scene", "--shares", 0.6, 0.2, 0.2, "--to", "set").status == 0
    scenes = {name: {place_of(tile)[0] for tile in tiles_of(Path("set"), name)} for name in ("train", "val", "test")}
    assert sorted(map(len, scenes.values())) == [1, 1, 3]
    assert set.union(*scenes.values()) == {"a", "b_r1", "c", "d", "e"}
    (mistake,) = split("tiles", "--group", "(.).*", "--shares", 0.2, 0.4, 0.4, "--to", "x", "--channels", "ir").mistakes
    assert "tiles/ir: no such folder" in mistake
    assert split("tiles", "--group", "^(.)", "--shares", 0.2, 0.4, 0.4, "--to", "groups").status == 0
    assert {len({tile[0] for tile in tiles_of(Path("groups"), name)}) for name in ("train", "val", "test")} == {1, 2}


@pytest.mark.usefixtures("grid")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_have_like_shares_of_rare_labels(seed: int) -> None:
    def shares(folder: str) -> list[float]:
        """Of val: its share of the tiles, and of the pixels of each label."""
        counts = []
        for name in ("train", "val"):
            masks = [read_mask(path) for path in sorted(Path(folder, name, "gt").glob("*.tif"))]
            counts.append([len(masks), *(sum(int((mask == label).sum()) for mask in masks) for label in (0, 1, 5))])
        return [val / (train + val) for train, val in zip(*counts, strict=True)]

    assert split("tiles", "--by", "random", "--seed", seed, "--to", "set").status == 0
    assert shares("set") == pytest.approx([0.2] * 4, abs=0.02)


@pytest.mark.usefixtures("grid")
def test_the_seed_decides() -> None:
    found = []
    for number, seed in enumerate((3, 3, 4)):
        assert split("tiles", "--by", "random", "--seed", seed, "--to", f"set{number}").status == 0
        found.append(tiles_of(Path(f"set{number}"), "val"))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("way", ["link", "copy", "move"])
def test_files_are_linked_copied_or_moved(write_image: WriteImage, way: str) -> None:
    write_tiles(write_image, 2, 4, placed=False)
    Path("tiles/images/a_r0000_c0000.tfw").write_text("2\n0\n0\n-2\n700000\n1400000\n")
    before = {path.name: path.stat() for path in Path("tiles/images").iterdir()}
    ended = split("tiles", "--by", "random", "--shares", 0.5, 0.5, "--with", way, "--to", "set")
    done = {"link": "linked", "copy": "copied", "move": "moved"}[way]
    assert ended.out.splitlines()[-1] == f"set: 25 files {done}; -d set uses them"
    for name in ("train", "val"):
        assert len(tiles_of(Path("set"), name)) == 4
        assert tiles_of(Path("set"), name) == tiles_of(Path("set"), name, "gt") == tiles_of(Path("set"), name, "nir")
    new = {path.name: path.stat() for path in Path("set").glob("*/images/*")}
    assert new.keys() == before.keys()
    assert all((new[name].st_ino == state.st_ino) == (way != "copy") for name, state in before.items())
    assert bool(list(Path("tiles/images").iterdir())) == (way != "move")
    (world,) = Path("set").glob("*/images/*.tfw")
    assert world.with_suffix(".tif").exists()
    assert find_data_set(RunConfig(dataset="set", channels=["nir"]), ["nir"]).keys() == {"train", "val"}


@pytest.mark.usefixtures("grid")
def test_lists_make_the_folder_of_tiles_a_data_set() -> None:
    ended = split("tiles", "--by", "random", "--with", "list", "--shares", 0.5, 0.25, 0.25)
    assert ended.out.splitlines()[-1] == "tiles: train.txt, val.txt, test.txt written; -d tiles uses them"
    found = find_data_set(RunConfig(dataset="tiles"), [])
    assert [len(found[name]) for name in ("train", "val")] == [72, 36]
    (mistake,) = split("tiles", "--by", "random", "--with", "list").mistakes
    assert mistake == "tiles/train.txt: exists already; --force replaces it"
    assert split("tiles", "--by", "random", "--with", "list", "--force").status == 0
    assert not Path("tiles/test.txt").exists()
    Path("tiles/val.txt").write_text("a\n")
    (mistake,) = split("tiles", "--by", "random", "--with", "list", "--force").mistakes
    assert mistake.startswith("tiles/val.txt: was not written by this tool")


@pytest.mark.usefixtures("grid")
def test_only_a_split_of_this_tool_is_replaced() -> None:
    assert split("tiles", "--by", "random", "--shares", 0.6, 0.2, 0.2, "--to", "set").status == 0
    assert json.loads(Path("set/split.json").read_text())["seed"] == 0
    (mistake,) = split("tiles", "--by", "random", "--to", "set").mistakes
    assert mistake.startswith("--to: set has train and val and test already; give another folder, or --force")
    assert split("tiles", "--by", "random", "--seed", 5, "--to", "set", "--force").status == 0
    assert sum(len(tiles_of(Path("set"), name)) for name in ("train", "val", "test")) == 144
    assert tiles_of(Path("set"), "test") == []
    Path("set/split.json").unlink()
    (mistake,) = split("tiles", "--by", "random", "--to", "set", "--force").mistakes
    assert "was not made by this tool (no split.json)" in mistake

    shutil.copytree("tiles", "other")
    assert split("other", "--by", "random", "--with", "move", "--to", "moved").status == 0
    (mistake,) = split("tiles", "--by", "random", "--to", "moved", "--force").mistakes
    assert "holds the only copies of tiles that were moved" in mistake


@pytest.mark.parametrize("kept", ["", "test/images/notes.txt"])
def test_folders_of_a_replaced_split_go_where_they_are_empty(write_image: WriteImage, kept: str) -> None:
    write_tiles(write_image, 3, 4)
    assert split("tiles", "--by", "random", "--shares", 0.6, 0.2, 0.2, "--to", "set").status == 0
    if kept:
        Path("set", kept).write_text("mine")
    for path in [*Path("set").rglob("*.tif")]:  # they describe the earlier files
        Path(f"{path}.aux.xml").write_text("<PAMDataset/>")
    assert split("tiles", "--by", "random", "--to", "set", "--force").status == 0
    below = {path.relative_to("set").as_posix() for path in Path("set").glob("test/**/*")}
    assert below == ({"test/images", kept} if kept else set())
    assert Path("set/test").exists() == bool(kept)
    assert not [*Path("set").rglob("*.aux.xml")]
    if not kept:
        checked = call("segtune.tools.__main__", "check", "set")
        assert "val" in checked.out
        assert "set/test" not in checked.out + checked.err


@pytest.mark.parametrize("flags", ["--to set", "--with list"])
def test_excluded_tiles_in_another_split_are_told(write_image: WriteImage, flags: str) -> None:
    write_tiles(write_image, 3, 4)
    again = ("tiles", "--by", "random", *flags.split(), "--force")
    assert split(*again).status == 0
    dataset = "set" if "--to" in flags else "tiles"
    (out, *_), (other, *_) = (find_data_set(RunConfig(dataset=dataset), [])[name].names for name in ("val", "train"))
    excluding = Path(dataset, "exclude.txt")
    excluding.write_text(f"val/{out} # a cloud\ntrain/{other}\n")
    assert "exclude.txt" not in split(*again).out
    excluding.write_text(f"train/{out} # a cloud\ntrain/{other}\ntest/{out}\n")
    said = [line for line in split(*again).out.splitlines() if "exclude.txt" in line]
    assert said == [
        f"warning: {excluding}: 2 of its tiles are not in the named split: train/{out}, test/{out}; training will "
        f"refuse these lines, so correct or delete them"
    ]


def test_the_only_copies_of_linked_tiles_are_not_replaced(write_image: WriteImage) -> None:
    write_tiles(write_image, 3, 4)
    shutil.copytree("tiles", "other")
    assert split("tiles", "--by", "random", "--to", "set").status == 0
    shutil.rmtree("tiles")
    before = sorted(Path("set").rglob("*"))
    (mistake,) = split("other", "--by", "random", "--seed", 1, "--to", "set", "--force").mistakes
    assert mistake.startswith("--to: set holds the only copies of 36 linked files now, such as set/")
    assert sorted(Path("set").rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("none --by random --to s", "none: no such folder of tiles"),
        ("tiles --to s", "one of the arguments --by --group is required"),
        ("tiles --by random", "--to: is missing; it names the new data set (--with list needs none)"),
        ("tiles --by random --with list --to s", "--to: is not for --with list"),
        ("tiles --by random --shares 1 --to s", "--shares: takes 2 or 3 numbers"),
        ("tiles --by random --shares 0.9 0.2 --to s", "--shares: are above 0 and make 1 together, but got 0.9 0.2"),
        ("tiles --by random --gap 3 --to s", "--gap: is for --by blocks"),
        ("tiles --by blocks --block 0 --to s", "--block: pixels are at least 1, but got 0"),
        ("tiles --by random --seed -1 --to s", "--seed: is at least 0, but got -1"),
        ("tiles --by scene --to s", "--shares: 2 splits need as many groups of tiles, but there are 1"),
        ("tiles --by blocks --block 32 --gap 999 --to s", "--gap: leaves train without a tile; make it smaller"),
        ("tiles --group x --to s", "--group: 'x' has no parentheses"),
        ("odd --by scene --to s", "--by scene: 3 names do not tell their scene as SCENE_r0512_c1024 does: 0, 1, 2"),
        ("odd --by blocks --to s", "has no place: neither a georeference nor a name such as SCENE_r0512_c1024"),
        ("tiles --by random --masks-dir mask --to s", "tiles/mask: no such folder"),
    ],
)
def test_a_mistake_is_one_line(write_image: WriteImage, arguments: str, complaint: str) -> None:
    write_tiles(write_image, 3, 4)
    for name in "012":
        write_image(Path(f"odd/images/{name}.png"), np.full((8, 8), 9, np.uint8))
        write_image(Path(f"odd/gt/{name}.png"), np.zeros((8, 8), np.uint8))
    mistakes = split(*arguments.split()).mistakes
    assert complaint in mistakes[0]
    assert len(mistakes) == (3 if "odd --by blocks" in arguments else 1)
    assert not Path("s").exists()
