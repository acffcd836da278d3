"""Decoded tiles, fitted to the network's square: the seam behind which tiles are kept.

Everything above asks a store for `image(i)` and `target(i)` and does not know where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.pairs import Tile
from segtune.data.reading import Image, Valid, read_tile
from segtune.errors import InputError
from segtune.metrics import IGNORED
from segtune.schema import Band, Labels

Array = npt.NDArray[np.uint8 | np.float32]
Indices = npt.NDArray[np.uint8]


class TileStore:
    """Tiles of one split, decoded once and held in memory.

    Parameters
    ----------
    tiles: the split's tiles.
    labels: how mask labels become indices.
    sources: which of a tile's sources (image, extra channels) the network sees, in its order.
    bands: what the network was or will be trained on; pixels without data get a band's mean, which normalisation
        turns into zero.
    size: side in pixels of the square that images are resized to.
    uint8: keep images as uint8 (all sources are), else as float32.
    fit_masks: resize masks too (training); else they keep their own size (evaluation).
    threads: threads that decode.

    Raises InputError for a tile that cannot be read, or whose bands or type are others than these.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        labels: Labels,
        sources: Sequence[int],
        bands: Sequence[Band],
        size: int,
        uint8: bool,
        fit_masks: bool,
        threads: int = 1,
    ) -> None:
        self.tiles = list(tiles)
        self._labels, self._sources, self._size = labels, list(sources), size
        self._dtype = np.uint8 if uint8 else np.float32
        self._names = [band.name for band in bands]
        means = [band.mean for band in bands]
        self._fill = np.asarray(np.round(means) if uint8 else means, dtype=self._dtype)
        self._fit_masks = fit_masks
        with ThreadPoolExecutor(threads) as pool:
            decoded = list(pool.map(self._decode, self.tiles))
        self._images = [image for image, _ in decoded]
        self._targets = [target for _, target in decoded]

    def __len__(self) -> int:
        return len(self.tiles)

    def image(self, index: int) -> Array:
        """A tile's image, (size, size, bands), uint8 or float32, not yet normalised."""
        return self._images[index]

    def target(self, index: int) -> Indices:
        """A tile's mask as indices, uint8: (size, size), or (H, W) of the mask's own."""
        return self._targets[index]

    def _decode(self, tile: Tile) -> tuple[Array, Indices]:
        read, valid, mask = read_tile(tile)
        sources = [read[i] for i in self._sources]
        self._check(tile, sources)
        target = self._labels.to_indices(mask)
        target[~valid] = IGNORED
        if self._fit_masks:
            target = cv2.resize(target, (self._size, self._size), interpolation=cv2.INTER_NEAREST_EXACT)
        return self._fit(sources, valid), target

    def _check(self, tile: Tile, sources: list[Image]) -> None:
        found = sum(source.shape[2] for source in sources)
        if found != len(self._names):
            raise InputError(
                f"{tile.image}: has {found} bands in all, but the model was trained on {len(self._names)} "
                f"({', '.join(self._names)})"
            )
        # Wider numbers would wrap around.
        if self._dtype == np.uint8 and any(source.dtype != np.uint8 for source in sources):
            types = " and ".join(sorted({source.dtype.name for source in sources}))
            raise InputError(f"{tile.image}: pixels are {types}, but the model was trained on uint8")

    def _fit(self, sources: list[Image], valid: Valid) -> Array:
        image = np.concatenate([source.astype(self._dtype, copy=False) for source in sources], axis=2)
        image[~valid] = self._fill
        height, width = image.shape[:2]
        if (height, width) == (self._size, self._size):
            return image
        shrinks = min(height, width) > self._size
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        # OpenCV averages areas of at most four bands at a time.
        parts = [
            cv2.resize(image[..., first : first + 4], (self._size, self._size), interpolation=method)
            for first in range(0, image.shape[2], 4)
        ]
        return np.dstack(parts)
