"""Splits: sequences of tiles, always the same part of them, and whether any file changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from segtune.data.tiles import Tile
from segtune.errors import InputError
from tests.data.empty import FOLDERS, data_set, found, names, split_with, tiles, touch


def test_a_split_is_a_sequence_of_tiles(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif", "b.tif", "c.tif")
    split = tiles(tmp_path)
    assert (len(split), split[-1].name, [tile.name for tile in split[::2]]) == (3, "c", ["a", "c"])
    assert split[1] == Tile(
        "b", tmp_path / "images" / "b.tif", tmp_path / "gt" / "b.tif", (tmp_path / "nir" / "b.tif",)
    )
    assert [tile.name for tile in split] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        split[3]


def test_limit_tiles_holds_for_every_split_and_val_samples_for_validation(tmp_path: Path) -> None:
    many = [f"{i:03d}" for i in range(40)]
    root = data_set(tmp_path / "set", many, many)
    more = data_set(tmp_path / "more", many, many)
    settings: dict[str, Any] = {"add_val_dirs": [str(more / "val")]}

    def counts(**others: int) -> list[int]:
        return [len(split) for split in found(root, **settings, **others).values()]

    assert counts() == [40, 40, 40]
    assert counts(limit_tiles=7) == [7, 7, 7]
    assert counts(val_samples=5) == [40, 5, 5]
    assert counts(limit_tiles=7, val_samples=5) == [7, 5, 5]
    assert counts(limit_tiles=70, val_samples=50) == [40, 40, 40]


def test_some_of_the_tiles_are_the_same_ones_always_spread_and_in_order(tmp_path: Path) -> None:
    many = [f"{i:03d}" for i in range(100)]
    root = data_set(tmp_path, train=many, val=many)
    kept = names(root, val_samples=20)["val"]
    assert kept == names(root, val_samples=20)["val"] == sorted(kept)
    assert kept == names(root, limit_tiles=20)["val"]
    assert int(kept[0]) < 25 < 75 < int(kept[-1])  # neighbours in name are neighbours on the ground
    assert set(names(root, val_samples=10)["val"]) < set(kept)
    assert [tile.mask.name for tile in found(root, val_samples=20)["val"]] == [f"{name}.png" for name in kept]


def test_tiles_that_join_or_leave_move_no_others(tmp_path: Path) -> None:
    many = [f"{i:03d}" for i in range(100)]
    root = data_set(tmp_path, train=many, val=many)
    before = set(names(root, val_samples=20)["val"])
    for folder in ("images", "gt"):
        touch(root / "val" / folder, "x1.png", "x2.png")
    joined = set(names(root, val_samples=20)["val"])
    assert len(before - joined) == len(joined & {"x1", "x2"})
    gone = next(name for name in many if name not in before)
    for folder in ("images", "gt"):
        (root / "val" / folder / f"{gone}.png").unlink()
    assert set(names(root, val_samples=20)["val"]) == joined


def test_identity_changes_with_any_file_and_with_nothing_else(tmp_path: Path) -> None:
    split_with(tmp_path / "set", "a.tif", "b.tif")
    split = tmp_path / "set"
    seen = [tiles(split).identity()]

    def changed() -> bool:
        now = tiles(split).identity()
        new = now not in seen
        seen.append(now)
        return new

    assert not changed()
    touch(split / "images", "notes.txt")
    assert not changed()
    for folder in FOLDERS:
        path = split / folder / "a.tif"
        path.write_bytes(b"x")
        assert changed()
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        assert changed()
    split_with(split, "c.tif")
    assert changed()
    split.rename(tmp_path / "moved")
    split = tmp_path / "moved"
    assert changed()


def test_a_file_that_goes_after_it_was_listed_is_named(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    split = tiles(tmp_path)
    (tmp_path / "nir" / "a.tif").unlink()
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'nir' / 'a.tif'}: cannot be read")):
        split.identity()


def test_identity_sees_content_of_the_same_size_and_time(tmp_path: Path) -> None:
    """Archives that give all files one time, unpacked over one another; uncompressed masks have one size."""
    split_with(tmp_path, "a.tif")
    mask = tmp_path / "gt" / "a.tif"
    found = []
    for content in (b"0", b"1"):
        mask.write_bytes(content)
        os.utime(mask, (0, 0))
        found.append(tiles(tmp_path).identity())
    assert found[0] != found[1]
