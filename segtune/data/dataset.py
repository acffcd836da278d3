"""What is known of a data set once it was read: the tiles' number and places, statistics, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segtune.config import RunConfig
from segtune.data.bands import IMAGE, Band
from segtune.data.fitting import Fit
from segtune.data.labels import Labels
from segtune.data.store import CachedTiles, DecodedTiles, TileStore
from segtune.data.tiles import TRAIN, Split

_AUTO_SIZE_LIMIT, _SIZE_MULTIPLE = 512, 32


@dataclass(frozen=True)
class DataInfo:
    """What a scan found out; the trials of a search trust it."""

    tiles: Mapping[str, Split]  # by split; empty once the cache holds them all and only `counts` matter
    counts: Mapping[str, int]  # tiles by split
    left_out: Mapping[str, int]  # tiles of each split that limit_tiles and val_samples leave out
    labels: Labels
    pixels: Mapping[str, Mapping[int, int]]  # by split: pixels of each label
    channels: tuple[str, ...]  # the extra channels that were scanned
    bands: tuple[Band, ...]
    uint8: bool  # all sources are uint8, else batches are float32
    largest: int  # side in pixels of the largest training tile
    fingerprint: str  # of names and pixels of all tiles, and of what is learnt
    entries: Mapping[tuple[str, str], Path]  # by split and what is kept: where the cache holds the decoded tiles
    wanted: tuple[str, ...]  # what of the tiles the runs on them need kept

    def counted(self) -> str:
        """The tiles of each split in words: ``64 train, 10 val tiles (14 val left out)``."""
        tiles, left_out = (
            ", ".join(f"{number} {split}" for split, number in numbers.items() if number)
            for numbers in (self.counts, self.left_out)
        )
        return f"{tiles} tiles ({left_out} left out)" if left_out else f"{tiles} tiles"

    def sources(self, channels: Sequence[str]) -> list[int]:
        """Positions, among a tile's sources, of the image and of the extra channels asked for."""
        known = (IMAGE, *self.channels)
        return [known.index(name) for name in (IMAGE, *channels)]

    def input_bands(self, channels: Sequence[str]) -> tuple[Band, ...]:
        """The bands that a network with these extra channels sees, in its order."""
        by_source: dict[str, list[Band]] = {}
        for band in self.bands:
            by_source.setdefault(band.name.split(":")[0], []).append(band)
        return tuple(band for name in (IMAGE, *channels) for band in by_source[name])

    def image_size(self) -> int:
        """The image_size of runs that name none: the largest tile's, at most 512, a multiple of 32."""
        return image_size(self.largest)

    def store(self, split: str, config: RunConfig) -> TileStore:
        """A split's tiles as a run sees them, whose image_size is known."""
        fit, sources = Fit.of(config), self.sources(config.channels)
        padding = self.labels.padding if split == TRAIN else None
        entry = self.entries.get((split, fit.key))
        if entry:
            return CachedTiles(entry, self.labels, sources, fit, self.uint8, padding)
        bands = self.input_bands(config.channels)
        tiles, nodata = self.tiles[split], config.nodata
        return DecodedTiles(tiles, self.labels, bands, sources, fit, self.uint8, padding, nodata)

    def light(self) -> DataInfo:
        """The same without the list of tiles where the cache has them: what is sent to every trial."""
        whole = all((split, what) in self.entries for split in self.counts for what in self.wanted)
        return replace(self, tiles={}) if whole else self


def image_size(largest: int) -> int:
    """The image_size for tiles of which the largest side is this."""
    return -(-min(largest, _AUTO_SIZE_LIMIT) // _SIZE_MULTIPLE) * _SIZE_MULTIPLE
