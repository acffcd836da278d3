"""The pictures that a run shows: its worst tiles, and previews of augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.errors import InputError
from segtune.files.folders import RunFolder
from segtune.pictures.sheet import Preview, preview_sheet
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    Plain,
    train_in,
    trained,
)


def shown(folder: RunFolder) -> list[str]:
    """Names of the images in a run's TensorBoard events."""
    found: list[str] = EventAccumulator(str(folder.path)).Reload().Tags()["images"]
    return found


def test_the_worst_tiles_are_shown_as_many_as_asked_for(plain: Plain, tmp_path: Path) -> None:
    one, none = (trained(plain.dataset, tmp_path, "--worst", count, name=f"worst{count}") for count in (1, 0))
    assert shown(plain.folder) == shown(one) == ["training/augmented", "worst/val"]
    heights = [cv2.imread(str(folder.worst)).shape[0] for folder in (plain.folder, one)]
    assert heights[0] > 3 * heights[1] - 400  # four rows, less three times what is above them
    assert heights[0] > heights[1]
    assert shown(none) == []
    assert not none.worst.exists()
    assert [row["miou"] for row in read_rows(none)] == [row["miou"] for row in read_rows(one)]


def preview(plain: Plain, logs: Path, *flags: object) -> NDArray[np.uint8]:
    """The sheet that --preview-augmentation writes; it writes nothing else."""
    ended = train_in(plain.dataset, logs, *flags)
    assert (ended.status, ended.err) == (0, "")
    (path,) = logs.rglob("*")
    assert ended.out.splitlines()[-1].endswith(str(path))
    assert "epoch" not in ended.out
    picture: NDArray[np.uint8] = cv2.imread(str(path))[..., ::-1]
    return picture


def test_a_preview_shows_as_many_tiles_as_asked_for_and_trains_nothing(plain: Plain, tmp_path: Path) -> None:
    two = preview(plain, tmp_path / "two", "--preview-augmentation", 2, "-a", "hard")
    four = preview(plain, tmp_path / "four", "--preview-augmentation", 4, "-a", "hard")
    assert (tmp_path / "two" / "preview_hard.png").is_file()
    assert four.shape[0] > two.shape[0]
    many = preview(plain, tmp_path / "many", "--preview-augmentation", 64)  # more than there are
    assert many.shape[0] > four.shape[0]


def test_tiles_of_a_preview_are_spread_over_the_set(
    plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def sheet(rows: Sequence[Preview], *others: Any) -> NDArray[np.uint8]:
        names.extend(row.name for row in rows)
        return preview_sheet(rows, *others)

    monkeypatch.setattr("segtune.pictures.gallery.preview_sheet", sheet)
    preview(plain, tmp_path / "four", "--preview-augmentation", 4)
    assert names == ["000", "001", "003", "004"]  # of six


def test_a_preview_needs_no_weights(plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*others: Any) -> None:
        raise InputError("out of reach")

    monkeypatch.setattr("segtune.models.build.fetch_weights", refused)
    preview(plain, tmp_path / "sheet", "--preview-augmentation", 1, "--encoder-weights", "imagenet")


def test_a_preview_shows_transforms_of_a_file_and_mixed_tiles(plain: Plain, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("- {__class_fullname__: InvertImg, p: 1.0}\n")
    inverted = preview(plain, tmp_path / "file", "--preview-augmentation", 2, "-a", file)
    assert (tmp_path / "file" / "preview_my.png").is_file()
    mix = ("--mix", "cutmix", "--mix-probability", 1)
    mixed = preview(plain, tmp_path / "mixed", "--preview-augmentation", 2, "-a", file, *mix)
    assert (tmp_path / "mixed" / "preview_my_cutmix.png").is_file()
    assert inverted.shape == mixed.shape
    assert (inverted != mixed).any()


def test_mistakes_in_a_file_of_transforms_are_reported_at_once(plain: Plain, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("- {__class_fullname__: Flipp}\n- {__class_fullname__: D4, q: 1}\n")
    lines = train_in(plain.dataset, tmp_path, "-a", file).mistakes
    assert [line.split(": ")[0] for line in lines] == [f"{file}:1", f"{file}:2"]
    file.write_text("- {__class_fullname__: CenterCrop, height: 8, width: 8}\n- {__class_fullname__: RandomScale}\n")
    lines = train_in(plain.dataset, tmp_path, "-a", file).mistakes
    assert [line.split(": ")[1] for line in lines] == ["CenterCrop", "RandomScale"]
    (line,) = train_in(plain.dataset, tmp_path, "-a", tmp_path / "none.yaml").mistakes
    assert line == f"augmentation: {tmp_path / 'none.yaml'}: no such file or directory"


def test_too_large_a_preview_is_refused_before_tiles_are_read(tmp_path: Path) -> None:
    (line,) = train_in(tmp_path / "none", tmp_path, "--preview-augmentation", 65).mistakes
    assert line == "--preview-augmentation: must be between 1 and 64 tiles, but got 65"


def test_rgb_says_in_which_colours_tiles_are_shown(plain: Plain, tmp_path: Path) -> None:
    usual = preview(plain, tmp_path / "usual", "--preview-augmentation", 1, "-a", "none")
    other = preview(plain, tmp_path / "other", "--preview-augmentation", 1, "-a", "none", "--rgb", "3,2,1")
    usual, other = (sheet[:, : sheet.shape[1] // 4] for sheet in (usual, other))  # the tile without its mask
    differs = (usual != other).any(axis=2)
    assert differs.mean() > 0.3
    assert np.array_equal(usual[differs][:, ::-1], other[differs])
