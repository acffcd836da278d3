"""What is known of a data set once it was read: the tiles' number and places, statistics, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.config import Alpha, RunConfig
from segtune.data.fitting import Fit
from segtune.data.labels import IMAGE, Band, Labels
from segtune.data.pairs import TRAIN, Split
from segtune.data.store import CachedTiles, DecodedTiles, TileStore

_AUTO_SIZE_LIMIT, _SIZE_MULTIPLE = 512, 32
_SAMPLED = 4096  # pixels of a tile that its extremes are looked for in


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared differences and range per band; merged pairwise (Chan et al. 1983)."""

    count: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> Moments | None:
        """Of (N, bands) valid pixels; None where there are none."""
        if not len(pixels):
            return None
        mean = pixels.mean(axis=0)
        return cls(len(pixels), mean, ((pixels - mean) ** 2).sum(axis=0), pixels.min(axis=0), pixels.max(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Those of both together."""
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * other.count / count,
            self.squares + other.squares + step**2 * self.count * other.count / count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


@dataclass(frozen=True)
class Lowest:
    """The lowest value of each band, the number of pixels that have it, and the lowest value above it."""

    value: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.int64]
    above: npt.NDArray[np.float64]  # infinite where there is none

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> Lowest:
        """Find them in (N, bands) pixels, at least one."""
        value = pixels.min(axis=0)
        lowest = pixels == value
        return cls(value, lowest.sum(axis=0), np.where(lowest, np.inf, pixels).min(axis=0))

    def merge(self, other: Lowest) -> Lowest:
        """Return the lowest values of both together."""
        value = np.minimum(self.value, other.value)
        pixels = self.pixels * (self.value == value) + other.pixels * (other.value == value)
        known = np.stack([self.value, self.above, other.value, other.above])
        return Lowest(value, pixels, np.where(known > value, known, np.inf).min(axis=0))


@dataclass(frozen=True)
class Extremes:
    """The lowest and the highest value of each band in a sample of the pixels, and where the others begin and end."""

    count: int  # pixels of the sample
    low: Lowest
    high: Lowest  # of the values times -1

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> Extremes | None:
        """Find them in a sample of (N, bands) valid pixels; None where there are none."""
        # An odd step does not meet the same columns in every row.
        sample = pixels[:: max(1, len(pixels) // _SAMPLED) | 1]
        return cls(len(sample), Lowest.of(sample), Lowest.of(-sample)) if len(sample) else None

    def merge(self, other: Extremes) -> Extremes:
        """Those of both together."""
        return Extremes(self.count + other.count, self.low.merge(other.low), self.high.merge(other.high))

    def outside(self, names: Sequence[str]) -> Iterator[tuple[str, float, float, tuple[float, float]]]:
        """Each band's name and lowest value, the share of that, and the range of the rest; the same of the highest.

        Where there are more than two values, the rest is without the other extreme. Bands of one value are left out.
        """
        for i, name in enumerate(names):
            low, high = float(self.low.above[i]), float(-self.high.above[i])
            if low < np.inf:
                yield name, float(self.low.value[i]), self.low.pixels[i] / self.count, (low, max(low, high))
                yield name, float(-self.high.value[i]), self.high.pixels[i] / self.count, (min(low, high), high)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        ends = {name: [array.tolist() for array in vars(getattr(self, name)).values()] for name in ("low", "high")}
        return {"count": self.count, **ends}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Extremes:
        """From what `plain` gave."""
        low, high = (Lowest(*map(np.array, content[name])) for name in ("low", "high"))
        return cls(content["count"], low, high)


@dataclass(frozen=True)
class SplitInfo:
    """What reading the tiles of one split showed."""

    pixels: dict[int, int]  # pixels of each label
    bands: tuple[int, ...]  # of each source
    uint8: bool  # all sources are
    largest: int  # side in pixels of the largest tile
    moments: Moments | None  # None where no pixel is valid
    digest: str  # of names and pixels
    shaded: tuple[int, ...]  # positions of tiles whose masks shade from label to label
    extremes: Extremes | None  # of training tiles, where any pixel is valid
    alpha: Alpha = "auto"  # what their alpha band was taken for, where their values decided
    alpha_band: int = 0  # its number

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        moments = self.moments and {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self.moments).items()
        }
        return vars(self) | {"moments": moments, "extremes": self.extremes and self.extremes.plain()}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> SplitInfo:
        """From what `plain` gave; exact, since JSON keeps every digit of a float."""
        moments: Any = content["moments"]
        if moments:
            arrays = {name: np.array(value) for name, value in moments.items() if name != "count"}
            moments = Moments(moments["count"], **arrays)
        pixels = {int(label): number for label, number in content["pixels"].items()}
        tuples = {name: tuple(content[name]) for name in ("bands", "shaded")}
        extremes = content["extremes"] and Extremes.from_plain(content["extremes"])
        return cls(**{**content, **tuples, "pixels": pixels, "moments": moments, "extremes": extremes})


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
        entry = self.entries.get((split, fit.kept))
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
