"""Tiles of any size, and how many of them: the score of a run is the one that validate.py gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    DataSet,
    Plain,
    best_miou,
    copy_tiles,
    measured,
    measures_the_same,
    pixels,
    read_masks,
    score,
    steps,
    train_in,
    trained,
)

pytestmark = pytest.mark.slow  # whole runs; the modules of segtune.data are tested quickly one by one

# How tiles become squares.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    """Tiles smaller and larger than 32, square and not."""
    parent = tmp_path_factory.mktemp("mixed")
    for size in ((20, 20), (32, 32), (24, 40), (32, 56), (70, 50)):
        part = data_set(parent / "part", train=2, val=1, size=size, channels=())
        for path in sorted(part.rglob("*.png")):
            target = parent / "set" / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target.with_name(f"{size[0]}x{size[1]}_{path.name}"))
    return parent / "set"


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
def test_tiles_of_any_size_fit(mixed: Path, tmp_path: Path, fit: str) -> None:
    folder = trained(mixed, tmp_path, "--fit", fit)
    masks = measures_the_same(folder, mixed / "val", tmp_path / "out")
    truth = read_masks(mixed / "val" / "gt")
    assert {name: mask.shape for name, mask in masks.items()} == {name: mask.shape for name, mask in truth.items()}
    assert score(truth, masks, [255]) == pytest.approx(best_miou(folder), abs=1e-12)
    if fit != "resize":
        name, expected = {"crop": through_two_windows, "pad": in_a_corner}[fit](folder, mixed / "val")
        assert np.mean(masks[name] == np.where(expected.numpy() > 0, 255, 0)) > 0.999


def logits_of(folder: RunFolder, image: NDArray[np.uint8]) -> Tensor:
    """What a run's model makes of an image, (bands, H, W): logits, (H, W)."""
    model, manifest = load_model(folder.best, torch.device("cpu"))
    mean, std = (torch.tensor([getattr(band, name) for band in manifest.bands]) for name in ("mean", "std"))
    with torch.no_grad():
        logits: Tensor = model((torch.from_numpy(image).float() - mean[:, None, None])[None] / std[:, None, None])
    return logits[0, 0]


def through_two_windows(folder: RunFolder, split: Path) -> tuple[str, Tensor]:
    """A tile as high as a window and 24 pixels wider is seen twice, and 8 columns in the middle count by their mean."""
    image = pixels(split / "images" / "32x56_000.png")
    left, right = logits_of(folder, image[..., :32]), logits_of(folder, image[..., 24:])
    return "32x56_000", torch.cat([left[:, :24], (left[:, 24:] + right[:, :8]) / 2, right[:, 8:]], dim=1)


def in_a_corner(folder: RunFolder, split: Path) -> tuple[str, Tensor]:
    """A small tile lies in a corner of the square, the rest of which has its mean colour."""
    image = pixels(split / "images" / "20x20_000.png")
    square = np.empty((3, 32, 32), np.uint8)
    square[...] = image.mean(axis=(1, 2)).round()[:, None, None]
    square[:, :20, :20] = image
    return "20x20_000", logits_of(folder, square)[:20, :20]


def test_a_tile_as_large_as_the_window_is_seen_as_without_windows(plain: Plain, tmp_path: Path) -> None:
    masks = measures_the_same(plain.folder, plain.dataset / "val", tmp_path / "whole")
    cropped = Path(shutil.copytree(plain.folder.best, tmp_path / "best"))
    content = yaml.safe_load((cropped / "run.yaml").read_text(encoding="utf-8"))
    (cropped / "run.yaml").write_text(yaml.safe_dump(content | {"fit": "crop"}), encoding="utf-8")
    _, windowed = measured(cropped, plain.dataset / "val", tmp_path / "windows")
    assert windowed.keys() == masks.keys()
    assert all(np.array_equal(mask, masks[name]) for name, mask in windowed.items())


# How many tiles.


@pytest.mark.parametrize(("samples", "in_an_epoch"), [(5, 3), (9, 5)])
def test_samples_per_epoch_and_val_samples_limit_tiles_for_any_seed(
    plain: Plain, tmp_path: Path, samples: int, in_an_epoch: int
) -> None:
    flags = ["-b", 2, "--samples-per-epoch", samples, "--val-samples", 2, "--seed", samples]
    ended = train_in(plain.dataset, tmp_path, *flags)
    assert (ended.status, ended.err) == (0, "")
    assert "6 train, 2 val tiles" in ended.out
    assert "(on 2 of 4 validation tiles)" in ended.out
    folder = RunFolder(tmp_path / "run")
    assert len(read_rows(folder)) == 2
    assert steps(folder) == 2 * in_an_epoch
    # The tiles that every run with this number validates on, as a split of their own.
    chosen = scan(RunConfig(dataset=str(plain.dataset), val_samples=2)).tiles["val"].names
    split = copy_tiles(plain.dataset / "val", chosen, tmp_path / "chosen")
    assert len(measures_the_same(folder, split, tmp_path / "out")) == 2
    _, masks = measured(folder.path, plain.dataset / "val", tmp_path / "all")
    assert len(masks) == 4


def test_limit_tiles_takes_some_of_each_split(plain: Plain, tmp_path: Path) -> None:
    ended = train_in(plain.dataset, tmp_path, "--limit-tiles", 2, "-b", 1)
    assert (ended.status, ended.err) == (0, "")
    assert "2 train, 2 val tiles" in ended.out
    assert "(on 2 of 4 validation tiles)" in ended.out
    folder = RunFolder(tmp_path / "run")
    assert steps(folder) == 2 * 2
    chosen = scan(RunConfig(dataset=str(plain.dataset), limit_tiles=2)).tiles["val"].names
    measures_the_same(folder, copy_tiles(plain.dataset / "val", chosen, tmp_path / "chosen"), tmp_path / "out")


def test_no_more_tiles_are_called_measured_than_there_are(plain: Plain, tmp_path: Path) -> None:
    ended = train_in(plain.dataset, tmp_path, "--val-samples", 4, "--limit-tiles", 5, "-e", 1)
    assert "6 train" not in ended.out
    assert "best: miou" in ended.out
    assert "validation tiles)" not in ended.out
