"""Stores of decoded tiles: from the cache, or read from the files each time.

Training and evaluation ask a store for `image(i)` and `target(i)` and need not know where tiles lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.bands import Band, check_count, check_types, image_bands
from segtune.data.cache_entry import Entry
from segtune.data.fitting import Fit, decode
from segtune.data.labels import Indices, Labels
from segtune.data.reading import Image, read_tile
from segtune.data.tiles import ReadSettings, Tile
from segtune.errors import InputError, TileError, one_line

_MOST_MERGED = 64  # bands; OpenCV takes an array of very many for one of three dimensions
Array = npt.NDArray[np.uint8 | np.float32]


class TileStore(Protocol):
    """The tiles of one split."""

    decoded: bool  # tiles need no decoding, so loader processes would only copy them

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the name of a tile."""

    def image(self, index: int) -> Array:
        """Return a tile's image, uint8 or float32, not normalized: (size, size, bands), or the whole tile for crops."""

    def target(self, index: int) -> Indices:
        """Return a tile's mask as uint8 indices, of the image's size in training, of the mask's own in evaluation."""


class CachedTiles:
    """Tiles from the cache; safe to pickle and to fork.

    Parameters
    ----------
    path: the entry's folder.
    sources: which of a tile's sources (image, extra channels) the network sees, in its order.
    fit: how tiles become squares.
    labels: how mask labels become indices.
    uint8: images are uint8, else float32.
    padding: the index of padding in training; None in evaluation, where masks keep their size.
    """

    decoded = True

    def __init__(
        self, path: Path, labels: Labels, sources: Sequence[int], fit: Fit, uint8: bool, padding: int | None
    ) -> None:
        self._entry, self._labels = Entry(path), labels
        self._sources, self._fit, self._padding = list(sources), fit, padding
        self._dtype = np.uint8 if uint8 else np.float32

    def __len__(self) -> int:
        return len(self._entry)

    def name(self, index: int) -> str:
        """Return the name of a tile."""
        return self._entry.name(index)

    def image(self, index: int) -> Array:
        """Return the image of a tile."""
        parts: list[Array] = [self._part(index, source).astype(self._dtype, copy=False) for source in self._sources]
        return self._fit.pad_image(joined(parts))

    def target(self, index: int) -> Indices:
        """Return the mask of a tile as indices."""
        target = self._labels.to_indices(self._part(index, -1))
        return target if self._padding is None else self._fit.pad_target(target, self._padding)

    def _part(self, index: int, part: int) -> npt.NDArray[Any]:
        try:
            return self._entry.part(index, part)
        except OSError as error:  # the files were deleted before this process opened them
            raise TileError(f"{self._entry.path}: decoded tiles cannot be read ({one_line(error)})") from None


class PickedTiles:
    """Some of the tiles of another store.

    Parameters
    ----------
    store: the other store.
    positions: of the tiles in it, in the order in which they count here.
    """

    def __init__(self, store: TileStore, positions: Sequence[int]) -> None:
        self._store, self._positions = store, positions
        self.decoded = store.decoded

    def __len__(self) -> int:
        return len(self._positions)

    def name(self, index: int) -> str:
        """Return the name of a tile."""
        return self._store.name(self._positions[index])

    def image(self, index: int) -> Array:
        """Return the image of a tile."""
        return self._store.image(self._positions[index])

    def target(self, index: int) -> Indices:
        """Return the mask of a tile as indices."""
        return self._store.target(self._positions[index])


def joined(parts: Sequence[Array]) -> Array:
    """Join images, (H, W, bands), of one type along their bands."""
    if len(parts) == 1:
        return parts[0]
    if sum(part.shape[2] for part in parts) > _MOST_MERGED:
        return np.concatenate(parts, axis=2)
    merged: Array = cv2.merge(parts)  # numpy, which copies a few bytes at a time, needs five times as long
    return merged


class DecodedTiles:
    """Tiles that are read from their files whenever they are asked for.

    Parameters are those of `CachedTiles`, and

    tiles: the split's tiles.
    bands: those that the network is trained on; InputError for a tile with others.
    nodata: the value for missing data in images and channels, besides the one that files declare.
    order: the bands of the image files to take, numbered from 1; empty for all, as they lie.

    Raises TileError where a tile's files cannot be read.
    """

    decoded = False

    def __init__(
        self,
        tiles: Sequence[Tile],
        labels: Labels,
        bands: Sequence[Band],
        sources: Sequence[int],
        fit: Fit,
        uint8: bool,
        padding: int | None,
        nodata: float | None = None,
        order: tuple[int, ...] = (),
    ) -> None:
        self._tiles, self._labels, self._sources = tiles, labels, list(sources)
        self._fit, self._padding = fit, padding
        self._dtype = np.uint8 if uint8 else np.float32
        self._bands, self._names = bands, [band.name for band in bands]
        self._settings = ReadSettings(nodata, bands=image_bands(self._names), order=order)
        self._last: tuple[int, Array, Indices] | None = None

    def __len__(self) -> int:
        return len(self._tiles)

    def name(self, index: int) -> str:
        """Return the name of a tile."""
        return self._tiles[index].name

    def image(self, index: int) -> Array:
        """Return the image of a tile."""
        return self._decode(index)[0]

    def target(self, index: int) -> Indices:
        """Return the mask of a tile as indices."""
        return self._decode(index)[1]

    def _decode(self, index: int) -> tuple[Array, Indices]:
        # Image and target are asked for one after the other: read the files once for both.
        if self._last is None or self._last[0] != index:
            tile = self._tiles[index]
            try:
                read = read_tile(tile, self._settings)
            except InputError as error:
                raise TileError(error.mistakes) from None
            seen = read._replace(sources=[read.sources[i] for i in self._sources])
            self._check(tile, seen.sources)
            kept = decode(seen, self._fit, training=self._padding is not None)
            target = self._labels.to_indices(kept.labels)
            image = joined([part.astype(self._dtype, copy=False) for part in kept.sources])
            if self._padding is not None:
                target = self._fit.pad_target(target, self._padding)
            self._last = index, self._fit.pad_image(image), target
        return self._last[1:]

    def _check(self, tile: Tile, sources: list[Image]) -> None:
        check_count(tile.image, sum(source.shape[2] for source in sources), self._names)
        check_types(tile.image, sources, self._bands, self._dtype == np.uint8)  # wider numbers would overflow
