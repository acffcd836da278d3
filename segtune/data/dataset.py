"""What is known of a data set after a scan: number and places of tiles, statistics, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segtune.config import RunConfig
from segtune.data.bands import IMAGE, Band
from segtune.data.findings import TileFacts
from segtune.data.fitting import Fit
from segtune.data.labels import Labels
from segtune.data.store import CachedTiles, DecodedTiles, PickedTiles, TileStore
from segtune.data.tiles import TRAIN, Split

_AUTO_SIZE_LIMIT, _SIZE_MULTIPLE = 512, 32


@dataclass(frozen=True)
class DataInfo:
    """What a scan found; the trials of a search rely on it."""

    tiles: Mapping[str, Split]  # by split; empty where the cache holds all tiles
    counts: Mapping[str, int]  # tiles by split
    left_out: Mapping[str, int]  # tiles that limit_tiles and val_samples leave out, by split
    labels: Labels
    pixels: Mapping[str, Mapping[int, int]]  # pixels of each label, by split
    holders: Mapping[int, tuple[int, ...]]  # positions of the training tiles that hold each class
    channels: tuple[str, ...]  # extra channels that were scanned
    bands: tuple[Band, ...]
    uint8: bool  # all sources are uint8; otherwise batches are float32
    largest: int  # side in pixels of the largest training tile
    resolution: float | None  # metres per pixel of the first training tile; None where its place is not known
    fingerprint: str  # digest of the names and pixels of all tiles, and of classes and ignored labels
    entries: Mapping[tuple[str, str], Path]  # folders of cache entries, by split and key
    wanted: tuple[str, ...]  # keys of the entries that runs need
    # Positions of the tiles that count, by split, among those that were scanned; a split without has all of them.
    picked: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    scanned: str | None = None  # fingerprint of all tiles that were scanned, where these are some of them
    each: tuple[TileFacts, ...] = ()  # of each training tile, while tiles are dealt to folds
    folds: tuple[DataInfo, ...] = ()  # what the run of each fold trains and validates on, in a search with folds

    def counted(self) -> str:
        """List the number of tiles of each split: ``64 train, 10 val tiles (14 val left out)``."""
        tiles, left_out = (
            ", ".join(f"{number} {split}" for split, number in numbers.items() if number)
            for numbers in (self.counts, self.left_out)
        )
        return f"{tiles} tiles ({left_out} left out)" if left_out else f"{tiles} tiles"

    def sources(self, channels: Sequence[str]) -> list[int]:
        """Return the positions of the image and of these extra channels among the sources of a tile."""
        known = (IMAGE, *self.channels)
        return [known.index(name) for name in (IMAGE, *channels)]

    def input_bands(self, channels: Sequence[str]) -> tuple[Band, ...]:
        """Return the bands that a network with these extra channels sees, in their order."""
        by_source: dict[str, list[Band]] = {}
        for band in self.bands:
            by_source.setdefault(band.name.split(":")[0], []).append(band)
        return tuple(band for name in (IMAGE, *channels) for band in by_source[name])

    def image_size(self) -> int:
        """Return the image_size of runs that set none: the largest tile's side, at most 512, as a multiple of 32."""
        return image_size(self.largest)

    def store(self, split: str, config: RunConfig) -> TileStore:
        """Return the tiles of a split as a run sees them; the run's image_size must be set."""
        scanned = self._scanned(split, config)
        return PickedTiles(scanned, self.picked[split]) if split in self.picked else scanned

    def _scanned(self, split: str, config: RunConfig) -> TileStore:
        fit, sources = Fit.of(config), self.sources(config.channels)
        padding = self.labels.padding if split == TRAIN else None
        entry = self.entries.get((split, fit.key))
        if entry:
            return CachedTiles(entry, self.labels, sources, fit, self.uint8, padding)
        bands = self.input_bands(config.channels)
        tiles, nodata = self.tiles[split], config.nodata
        return DecodedTiles(tiles, self.labels, bands, sources, fit, self.uint8, padding, nodata)

    def light(self, with_holders: bool) -> DataInfo:
        """Return a copy to send to another process: without the list of tiles where the cache holds them all.

        `holders` is needed by runs that draw rare classes more often, or paste their objects.
        """
        whole = all((split, what) in self.entries for split in self.counts for what in self.wanted)
        holders = self.holders if with_holders else {}
        folds = tuple(fold.light(with_holders) for fold in self.folds)
        return replace(self, holders=holders, tiles={} if whole else self.tiles, folds=folds)

    def for_run(self, config: RunConfig) -> DataInfo:
        """Return a copy to send to the processes that train a run."""
        return self.light(with_holders=config.oversample == "rare" or config.mix == "copy_paste")


def image_size(largest: int) -> int:
    """Return the image_size for tiles whose largest side is this."""
    return -(-min(largest, _AUTO_SIZE_LIMIT) // _SIZE_MULTIPLE) * _SIZE_MULTIPLE
