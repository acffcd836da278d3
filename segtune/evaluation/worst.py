"""The tiles of a split that a model gets most wrong."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from segtune.data.labels import IGNORED, Indices


@dataclass(frozen=True)
class WorstTile:
    """A tile among those that a model gets most wrong."""

    score: float
    index: int  # the tile's position in its split
    predicted: Indices  # (H, W)


class Worst:
    """The `count` tiles with the lowest scores of those seen; never holds more predictions than that."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tiles: list[WorstTile] = []

    def add(self, score: float, index: int, predicted: Indices) -> None:
        """Show it a tile: its score, its position in the split, and its predicted indices, (H, W)."""
        place = bisect_right(self._tiles, (score, index), key=lambda tile: (tile.score, tile.index))
        if place < self._count:
            # A copy: what was predicted may be a view of a whole batch.
            self._tiles.insert(place, WorstTile(score, index, predicted.copy()))
            del self._tiles[self._count :]

    def tiles(self) -> list[WorstTile]:
        """The worst tile first; of equal ones, the one that comes first in the split."""
        return list(self._tiles)


def wrong_pixels(predicted: Indices, truth: Indices) -> int:
    """Pixels of a tile, (H, W), that were predicted wrong, without those that are ignored: what it costs the score."""
    return int(np.count_nonzero((predicted != truth) & (truth != IGNORED)))
