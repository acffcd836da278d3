"""Folders of runs."""

from __future__ import annotations

from pathlib import Path

from segtune.files.folders import RunFolder


def test_new_folders_of_the_same_name_get_numbers(tmp_path: Path) -> None:
    folders = [RunFolder.new(tmp_path / "logs", "unet") for _ in range(3)]
    assert [folder.path.name for folder in folders] == ["unet", "unet_2", "unet_3"]
