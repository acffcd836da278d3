"""Mistakes in a run's data: a line each that names the file, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.config import RunConfig
from segtune.data.scan import scan
from tests.cli.runs import FAST, DataSet, Run, WriteImage, lists, refusal, refused


@pytest.fixture
def broken(tiles: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be spoilt."""
    return Path(shutil.copytree(tiles, tmp_path / "set"))


def images(dataset: Path) -> list[Path]:
    return sorted((dataset / "train" / "images").iterdir())


def masks(dataset: Path) -> list[Path]:
    return sorted((dataset / "train" / "gt").iterdir())


def no_data_set(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset)
    return dataset


def no_split(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset / "val")
    return dataset / "val"


def no_masks_folder(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset / "train" / "gt")
    return dataset / "train" / "gt"


def no_channel_folder(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset / "train" / "nir")
    return dataset / "train" / "nir"


def no_images(dataset: Path, write: Any) -> Path:
    for path in (dataset / "train" / "images").iterdir():
        path.rename(path.with_suffix(".txt"))
    return dataset / "train" / "images"


def image_without_mask(dataset: Path, write: Any) -> str:
    masks(dataset)[2].unlink()
    return images(dataset)[2].name


def mask_without_image(dataset: Path, write: Any) -> str:
    images(dataset)[2].unlink()
    return masks(dataset)[2].name


def channel_without_partner(dataset: Path, write: Any) -> Path:
    (dataset / "train" / "nir" / images(dataset)[1].name).unlink()
    return dataset / "train" / "nir"


def sizes_that_differ(dataset: Path, write: Any) -> Path:
    return Path(write(masks(dataset)[1], np.full((16, 32), 255, np.uint8)))


def truncated_image(dataset: Path, write: Any) -> Path:
    path = images(dataset)[3]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def empty_image(dataset: Path, write: Any) -> Path:
    images(dataset)[3].write_bytes(b"")
    return images(dataset)[3]


def truncated_mask(dataset: Path, write: Any) -> Path:
    path = masks(dataset)[3]
    path.write_bytes(path.read_bytes()[:40])
    return path


def mask_with_several_bands(dataset: Path, write: Any) -> Path:
    return Path(write(masks(dataset)[0], np.full((32, 32, 3), 255, np.uint8)))


def other_bands(dataset: Path, write: Any) -> Path:
    return Path(write(images(dataset)[0], np.full((32, 32), 9, np.uint8)))


@pytest.mark.parametrize(
    "spoil",
    [
        no_data_set,
        no_split,
        no_masks_folder,
        no_channel_folder,
        no_images,
        image_without_mask,
        mask_without_image,
        channel_without_partner,
        sizes_that_differ,
        truncated_image,
        empty_image,
        truncated_mask,
        mask_with_several_bands,
        other_bands,
    ],
)
def test_unsound_data_is_reported_with_its_file(
    broken: Path,
    write_image: Callable[..., Path],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, Any], Path | str],
) -> None:
    guilty = spoil(broken, write_image)
    (line,) = refusal(run, capsys, "-d", broken, "--add-dirs", "nir", *FAST)
    assert str(guilty) in line


def test_mistakes_of_both_splits_are_reported_at_once(
    broken: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    masks(broken)[0].unlink()
    shutil.rmtree(broken / "val" / "images")
    lines = refusal(run, capsys, "-d", broken, *FAST)
    assert len(lines) == 2
    assert str(broken / "train") in lines[0]
    assert str(broken / "val" / "images") in lines[1]


def test_a_class_that_no_mask_contains_is_refused_with_the_labels_there(
    tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refusal(run, capsys, "-d", tiles, "--class-list", "1,255,3", "--loss", "dice", *FAST)
    assert len(lines) == 2
    assert all(line.startswith("classes: ") and "0, 255" in line for line in lines)


def a_listed_tile_is_missing(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    lists(dataset)
    with (dataset / "val.txt").open("a", encoding="utf-8") as file:
        file.write("нет такого\n")
    return dataset / "val.txt", []


def a_listed_class_is_missing(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    lists(dataset)
    return dataset / "train.txt", ["--class-list", "7"]


def no_listed_tile_can_score(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    lists(dataset)
    for path in (dataset / "gt").glob("val*"):
        write(path, np.zeros((32, 32), np.uint8))
    return dataset / "val.txt", []


def no_tile_of_a_sample_can_score(dataset: Path, write: WriteImage) -> tuple[str, list[object]]:
    (name,) = scan(RunConfig(dataset=str(dataset), val_samples=1)).tiles["val"].names
    write(dataset / "val" / "gt" / f"{name}.png", np.zeros((32, 32), np.uint8))
    return "val_samples is 1", ["--val-samples", 1]


def an_added_set_is_missing(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    (dataset / "sets.txt").write_text("val\nmissing set\n", encoding="utf-8")
    return dataset / "missing set", ["--add-val-dirs", dataset / "sets.txt"]


def an_added_tile_is_broken(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    shutil.copytree(dataset / "val", dataset / "more")
    path = dataset / "more" / "images" / "001.jpg"
    path.write_bytes(path.read_bytes()[:60])
    return path, ["--add-val-dirs", dataset / "more"]


def an_added_tile_has_other_bands(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    shutil.copytree(dataset / "val", dataset / "more")
    path = write(dataset / "more" / "images" / "001.jpg", np.full((32, 32), 9, np.uint8))
    return path, ["--add-val-dirs", dataset / "more"]


def only_added_sets_count_and_hold_no_class(dataset: Path, write: WriteImage) -> tuple[str, list[object]]:
    for path in (dataset / "val" / "gt").iterdir():
        write(path, np.zeros((32, 32), np.uint8))
    return "added validation sets", ["--add-val-dirs", dataset / "val", "--use-only-add-val"]


@pytest.mark.parametrize(
    "spoil",
    [
        a_listed_tile_is_missing,
        a_listed_class_is_missing,
        no_listed_tile_can_score,
        no_tile_of_a_sample_can_score,
        an_added_set_is_missing,
        an_added_tile_is_broken,
        an_added_tile_has_other_bands,
        only_added_sets_count_and_hold_no_class,
    ],
)
def test_unsound_lists_and_added_sets_are_reported_with_their_file(
    tmp_path: Path,
    data_set: DataSet,
    write_image: WriteImage,
    spoil: Callable[[Path, WriteImage], tuple[Path | str, list[object]]],
) -> None:
    dataset = data_set(tmp_path / "set", channels=(), suffix=".jpg")
    guilty, flags = spoil(dataset, write_image)
    lines = refused(dataset, tmp_path / "logs", *flags)
    assert all(str(guilty) in line for line in lines), lines
