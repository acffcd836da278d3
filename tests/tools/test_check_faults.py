"""python -m segtune.tools check: every fault that is planted in a sound data set is found, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from affine import Affine

from tests.tools.sets import (
    SIZE,
    all_val,
    change,
    copy,
    cut_short,
    found,
    halves,
    image,
    mask,
    moved,
    place,
    smooth,
    twin,
    write,
)

Harm = Callable[[Path], object]

FAULTS: dict[str, tuple[Harm, str, str, list[str]]] = {
    # what is done: how, and then the severity, the kind and the tiles of the finding
    "a list of another split": (lambda root: (root / "exclude.txt").write_text("trian/t01"), "error", "folders", []),
    "no mask": (lambda root: (root / mask(2)).unlink(), "error", "unpaired", ["train/t02"]),
    "no image": (lambda root: (root / image(2, "val")).unlink(), "error", "unpaired", ["val/t02"]),
    "no channel": (lambda root: (root / "train/nir/t05.tif").unlink(), "error", "unpaired", ["train/t05"]),
    "an image cut short": (lambda root: cut_short(root / image(1)), "error", "unreadable", ["train/t01"]),
    "a mask of nothing": (lambda root: (root / mask(1)).write_bytes(b""), "error", "unreadable", ["train/t01"]),
    "a smaller mask": (lambda root: change(root / mask(6), lambda p: p[:-4]), "error", "size", ["train/t06"]),
    "a channel elsewhere": (
        lambda root: write(
            root / "val/nir/t03.tif", np.full((SIZE, SIZE), 9, np.uint8) + np.eye(SIZE, dtype=np.uint8), place(0, 50)
        ),
        "error",
        "georeference",
        ["val/t03"],
    ),
    "an image of four bands": (
        lambda root: change(root / image(3), lambda p: np.dstack([p, p[..., :1] // 2]), alpha="no"),
        "error",
        "bands",
        ["train/t03"],
    ),
    "an image of uint16": (
        lambda root: change(root / image(3), lambda p: p.astype(np.uint16)),
        "error",
        "types",
        ["train/t03"],
    ),
    "a channel of three bands": (
        lambda root: shutil.copy(root / image(3), root / "train/nir/t03.tif"),
        "error",
        "bands",
        ["train/t03"],
    ),
    "a mask of colours": (
        lambda root: shutil.copy(root / image(3), root / mask(3)),
        "error",
        "mask_bands",
        ["train/t03"],
    ),
    "a mask of fractions": (
        lambda root: change(root / mask(3), lambda p: cv2.blur(p.astype(np.float32), (3, 3))),
        "error",
        "mask_fractions",
        ["train/t03"],
    ),
    "smooth masks": (smooth, "warning", "mask_shades", [f"train/t{i:02d}" for i in range(14)]),
    "an inverted mask": (lambda root: change(root / mask(3), lambda p: 1 - p), "warning", "inverted", ["train/t03"]),
    "swapped masks": (halves, "warning", "swapped", ["train/t03", "train/t04"]),
    "a constant image": (
        lambda root: change(root / image(3), lambda p: np.full_like(p, 77)),
        "warning",
        "constant",
        ["train/t03"],
    ),
    "an image without data": (
        lambda root: change(root / image(3), lambda p: np.zeros_like(p), nodata=0),
        "warning",
        "no_data",
        ["train/t03"],
    ),
    "an equal image": (
        lambda root: twin(root, image(3), image(5, "val")),
        "warning",
        "duplicate",
        ["train/t03", "val/t05"],
    ),
    "an equal image in one split": (
        lambda root: twin(root, image(3), image(5)),
        "warning",
        "duplicate",
        ["train/t03", "train/t05"],
    ),
    "a brighter image": (
        lambda root: copy(root, image(3), image(5, "val"), lambda p: (p * 1.2 + 8).clip(0, 255).astype(np.uint8)),
        "warning",
        "near_duplicate",
        ["train/t03", "val/t05"],
    ),
    "a moved image": (
        lambda root: copy(root, image(3), image(5, "val"), lambda p: np.roll(p, (2, -1), (0, 1))),
        "warning",
        "near_duplicate",
        ["train/t03", "val/t05"],
    ),
    "an overlap": (lambda root: moved(root, image(5, "val"), 9.6, 0), "warning", "overlap", ["train/t03", "val/t05"]),
    "a neighbour": (
        lambda root: moved(root, image(5, "val"), 10, 0),
        "warning",
        "neighbours",
        ["train/t03", "val/t05"],
    ),
    "the same place": (
        lambda root: moved(root, image(5, "val"), 9, 0),
        "warning",
        "same_place",
        ["train/t03", "val/t05"],
    ),
    "another resolution": (
        lambda root: moved(root, image(3), 9, 20, Affine.scale(2.0)),
        "warning",
        "resolution",
        ["train/t03"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(root: Path, fault: str) -> None:
    harm, severity, kind, tiles = FAULTS[fault]
    harm(root)
    status, findings = found(root)
    told = [(finding["severity"], finding["kind"], finding["tiles"]) for finding in findings]
    assert told == [(severity, kind, tiles)]
    assert status == (1 if severity == "error" else 0)
    assert findings[0]["do"]


def exchange(root: Path) -> None:
    """Exchange the folders of images and masks."""
    for split in ("train", "val"):
        (root / split / "images").rename(root / split / "pictures")
        (root / split / "gt").rename(root / split / "images")
        (root / split / "pictures").rename(root / split / "gt")


def exchange_grey(root: Path) -> None:
    for path in root.glob("*/images/*"):
        change(path, lambda pixels: pixels[..., 0])
    exchange(root)


SPLITS: dict[str, tuple[Harm, str, str, str]] = {
    # what is done to a split as a whole: how, the severity, the kind, and words of the finding
    "images and masks exchanged": (exchange, "error", "swapped_folders", "22 of 22 images hold few values"),
    "grey images and masks exchanged": (exchange_grey, "error", "swapped_folders", "22 of 22 images hold few values"),
    "a mask of NaN": (
        lambda root: change(root / mask(3), lambda p: np.full(p.shape, np.nan, np.float32)),
        "warning",
        "unlabelled",
        "1 mask without a label",
    ),
    "another scale": (lambda root: all_val(root, lambda p: (p // 16).astype(np.uint8)), "error", "scale", "val: "),
    "darker": (lambda root: all_val(root, lambda p: p // 2), "warning", "distribution", "val: other values"),
    "more of a class": (
        lambda root: [
            change(root / mask(i, "val"), lambda p: np.maximum(p, np.mgrid[:SIZE, :SIZE][0] > 12).astype(np.uint8))
            for i in range(8)
        ],
        "warning",
        "class_shares",
        "val: other shares",
    ),
    "less of a rare class": (
        lambda root: [
            change(
                root / mask(i, split),
                lambda p, number=number: np.where(np.arange(p.size).reshape(p.shape) < number, 2, p).astype(np.uint8),
            )
            for split, tiles, number in (("train", 14, 180), ("val", 1, 5))
            for i in range(tiles)
        ],
        "warning",
        "class_shares",
        "2 0.02%, 5 pixels in 1 tile (train 4.39%)",
    ),
    "a class that val lacks": (
        lambda root: change(root / mask(3), lambda p: np.where(p == 1, 7, p)),
        "warning",
        "class_absent",
        "val: no mask holds 7",
    ),
    "a class that train lacks": (
        lambda root: change(root / mask(3, "val"), lambda p: np.where(p == 1, 7, p)),
        "warning",
        "class_absent",
        "train: no mask holds 7",
    ),
    "a mask of another format": (
        lambda root: (root / "train/images/x.gif").write_bytes(b"GIF89a"),
        "warning",
        "unread",
        "1 .gif",
    ),
    "tiles of two sizes": (
        lambda root: [change(root / "train" / f / "t03.tif", lambda p: p[:-8]) for f in ("images", "gt", "nir")],
        "note",
        "sizes",
        "2 sizes",
    ),
    "some pixels without data": (
        lambda root: change(
            root / "train/nir/t03.tif",
            lambda p: np.where(np.mgrid[:SIZE, :SIZE][0] > 40, 255, p[..., 0]).astype(np.uint8),
            nodata=255,
        ),
        "note",
        "partly_no_data",
        "1 tile with pixels that hold no data",
    ),
    "an undeclared fill value": (
        lambda root: (
            [
                change(
                    root / "train/nir" / f"t{i:02d}.tif",
                    lambda p: np.where(np.mgrid[:SIZE, :SIZE][0] > 50, -9999, p[..., 0].astype(np.int16)),
                )
                for i in range(14)
            ]
            + [change(root / "val/nir" / f"t{i:02d}.tif", lambda p: p[..., 0].astype(np.int16)) for i in range(8)]
        ),
        "warning",
        "fill_value",
        "the value -9999",
    ),
}


@pytest.mark.parametrize("fault", SPLITS)
def test_what_is_odd_about_a_split_is_told(root: Path, fault: str) -> None:
    harm, severity, kind, words = SPLITS[fault]
    harm(root)
    _, findings = found(root)
    (finding,) = [finding for finding in findings if finding["kind"] == kind]
    assert finding["severity"] == severity
    assert words in finding["what"]


@pytest.mark.parametrize("other", [image(5), image(5, "val")])
def test_an_equal_image_with_another_mask_is_told_as_such(root: Path, other: str) -> None:
    copy(root, image(3), other)
    _, (finding,) = found(root)
    assert (finding["severity"], finding["kind"]) == ("warning", "contradiction")
    assert finding["pairs"] == [["train/t03", f"{Path(other).parts[0]}/t05"]]
    assert finding["leave_out"] == []
    twin(root, image(3), other)
    assert [one["kind"] for one in found(root)[1]] == ["duplicate"]


def test_a_copy_of_any_of_several_equal_images_is_a_leak(root: Path) -> None:
    twin(root, image(3), image(2, "val"))
    copy(root, image(3), image(5, "val"), lambda p: (p * 1.2 + 8).clip(0, 255).astype(np.uint8))
    twin(root, image(3), image(9))
    _, findings = found(root)
    pairs = {(one["kind"], *pair) for one in findings for pair in one["pairs"]}
    near = {("near_duplicate", *pair) for pair in (("train/t03", "val/t05"), ("train/t09", "val/t05"))}
    assert {pair for pair in pairs if pair[0] == "near_duplicate"} == near | {("near_duplicate", "val/t02", "val/t05")}
    (across,) = [one for one in findings if one["kind"] == "near_duplicate" and one["pairs"][0][0] == "train/t03"]
    assert across["leave_out"] == ["train/t03", "train/t09"]


LACKING: dict[str, tuple[Harm, str, str]] = {
    # what is done to folders of channels: how, what is found, and what to do
    "val lacks it": (
        lambda root: shutil.rmtree(root / "val/nir"),
        "val has no nir/, train has, so it is no channel of the set",
        "add nir/ to val",
    ),
    "another case": (
        lambda root: (root / "val/nir").rename(root / "val/NIR"),
        "train has no NIR/, val has, so it is no channel of the set; train has nir/",
        "give nir/ and NIR/ one name",
    ),
    "test lacks it": (
        lambda root: [shutil.copytree(root / "val" / name, root / "test" / name) for name in ("images", "gt")],
        "test has no nir/, train and val have, so it is no channel of the set",
        "add nir/ to test",
    ),
}


@pytest.mark.parametrize("how", LACKING)
def test_a_channel_that_a_split_lacks_is_told(root: Path, how: str) -> None:
    harm, what, do = LACKING[how]
    harm(root)
    _, findings = found(root)
    (finding,) = [one for one in findings if one["kind"] == "channel_absent"]
    assert (finding["severity"], finding["what"]) == ("warning", what)
    assert do in finding["do"]
    assert "channel_absent" not in {one["kind"] for one in found(root, "--channels", "none")[1]}


def test_missing_files_are_told_of_a_channel_that_a_split_lacks(root: Path) -> None:
    shutil.rmtree(root / "val/nir")
    (root / "train/nir/t03.tif").unlink()
    write(root / "train/previews/all.tif", np.zeros((SIZE, SIZE), np.uint8))  # no channel: other names than tiles
    _, findings = found(root)
    told = [(one["kind"], one["tiles"]) for one in findings]
    assert told == [("unpaired", ["train/t03"]), ("channel_absent", []), ("channel_absent", [])]
