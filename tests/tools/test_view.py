"""python -m segtune.tools view: a sheet of tiles with their masks over them, drawn at random or chosen by a label."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import WriteDataSet, WriteImage
from tests.scripts import Ended, call


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
        (("--split", "test"), "--split: there is no 'test'; there are train, val"),
        (("--set", "rgb=9,1,2"), "rgb: there is no band 9; the images have 3"),
    ],
)
def test_wrong_words_are_refused(words: tuple[object, ...], mistake: str, data: Path) -> None:
    assert view(data, *words).mistakes == [mistake]
    assert not Path("sheet.png").exists()
