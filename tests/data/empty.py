"""Data sets of empty files: pairing uses names only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.data.pairs import find_tiles
from segtune.data.splits import find_data_set
from segtune.data.tiles import Layout, Split
from segtune.errors import InputError

FOLDERS = ("images", "gt", "nir")


def touch(folder: Path, *names: str) -> None:
    """Make empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def split_with(root: Path, *names: str) -> Path:
    """Make a split whose three folders hold the same names."""
    for folder in FOLDERS:
        touch(root / folder, *names)
    return root


def tiles(split: Path, channels: tuple[str, ...] = ("nir",)) -> Split:
    return find_tiles(split, Layout(channels=channels))


def mistakes(split: Path, channels: tuple[str, ...] = ("nir",)) -> list[str]:
    with pytest.raises(InputError) as caught:
        tiles(split, channels)
    return caught.value.mistakes


def data_set(root: Path, train: Sequence[str] = ("a",), val: Sequence[str] = ("a",)) -> Path:
    """Make a data set of empty files without extra channels."""
    for split, names in (("train", train), ("val", val)):
        for folder in ("images", "gt"):
            touch(root / split / folder, *(f"{name}.png" for name in names))
    return root


def found(root: Path, **settings: Any) -> dict[str, Split]:
    return find_data_set(RunConfig(dataset=str(root), **settings), [])


def names(root: Path, **settings: Any) -> dict[str, list[str]]:
    return {split: [tile.name for tile in tiles] for split, tiles in found(root, **settings).items()}


def refused(root: Path, **settings: Any) -> str:
    """Return the only mistake of a data set."""
    with pytest.raises(InputError) as caught:
        found(root, **settings)
    (text,) = caught.value.mistakes
    return text
