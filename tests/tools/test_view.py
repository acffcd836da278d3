"""python -m segtune.tools view: a sheet of tiles with their masks over them, at random, by a label, or by findings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import WriteDataSet, WriteImage
from tests.scripts import Ended, call
from tests.tools.sets import change, copy, image, mask


def view(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "view", *arguments)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(data_set: WriteDataSet) -> Path:
    return data_set(Path("set"), train=7, labels=(0, 1, 2))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_sheet_has_two_tiles_in_a_row(number: int, data: Path) -> None:
    ended = view(data, "--tiles", number)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == f"sheet.png: {number} tile{'s' if number > 1 else ''} of 7 in train\n"
    sheet = cv2.imread("sheet.png")
    assert sheet.shape[1] == pytest.approx(1080 if number > 1 else 552, abs=20)
    assert sheet.shape[0] > 256 * -(-number // 2)


def test_masks_are_drawn_over_pictures(write_image: WriteImage) -> None:
    for split in ("train", "val"):
        write_image(Path(f"set/{split}/images/a.png"), np.full((32, 32, 3), 100, np.uint8))
        write_image(Path(f"set/{split}/gt/a.png"), np.repeat([[0] * 16 + [1] * 16], 32, axis=0).astype(np.uint8))
    assert view("set", "--classes", 1).status == 0
    picture, masked = np.split(cv2.imread("sheet.png")[-260:-40], 2, axis=1)
    grey = [(np.ptp(half.astype(int), axis=2) < 3).mean() for half in (picture, masked)]
    assert grey[0] > 0.99
    assert 0.4 < grey[1] < 0.6


def findings(*found: dict[str, Any], file: str = "found.json") -> str:
    """Write a file as `check --json` does."""
    Path(file).write_text(json.dumps({"format": 1, "findings": found}))
    return file


def finding(kind: str, severity: str, *tiles: str, pairs: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    return {"kind": kind, "severity": severity, "tiles": tiles, "pairs": pairs}


def test_findings_choose_the_tiles_and_the_worst_come_first(root: Path) -> None:
    copy(root, image(4), image(5, "val"))
    change(root / image(7), lambda pixels: pixels * 0 + 9)
    (root / image(3)).write_bytes(b"no image")
    call("segtune.tools.__main__", "check", root, "--json", "found.json")
    ended = view(root, "--findings", "found.json", "--dry-run")
    lines = ended.out.splitlines()
    assert lines[0].startswith("not drawn: ")
    assert "t03.tif" in lines[0]
    start, _, names = lines[1].partition(": ")
    assert start.endswith("tiles that findings name, worst first")
    assert {"train/t07", "train/t04", "val/t05"} <= set(names.split(", "))
    ended = view(root, "--findings", "found.json", "--kind", "contradiction", "--dry-run")
    assert ended.out.startswith("2 of 2 tiles that findings name, worst first: train/t04, val/t05\n")


def test_pairs_stand_beside_each_other_above_what_was_found(data: Path) -> None:
    names = [path.stem for path in sorted((data / "train/images").iterdir())]
    pair = (f"train/{names[1]}", f"val/{sorted((data / 'val/images').iterdir())[0].stem}")
    alone = finding("constant", "warning", f"train/{names[2]}")
    for file, found in (
        ("one.png", (alone,)),
        ("two.png", (alone, finding("duplicate", "error", *pair, pairs=(pair,)))),
    ):
        assert view(data, "--findings", findings(*found), "-o", file).status == 0
    one, two = cv2.imread("one.png"), cv2.imread("two.png")
    assert one.shape[1] < two.shape[1]
    assert len(two) - len(one) == pytest.approx(256 + 24 + 24 + 8, abs=2)  # a row more, with its name and its note
    ended = view(data, "--findings", "found.json", "--dry-run")
    assert ended.out.splitlines()[0].endswith(f"worst first: {pair[0]}, {pair[1]}, train/{names[2]}")


def test_of_a_group_of_copies_no_pair_is_drawn_that_shows_nothing_new(data: Path) -> None:
    a, b, c = (f"train/{path.stem}" for path in sorted((data / "train/images").iterdir())[:3])
    found = finding("duplicate", "warning", a, b, c, pairs=((a, b), (a, c), (b, c)))
    ended = view(data, "--findings", findings(found), "-o", "group.png")
    assert ended.out == "group.png: 3 of 3 tiles that findings name, worst first\n"
    assert len(cv2.imread("group.png")) < 3 * 256


def test_tiles_of_different_bands_stand_on_one_sheet(root: Path) -> None:
    change(root / image(2), lambda pixels: pixels[..., :1])
    found = finding("bands", "error", "train/t02", "train/t03")
    assert view(root, "--findings", findings(found)).out == "sheet.png: 2 of 2 tiles that findings name, worst first\n"


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        ("[]", "found.json: is not a JSON object"),
        ("{}", "--findings: found.json is not a file that check --json writes"),
        ('{"format": 1, "findings": [{"severity": "bad"}]}', "--findings: found.json has a finding of severity 'bad'"),
        (
            '{"format": 1, "findings": [{"severity": "note", "tiles": [3], "pairs": []}]}',
            "--findings: found.json has a finding whose tiles are no names",
        ),
        ('{"format": 1, "findings": []}', "--findings: no finding in found.json names tiles"),
    ],
)
def test_another_file_than_that_of_check_is_refused(content: str, mistake: str, data: Path) -> None:
    Path("found.json").write_text(content)
    (line,) = view(data, "--findings", "found.json").mistakes
    assert line.startswith(mistake)


def test_tiles_that_findings_name_and_the_set_lacks_are_told(data: Path) -> None:
    file = findings(finding("constant", "warning", "train/none", "else/t0"))
    (line,) = view(data, "--findings", file).mistakes
    assert "train/none: set does not have both image and mask of it, else/t0: set" in line
    assert view(data, "--findings", file, "--kind", "constnt").mistakes == [
        "--kind: found.json has no finding 'constnt'; did you mean 'constant'?"
    ]


def test_a_missing_file_of_a_channel_does_not_matter(root: Path) -> None:
    (root / mask(3).replace("gt", "nir")).unlink()
    assert view(root, "--tiles", 2).out == "sheet.png: 2 tiles of 14 in train\n"


def test_a_name_stands_at_the_left_of_its_tile(data: Path) -> None:
    assert view(data, "--tiles", 2).status == 0
    names = cv2.imread("sheet.png")[-16 - 256 - 24 : -16 - 256, :, 0] < 128
    middle = names.shape[1] // 2
    for half in (names[:, :middle], names[:, middle:]):
        assert np.flatnonzero(half.any(axis=0)).min() < 40
        assert np.flatnonzero(half.any(axis=0)).max() < 264  # a short name does not reach the mask


def test_a_label_chooses_the_tiles_that_hold_most_of_it(write_image: WriteImage) -> None:
    for number, rows in enumerate((0, 3, 9, 1)):
        mask = np.zeros((10, 10), np.uint8)
        mask[:rows] = 7
        for split in ("train", "val"):
            write_image(Path(f"set/{split}/images/t{number}.png"), np.full((10, 10, 3), number, np.uint8))
            write_image(Path(f"set/{split}/gt/t{number}.png"), mask)
    ended = view("set", "--label", 7, "--tiles", 2, "--split", "val", "--dry-run")
    assert ended.out == "2 tiles of 4 in val: t2, t1\na dry run: nothing was written\n"
    ended = view("set", "--label", 7, "--dry-run")
    assert ended.out.startswith("3 tiles of 4 in train: t2, t1, t3\n")
    assert not Path("sheet.png").exists()
    assert view("set", "--label", 8).mistakes == ["--label: no tile of train holds 8"]


def test_a_data_set_may_have_one_split(data: Path) -> None:
    shutil.rmtree(data / "val")
    ended = view(data, "--tiles", 2, "-o", "sheet.png")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"no val/ in {data}: only train can be shown"
    ended = call("segtune.tools.__main__", "stats", data)
    assert f"no val/ in {data}: only train can be shown" in ended.out.splitlines()
    shutil.rmtree(data / "train")
    assert len(view(data, "-o", "other.png").mistakes) == 2


def test_a_seed_draws_the_same_tiles_each_time(data: Path) -> None:
    first, again, other = (view(data, "--tiles", 3, "--seed", seed, "--dry-run").out for seed in (0, 0, 3))
    assert first == again != other


def test_a_sheet_is_replaced_only_when_forced(data: Path) -> None:
    Path("sheet.png").write_text("mine")
    assert view(data).mistakes == ["--output: sheet.png exists; name another file, or --force to replace it"]
    assert Path("sheet.png").read_text() == "mine"
    assert view(data, "--force").status == 0
    assert cv2.imread("sheet.png") is not None


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (("--tiles", 0), "--tiles: must be between 1 and 200, but got 0"),
        (("--seed", -1), "--seed: must be at least 0, but got -1"),
        (("-o", "sheet.jpg"), "--output: sheet.jpg must end in .png"),
        (("--findings", "a.json", "--label", 1), "--findings: says which tiles are drawn; leave --label out"),
        (("--kind", "constant"), "--kind: needs --findings, the file of check --json"),
        (
            ("--findings", "a.json"),
            "--findings: a.json: no such file; python -m segtune.tools check DATASET --json a.json",
        ),
        (("--split", "test"), "--split: there is no 'test'; there are train, val"),
        (("--set", "rgb=9,1,2"), "rgb: there is no band 9; the images have 3"),
    ],
)
def test_wrong_words_are_refused(words: tuple[object, ...], mistake: str, data: Path) -> None:
    assert view(data, *words).mistakes == [mistake]
    assert not Path("sheet.png").exists()
