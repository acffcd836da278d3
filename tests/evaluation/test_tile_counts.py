"""What was counted on each tile is kept exactly, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segtune.errors import InputError
from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.tile_counts import read_tiles, write_tiles

COUNTS = TileCounts(np.random.default_rng(0).integers(0, 2**40, size=(3, 3, 6)))
NAMES = ["a", "Ödland_02", "c" * 50]


def test_counts_and_names_come_back_exactly(tmp_path: Path) -> None:
    write_tiles(tmp_path / "tiles.npz", NAMES, COUNTS)
    names, counts = read_tiles(tmp_path / "tiles.npz")
    assert names == NAMES
    assert (counts.numbers == COUNTS.numbers).all()
    assert [path.name for path in tmp_path.iterdir()] == ["tiles.npz"]


def test_a_thousand_tiles_are_small(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    write_tiles(
        tmp_path / "t", [f"tile_{n:05d}" for n in range(1000)], TileCounts(random.integers(0, 9999, (1000, 3, 6)))
    )
    assert (tmp_path / "t").stat().st_size < 60_000


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "shape"])
def test_a_damaged_file_is_one_clear_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "tiles.npz"
    write_tiles(path, NAMES, COUNTS)
    if damage == "missing":
        path.unlink()
    elif damage == "shape":
        np.savez(path, names=np.array(["a"]), numbers=COUNTS.numbers)
    else:
        path.write_bytes(path.read_bytes()[:200] if damage == "cut" else b"no counts")
    with pytest.raises(InputError, match=r"tiles\.npz: (is missing|damaged, not the counts of tiles \()") as error:
        read_tiles(path)
    assert len(error.value.mistakes) == 1
