"""The fingerprint of a data set: another one for other pixels, names or classes, and for nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from segtune.data.reading import read_image
from tests.conftest import WriteDataSet, WriteImage
from tests.data.stores import scanned


@pytest.mark.parametrize("folder", ["train/images", "train/gt", "train/nir", "val/images", "val/gt", "val/nir"])
def test_fingerprint_changes_with_a_single_pixel(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, folder: str
) -> None:
    data_set(tmp_path)
    before = scanned(tmp_path, channels=["nir"]).fingerprint
    path = tmp_path / folder / "001.png"
    changed = read_image(path)[0].copy()
    changed[3, 4, 0] = 0 if changed[3, 4, 0] == 255 else 255
    write_image(path, changed)
    assert scanned(tmp_path, channels=["nir"]).fingerprint != before


def test_fingerprint_changes_with_what_is_learnt_and_with_a_name(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, labels=(0, 1, 2))
    learnt: list[dict[str, list[int]]] = [
        {"classes": [1, 2]},
        {"classes": [2, 1]},
        {"classes": [1]},
        {"classes": [1], "ignore": [0]},
    ]
    prints = [scanned(tmp_path, **settings).fingerprint for settings in learnt]
    for folder in ("images", "gt", "nir"):
        (tmp_path / "train" / folder / "000.png").rename(tmp_path / "train" / folder / "zzz.png")
    prints.append(scanned(tmp_path, **learnt[0]).fingerprint)
    assert len(set(prints)) == len(prints)


def test_fingerprint_stays_when_files_are_touched_moved_or_repacked(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_set(tmp_path / "here", suffix=".tif")
    before = scanned(root).fingerprint
    for path in root.rglob("*.tif"):
        os.utime(path, (1, 1))
    assert scanned(root).fingerprint == before
    shutil.move(root, tmp_path / "there")
    assert scanned(tmp_path / "there").fingerprint == before
    monkeypatch.chdir(tmp_path)
    assert scanned(Path("there")).fingerprint == before
    for path in (tmp_path / "there" / "train" / "images").iterdir():
        write_image(path, read_image(path)[0], compress="deflate")
    assert scanned(tmp_path / "there").fingerprint == before


def test_fingerprint_does_not_depend_on_the_machine(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set(tmp_path)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr("segtune.data.reading.available_cpus", lambda threads=threads: threads)
        info = scanned(tmp_path, cache_dir="none")
        found.append((info.fingerprint, info.bands, info.pixels))
    assert found[0] == found[1]
