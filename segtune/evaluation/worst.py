"""Find the tiles of a split that a model predicts worst."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from segtune.data.labels import IGNORED, Indices


@dataclass(frozen=True)
class WorstTile:
    """A tile that a model predicts badly."""

    score: float
    index: int  # the tile's position in its split
    predicted: Indices  # (H, W)


class Worst:
    """The `count` tiles with the lowest scores so far; only their predictions are kept in memory."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tiles: list[WorstTile] = []

    def add(self, score: float, index: int, predicted: Indices) -> None:
        """Add a tile: its score, its position in the split, and its predicted indices, (H, W)."""
        place = bisect_right(self._tiles, (score, index), key=lambda tile: (tile.score, tile.index))
        if place < self._count:
            # A copy, because the prediction may be a view that keeps a whole batch in memory.
            self._tiles.insert(place, WorstTile(score, index, predicted.copy()))
            del self._tiles[self._count :]

    def note(self, index: int, predicted: Indices, truth: Indices) -> None:
        """Add a tile with its number of wrong pixels, the more the worse; not one without any."""
        if wrong := wrong_pixels(predicted, truth):
            self.add(-wrong, index, predicted)

    def tiles(self) -> list[WorstTile]:
        """Return the tiles, the worst one first; equal ones in the order of the split."""
        return list(self._tiles)


def wrong_pixels(predicted: Indices, truth: Indices) -> int:
    """Return how many pixels of a tile, (H, W), were predicted wrong; ignored pixels do not count."""
    return int(np.count_nonzero((predicted != truth) & (truth != IGNORED)))
