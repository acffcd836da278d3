"""python -m segtune.tools check: inverted masks and exchanged labels, of some tiles and of a whole split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tools.sets import SIZE, change, found, image, mask


def invert(root: Path, *names: str) -> None:
    for name in names:
        change(root / name, lambda pixels: 1 - pixels)


@pytest.mark.parametrize("split", ["val", "train"])
def test_a_split_whose_masks_are_inverted_is_told_once(root: Path, split: str) -> None:
    invert(root, *(mask(i, split) for i in range({"train": 14, "val": 8}[split])))
    _, (finding,) = found(root)
    assert (finding["severity"], finding["kind"], len(finding["tiles"])) == ("warning", "inverted", 8)
    assert finding["what"].startswith("val: 0 and 1 are likely inverted: they hold ")
    assert "--labels 0:1 1:0" in finding["do"]
    assert finding["leave_out"] == []


def test_shares_of_an_inverted_split_are_told_beside_those_of_train(root: Path) -> None:
    invert(root, *(mask(i, "val") for i in range(8)))
    _, (finding,) = found(root)
    shares = {split: share_of_zero(root, split, number) for split, number in (("train", 14), ("val", 8))}
    for share in shares.values():
        assert f"{100 * share:.1f}/{100 - 100 * share:.1f}%" in finding["what"]


def share_of_zero(root: Path, split: str, number: int) -> float:
    shares: list[float] = []

    def note(pixels: Any) -> Any:
        shares.append(float(np.mean(pixels == 0)))
        return pixels

    for i in range(number):
        change(root / mask(i, split), note)
    return float(np.mean(shares))


def test_every_fifth_mask_may_be_inverted(root: Path) -> None:
    names = [mask(i) for i in (0, 5, 10)] + [mask(2, "val")]
    invert(root, *names)
    _, (finding,) = found(root)
    assert finding["kind"] == "inverted"
    assert finding["tiles"] == finding["leave_out"] == ["train/t00", "train/t05", "train/t10", "val/t02"]


def test_mirrored_shares_are_told_where_colours_say_nothing(root: Path) -> None:
    random = np.random.default_rng(0)
    for split, number in (("train", 14), ("val", 8)):
        for i in range(number):
            change(root / image(i, split), lambda p: random.integers(0, 255, p.shape).astype(np.uint8))
    invert(root, *(mask(i, "val") for i in range(8)))
    (finding,) = [one for one in found(root, "--channels", "none")[1] if one["kind"] == "class_shares"]
    assert finding["what"].endswith(": inverted?")
    assert finding["do"].startswith("see whether the masks of val are inverted")


@pytest.fixture
def three(root: Path) -> Path:
    """A set with a third label: the sky (2) in the upper part of all images, which is brighter."""
    rows = np.mgrid[:SIZE, :SIZE][0]
    for split, number in (("train", 14), ("val", 8)):
        for i in range(number):
            top = rows < 8 + i % 3
            change(root / image(i, split), lambda p, top=top: np.where(top[..., None], p / 2 + 125, p).astype(np.uint8))
            change(root / mask(i, split), lambda p, top=top: np.where(top, 2, p).astype(np.uint8))
    return root


def test_two_of_three_labels_that_val_holds_exchanged_are_told(three: Path) -> None:
    assert found(three) == (0, [])
    for i in range(8):
        change(three / mask(i, "val"), lambda p: np.array([2, 1, 0], np.uint8)[p])
    _, (finding,) = found(three)
    assert finding["what"].startswith("val: 0 and 2 are likely exchanged")
    assert "--labels 0:2 2:0" in finding["do"]


def test_a_class_that_is_darker_here_and_brighter_there_is_not_told(root: Path) -> None:
    for split, number in (("train", 14), ("val", 8)):
        for i in range(0, number, 3):
            change(root / image(i, split), lambda p: 255 - p)
    assert "inverted" not in {one["kind"] for one in found(root)[1]}
