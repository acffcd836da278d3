"""Sizes of tiles by the headers of their files: nothing is decoded."""

from __future__ import annotations

from pathlib import Path

from segtune.data.fitting import Fit
from segtune.data.reading import Header, read_header
from segtune.data.threads import reading_threads
from segtune.data.tiles import Split, Tile
from segtune.errors import InputError
from segtune.machine import available_cpus

_SAMPLED_HEADERS = 64  # tiles that sizes are estimated from


def largest_side(tiles: Split) -> int:
    """Return the side in pixels of the largest tile; 1 where no header can be read."""
    with reading_threads(available_cpus()) as pool:
        headers = pool.map(lambda tile: _header(tile.image), tiles)
        return max((max(header.height, header.width) for header in headers if header), default=1)


def kept_bytes(tiles: Split, fit: Fit, training: bool) -> float:
    """Estimate the bytes that a cache entry of these tiles takes."""
    sample = tiles[:: max(1, len(tiles) // _SAMPLED_HEADERS)]
    sizes = [size for tile in sample if (size := _tile_bytes(tile, fit, training))]
    return sum(sizes) / max(1, len(sizes)) * len(tiles)


def _header(path: Path) -> Header | None:
    """Read the header of a file; None where it is unreadable, which the scan of the tiles reports."""
    try:
        return read_header(path)
    except InputError:
        return None


def _tile_bytes(tile: Tile, fit: Fit, training: bool) -> int:
    """Return the bytes that the cache keeps of a tile."""
    headers = [_header(path) for path in (tile.image, *tile.channels)]
    image = headers[0]
    if not image:
        return 0
    height, width = fit.inner(image.height, image.width)
    mask = height * width if training else image.height * image.width
    return sum(height * width * header.bands * header.itemsize for header in headers if header) + mask
