"""One pass over a data set before anything is trained: is it sound, what does it hold, what are its statistics.

A search's driver makes it once; the trials trust it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.pairs import Tile, find_data_set
from segtune.data.reading import Image, Valid, read_tile
from segtune.errors import InputError, first_few
from segtune.machine import available_cpus
from segtune.schema import Band, Labels

IMAGE = "image"  # the name of the image's own bands among the channels
_MOST_MISTAKES = 5  # of one kind, shown by name
_AUTO_SIZE_LIMIT, _SIZE_MULTIPLE = 512, 32

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DataInfo:
    """What a scan found out."""

    tiles: dict[str, list[Tile]]  # by split
    labels: Labels
    pixels: dict[str, dict[int, int]]  # by split: pixels of each label
    bands: tuple[Band, ...]
    uint8: bool  # all sources are uint8, else batches are float32
    largest: int  # side in pixels of the largest training tile
    fingerprint: str  # of names and pixels of all tiles, and of what is learnt

    def sources(self, channels: Sequence[str]) -> list[int]:
        """Positions, among a tile's sources, of the image and of the extra channels asked for."""
        known = list(dict.fromkeys(b.name.split(":")[0] for b in self.bands))
        return [known.index(name) for name in (IMAGE, *channels)]

    def input_bands(self, channels: Sequence[str]) -> tuple[Band, ...]:
        """The bands that a network with these extra channels sees, in its order."""
        by_source: dict[str, list[Band]] = {}
        for band in self.bands:
            by_source.setdefault(band.name.split(":")[0], []).append(band)
        return tuple(band for name in (IMAGE, *channels) for band in by_source[name])

    def image_size(self) -> int:
        """The image_size of runs that name none: the largest tile's, at most 512, a multiple of 32."""
        side = min(self.largest, _AUTO_SIZE_LIMIT)
        return -(-side // _SIZE_MULTIPLE) * _SIZE_MULTIPLE


@dataclass
class _Moments:
    """Count, mean, sum of squared differences and range per band; merged pairwise (Chan et al. 1983)."""

    count: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> _Moments | None:
        """Of (N, bands) valid pixels; None where there are none."""
        if not len(pixels):
            return None
        mean = pixels.mean(axis=0)
        return cls(len(pixels), mean, ((pixels - mean) ** 2).sum(axis=0), pixels.min(axis=0), pixels.max(axis=0))

    def merge(self, other: _Moments) -> _Moments:
        count = self.count + other.count
        step = other.mean - self.mean
        return _Moments(
            count,
            self.mean + step * other.count / count,
            self.squares + other.squares + step**2 * self.count * other.count / count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


@dataclass
class _Seen:
    """What reading one tile showed, or the mistake that it met."""

    mistake: str | None = None
    digest: bytes = b""
    labels: dict[int, int] | None = None
    moments: _Moments | None = None
    bands: tuple[int, ...] = ()
    uint8: bool = True
    side: int = 0


def scan(config: RunConfig, channels: Sequence[str] | None = None, progress: Progress | None = None) -> DataInfo:
    """Read every tile of train and val once.

    `channels` are those of a whole search, where they are searched; by default the run's own. Raises InputError
    with every kind of mistake found: files that cannot be read, sizes and bands that differ, a class that no
    training mask contains.
    """
    channels = list(config.channels if channels is None else channels)
    tiles = find_data_set(config, channels)
    seen = _read_all(tiles, progress)
    mistakes = [item.mistake for split in tiles for item in seen[split] if item.mistake]
    if mistakes:
        rest = len(mistakes) - _MOST_MISTAKES
        more = [f"{config.dataset}: {rest} more files with mistakes"] if rest > 0 else []
        raise InputError(mistakes[:_MOST_MISTAKES] + more)
    _same_bands(tiles, seen)
    pixels = {split: _pixels(seen[split]) for split in tiles}
    _check_classes(config, pixels)
    every = [item for split in tiles for item in seen[split]]
    return DataInfo(
        # Workers may have another working folder.
        tiles={split: [tile.absolute() for tile in found] for split, found in tiles.items()},
        labels=Labels.from_masks(config.classes, config.ignore, pixels["train"]),
        pixels=pixels,
        bands=_bands(seen["train"], channels, config.dataset),
        uint8=all(item.uint8 for item in every),
        largest=max(item.side for item in seen["train"]),
        fingerprint=_fingerprint(config, tiles, seen),
    )


def _read_all(tiles: dict[str, list[Tile]], progress: Progress | None) -> dict[str, list[_Seen]]:
    total = sum(len(found) for found in tiles.values())
    done = 0
    seen: dict[str, list[_Seen]] = {}
    with ThreadPoolExecutor(available_cpus()) as pool:
        for split, found in tiles.items():
            seen[split] = []
            for item in _mapped(pool, found, split == "train"):
                seen[split].append(item)
                done += 1
                if progress:
                    progress(done, total)
    return seen


def _mapped(pool: ThreadPoolExecutor, tiles: list[Tile], statistics: bool) -> Iterator[_Seen]:
    """`pool.map` in chunks, so that Ctrl-C does not wait for every tile of a large set."""
    remaining = iter(tiles)
    while chunk := list(islice(remaining, 256)):
        yield from pool.map(lambda tile: _look(tile, statistics), chunk)


def _look(tile: Tile, statistics: bool) -> _Seen:
    try:
        sources, valid, mask = read_tile(tile)
    except InputError as error:
        return _Seen(mistake=error.mistakes[0])
    digest = hashlib.blake2b(tile.name.encode(), digest_size=16)
    for array in (*sources, valid, mask):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return _Seen(
        digest=digest.digest(),
        labels=_count_labels(mask),
        moments=_moments(sources, valid) if statistics else None,
        bands=tuple(source.shape[2] for source in sources),
        uint8=all(source.dtype == np.uint8 for source in sources),
        side=max(mask.shape),
    )


def _count_labels(mask: npt.NDArray[np.integer]) -> dict[int, int]:
    if mask.dtype.kind == "u" and mask.dtype.itemsize <= 2:  # counting beats the sorting of np.unique
        counts = np.bincount(mask.ravel())
        labels = np.flatnonzero(counts)
        return dict(zip(labels.tolist(), counts[labels].tolist(), strict=True))
    labels, counts = np.unique(mask, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def _moments(sources: list[Image], valid: Valid) -> _Moments | None:
    return _Moments.of(np.concatenate([source[valid].astype(np.float64) for source in sources], axis=1))


def _same_bands(tiles: dict[str, list[Tile]], seen: dict[str, list[_Seen]]) -> None:
    bands = Counter(item.bands for split in seen.values() for item in split)
    if len(bands) > 1:
        usual = bands.most_common(1)[0][0]
        odd = [
            f"{tile.image} ({item.bands[0]})"
            for split in tiles
            for tile, item in zip(tiles[split], seen[split], strict=True)
            if item.bands != usual
        ]
        raise InputError(f"{len(odd)} images do not have {usual[0]} bands as the others have: {first_few(odd)}")


def _pixels(seen: list[_Seen]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for item in seen:
        total.update(item.labels or {})
    return dict(sorted(total.items()))


def _check_classes(config: RunConfig, pixels: dict[str, dict[int, int]]) -> None:
    root = Path(config.dataset)
    held = first_few(map(str, pixels["train"]), 12)
    mistakes = [
        f"classes: no mask in {root / 'train' / config.masks_dir} contains {label}; the masks hold {held}"
        for label in config.classes
        if label not in pixels["train"]
    ]
    if not mistakes and not set(config.classes) & set(pixels["val"]):
        mistakes = [
            f"{root / 'val' / config.masks_dir}: no mask contains any of the classes "
            f"{config.classes}, so nothing can be scored"
        ]
    if mistakes:
        raise InputError(mistakes)


def _bands(seen: list[_Seen], channels: Sequence[str], dataset: str) -> tuple[Band, ...]:
    total: _Moments | None = None
    for item in seen:
        if item.moments:
            total = total.merge(item.moments) if total else item.moments
    if total is None:
        raise InputError(f"{dataset}: the training images hold no valid pixel (all NaN or nodata)")
    names = [f"{IMAGE}:{i + 1}" for i in range(seen[0].bands[0])] + list(channels)
    # A band that never varies carries nothing; dividing by one instead of zero leaves it at zero.
    std = np.sqrt(total.squares / total.count)
    std[std == 0] = 1.0
    rows = zip(names, total.mean, std, total.low, total.high, strict=True)
    return tuple(Band(name, *(float(value) for value in values)) for name, *values in rows)


def _fingerprint(config: RunConfig, tiles: dict[str, list[Tile]], seen: dict[str, list[_Seen]]) -> str:
    digest = hashlib.blake2b(repr((config.classes, config.ignore)).encode(), digest_size=6)
    for split in tiles:
        for item in seen[split]:
            digest.update(item.digest)
    return digest.hexdigest()
