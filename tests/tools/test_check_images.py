"""python -m segtune.tools check: odd values of images, such as fill values and single tiles unlike the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segtune.data.exclusion import read_exclusion
from tests.tools.sets import Pixels, change, copy, found, image


def corner(pixels: Pixels) -> Pixels:
    filled = pixels.astype(np.int16)
    filled[:20, :20] = -9999
    return filled


@pytest.fixture
def filled(root: Path) -> Path:
    """A set of int16 in which every fourth tile has a corner of an undeclared fill value."""
    for split, number in (("train", 14), ("val", 8)):
        for i in range(number):
            change(root / image(i, split), corner if i % 4 == 0 else lambda p: p.astype(np.int16))
    return root


def test_equal_corners_of_a_fill_value_make_no_near_duplicates(filled: Path, tmp_path: Path) -> None:
    status, (finding,) = found(filled, "--exclude-file", tmp_path / "exclude.txt")
    assert (status, finding["kind"]) == (0, "fill_value")
    assert not (tmp_path / "exclude.txt").exists() or read_exclusion(tmp_path / "exclude.txt") == {}


def test_a_sentence_on_a_fill_value_is_whole(filled: Path) -> None:
    _, (finding,) = found(filled)
    assert finding["what"].startswith("the value -9999 is far outside the rest in image:1 (")
    assert finding["what"].count("the rest is") == 3
    assert finding["do"] == "if it stands for no data, declare it with nodata: -9999 (--set nodata=-9999)"


def test_a_brighter_copy_beside_a_fill_value_is_found(filled: Path) -> None:
    copy(filled, image(4), image(4, "val"), lambda p: np.where(p == -9999, p, p * 1.2 + 8).astype(np.int16))
    near = [one for one in found(filled)[1] if one["kind"] == "near_duplicate"]
    assert [one["pairs"] for one in near] == [[["train/t04", "val/t04"]]]
