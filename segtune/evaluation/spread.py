"""Pick the worst, the median and the best tiles of a split."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segtune.data.labels import Indices
from segtune.evaluation.metrics import tile_iou

_FAST = 1  # level of compression: masks shrink to a percent at any level
Place = Literal["worst", "median", "best"]


@dataclass(frozen=True)
class SpreadTile:
    """A tile with its place among all, its score and its prediction."""

    place: Place
    iou: float
    index: int  # the tile's position in its split
    predicted: Indices  # (H, W)


class Spread:
    """The predictions of all tiles that hold a class, compressed, because the median is known only at the end."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._tiles: list[tuple[float, int, int, tuple[int, int], bytes]] = []

    def note(self, index: int, predicted: Indices, truth: Indices) -> None:
        """Add a tile: its position in the split, predicted and true indices, (H, W).

        A tile is left out if neither mask nor prediction holds a class: it has no score.
        """
        iou = tile_iou(predicted, truth, self._classes)
        if iou is not None:
            area = int(np.count_nonzero((truth > 0) & (truth <= self._classes)))
            height, width = predicted.shape
            self._tiles.append((iou, area, index, (height, width), zlib.compress(predicted.tobytes(), _FAST)))

    def clear(self) -> None:
        """Forget all tiles: the split is measured again."""
        self._tiles.clear()

    def tiles(self, each: int) -> list[SpreadTile]:
        """Return the worst tiles, those around the median and the best ones, at most `each` of a kind, none twice.

        Of tiles with equal scores, one with more pixels of classes counts as better.
        """
        order = sorted(self._tiles, key=lambda tile: tile[:3])
        each = min(each, max(1, len(order) // 3))
        middle = max(each, (len(order) - each) // 2)
        parts: list[tuple[Place, slice]] = [
            ("worst", slice(0, each)),
            ("median", slice(middle, min(middle + each, len(order) - each))),
            ("best", slice(max(each, len(order) - each), None)),
        ]
        return [
            SpreadTile(place, iou, index, np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape))
            for place, part in parts
            for iou, _, index, shape, packed in order[part]
        ]
