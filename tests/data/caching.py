"""A data set with its cache, and what the tests of the cache look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.reading import read_tile
from segtune.data.scan import scan
from segtune.data.tiles import Tile

TRAIN, VAL = 6, 4


class Counted:
    """Counts the tiles that are read; can be told to fail instead."""

    def __init__(self) -> None:
        self.tiles: list[str] = []
        self.refuse = False

    def __call__(self, tile: Tile, *settings: Any, **more: Any) -> Any:
        assert not self.refuse, f"{tile.image} is read"
        self.tiles.append(tile.name)
        return read_tile(tile, *settings, **more)


def config_of(root: Path, **settings: Any) -> RunConfig:
    """Return a run whose cache lies beside its data set."""
    given: dict[str, Any] = {"cache_dir": str(root.parent / "cache"), "image_size": 32}
    return RunConfig(dataset=str(root), **(given | settings))


def scanned(root: Path, **settings: Any) -> DataInfo:
    return scan(config_of(root, **settings))


def said(root: Path, **settings: Any) -> tuple[DataInfo, str]:
    """Scan a data set; return the findings and the lines that the scan said."""
    lines: list[str] = []
    return scan(config_of(root, **settings), say=lines.append), "\n".join(lines)


def content(root: Path, info: DataInfo, **settings: Any) -> list[bytes]:
    """Return everything that the stores give."""
    found = []
    for split in ("train", "val"):
        store = info.store(split, config_of(root, **settings))
        for index in range(len(store)):
            found += [store.name(index).encode(), store.image(index).tobytes(), store.target(index).tobytes()]
    return found


def entries(root: Path) -> set[Path]:
    return {path.parent for path in (root.parent / "cache").glob("*/*/*/data.bin")}


def hidden(folder: Path) -> list[Path]:
    """List unfinished folders, wherever they lie."""
    return list(folder.rglob(".*"))
