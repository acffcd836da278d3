"""A run goes on with the same tiles alone, wherever they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import rasterio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.config import RunConfig
from segtune.models.manifest import Manifest
from tests.training.runs import (
    Whole,
    left,
    other,
    refusal,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_tiles_are_refused(config: RunConfig, own: Path, begun: Path, split: str) -> None:
    with rasterio.open(min((own / split / "gt").iterdir()), "r+") as mask:
        pixels = mask.read()
        pixels[0, 0, 0] ^= 255
        mask.write(pixels)
    mistake = refusal(other(config, dataset=str(own)), begun)
    assert str(begun) in mistake
    assert str(own) in mistake


def test_one_tile_more_is_refused(config: RunConfig, own: Path, begun: Path) -> None:
    for path in sorted(own.glob("train/*/000.png")):
        shutil.copy(path, path.with_name("more.png"))
    assert "other tiles: dataset (" in refusal(other(config, dataset=str(own)), begun)


def test_the_same_tiles_elsewhere_are_the_same(config: RunConfig, own: Path, begun: Path, whole: Whole) -> None:
    moved = own.rename(own.with_name("moved"))
    run(other(config, dataset=str(moved)), begun, go_on=True)
    assert left(begun) == whole.left


def test_an_added_set_that_was_renamed_is_the_same(config: RunConfig, own: Path, tmp_path: Path) -> None:
    north, south = own.parent / "north", own.parent / "south"
    shutil.copytree(own / "val", north)
    before = other(config, add_val_dirs=[str(north)], use_only_add_val=True, epochs=2, worst=1)
    run(before, tmp_path / "run")
    north.rename(south)
    assert run(other(before, add_val_dirs=[str(south)]), tmp_path / "run", go_on=True) == []
    images = EventAccumulator(str(tmp_path / "run")).Reload().Tags()["images"]
    assert images == ["training/augmented", "worst/add_val/north", "worst/add_val/south"]


def test_added_sets_in_a_list_file_are_found_from_another_folder(
    config: RunConfig, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(own / "val", tmp_path / "one" / "north")
    for name in ("two", "lists"):
        (tmp_path / name).mkdir()
    (tmp_path / "lists" / "sets.txt").write_text("north\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "one")
    run(other(config, add_val_dirs=["../lists/sets.txt"], epochs=2), tmp_path / "run", epochs=1)
    monkeypatch.chdir(tmp_path / "two")
    stored = Manifest.read(tmp_path / "run" / "run.yaml").config
    (second,) = run(stored, tmp_path / "run", go_on=True)
    assert list(second.added) == ["add_val/north"]
