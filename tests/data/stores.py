"""Stores of a data set on disk: from the cache, or decoded from the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.data.store import TileStore
from segtune.errors import InputError


def scanned(root: Path, **settings: Any) -> DataInfo:
    return scan(RunConfig(dataset=str(root), **settings))


def store_of(root: Path, cached: bool = True, split: str = "train", **settings: Any) -> TileStore:
    """Return the store of a run with these settings."""
    config = RunConfig(dataset=str(root), cache_dir=None if cached else "none", **settings)
    info = scan(config)
    store = info.store(split, config.model_copy(update={"image_size": config.image_size or info.image_size()}))
    assert store.decoded is cached
    return store


def mistakes(root: Path, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        scanned(root, **settings)
    return caught.value.mistakes
