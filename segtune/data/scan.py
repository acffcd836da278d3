"""One pass over a data set before anything is trained: is it sound, what does it hold, what are its statistics.

The same pass decodes the tiles into the cache. What it showed is kept there too: the next run on the same files
starts at once.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio

from segtune.config import Alpha, RunConfig
from segtune.data.cache import FORMAT, Cache, EntryWriter
from segtune.data.checks import (
    Masks,
    absent_remarks,
    check_classes,
    fill_remarks,
    has_jpeg,
    mask_remarks,
    with_shades,
)
from segtune.data.fitting import Fit, decode
from segtune.data.georeference import check_georeferences
from segtune.data.info import DataInfo, Extremes, Moments, SplitInfo, image_size
from segtune.data.labels import IMAGE, Band, Labels
from segtune.data.masks import count_labels, looks_shaded
from segtune.data.pairs import TRAIN, Split, Tile, find_data_set, split_places
from segtune.data.reading import Header, Image, Valid, alpha_taken, read_header, read_tile, readable_at_once
from segtune.errors import InputError, counted, first_few
from segtune.machine import available_cpus

_MOST_MISTAKES = 5  # of one kind, shown by name
_SAMPLED_HEADERS = 64  # tiles that the needed size is estimated from
_SAMPLED_ALPHA = 32  # tiles whose alpha bands are looked at
_AHEAD = 2  # tiles decoded ahead of the one that is written, for each thread

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
Wanted = tuple[str, int | None]  # fit and image_size, None where it follows from the data
_Settings = tuple[float | None, Alpha]  # nodata and alpha, by which a tile is read
_Kind = tuple[tuple[int, ...], bool]  # of a tile: bands of each source, and whether all of them are uint8


def scan(
    config: RunConfig,
    channels: Sequence[str] | None = None,
    progress: Progress | None = None,
    wanted: Iterable[Wanted] | None = None,
    say: Say | None = None,
) -> DataInfo:
    """Know every tile: from the cache, or else by reading each one once, into the cache where there is room.

    Parameters
    ----------
    config: the run; with `channels` and `wanted` of a whole search, where those are searched.
    channels: extra channels that are read.
    progress: called with tiles read, and tiles to read.
    wanted: fits and sizes that the cache shall hold.
    say: gets a line on what the cache needs, or why there is none, and one on all that is odd about the data.

    Raises InputError with every kind of mistake found: files that cannot be read, sizes, bands and types that differ,
    files of a tile that lie elsewhere on the ground, a class that no training mask contains.
    """
    channels = tuple(config.channels if channels is None else channels)
    tiles = find_data_set(config, channels)
    say = say or (lambda line: None)
    reader = _Reader(config, channels, tiles, progress or (lambda done, total: None), say)
    seen, entries, kept = reader.read(wanted or [(config.fit, config.image_size)])
    pixels = {split: info.pixels for split, info in seen.items()}
    bands = _bands(seen[TRAIN], channels, config.dataset)
    masks = _masks(config, tiles, seen)
    check_classes(config, masks)
    unread = dict.fromkeys(line for split in tiles.values() for line in split.unread)
    for line in (
        *(f"warning: {line}" for line in unread),
        *fill_remarks(seen[TRAIN].extremes, [band.name for band in bands]),
        *mask_remarks(config, masks.values()),
        *absent_remarks(config, masks),
    ):
        say(line)
    return DataInfo(
        tiles=tiles,
        counts={split: len(found) for split, found in tiles.items()},
        left_out={split: found.left_out for split, found in tiles.items()},
        labels=Labels.from_masks(config.classes, config.ignore, pixels[TRAIN]),
        pixels=pixels,
        channels=channels,
        bands=bands,
        uint8=all(info.uint8 for info in seen.values()),
        largest=seen[TRAIN].largest,
        fingerprint=_fingerprint(config, seen.values()),
        entries=entries,
        wanted=kept,
    )


class _Reader:
    """Brings what is known of the splits, and the cache's entries, together; reads what is missing."""

    def __init__(
        self, config: RunConfig, channels: Sequence[str], tiles: Mapping[str, Split], progress: Progress, say: Say
    ) -> None:
        self._config, self._channels, self._tiles = config, channels, tiles
        self._progress, self._say = progress, say
        self._shown = 0, sum(map(len, tiles.values()))
        self._cache = Cache.of(config, self._say)
        self._keys: dict[str, str] = {}
        self._infos: dict[str, SplitInfo | None] = {}
        self._alpha, self._alpha_band = config.alpha, 0
        for split in sorted(tiles, key=TRAIN.__ne__):  # the training tiles first: they say what alpha is
            self._keys |= {split: self._key(split)} if self._cache else {}
            self._infos[split] = self._known(split)
            if split == TRAIN and config.alpha == "auto":
                self._alpha, self._alpha_band = self._alpha_taken()
        self._entries: dict[tuple[str, str], Path] = {}

    def read(
        self, wanted: Iterable[Wanted]
    ) -> tuple[dict[str, SplitInfo], dict[tuple[str, str], Path], tuple[str, ...]]:
        """What is known of each split, the cache's entries by split and what is kept, and what should be kept."""
        fits = list({fit.kept: fit for fit in self._fits(wanted)}.values())
        missing = {split: self._missing(split, fits) for split in self._tiles}
        if any(missing.values()) and not self._room(missing):
            missing = {split: [] for split in self._tiles}
        unread = [split for split in self._tiles if missing[split] or not self._infos[split]]
        total, done = sum(len(self._tiles[split]) for split in unread), 0
        findings: dict[str, _Findings] = {}
        for split in unread:

            def progress(here: int, before: int = done) -> None:
                self._shown = before + here, total
                self._progress(*self._shown)

            findings[split] = self._pass(split, missing[split], fits, progress)
            done += len(self._tiles[split])
        mistakes = [mistake for found in findings.values() for mistake in found.mistakes]
        if mistakes:
            rest = sum(found.more for found in findings.values()) + len(mistakes) - _MOST_MISTAKES
            more = [f"{self._config.dataset}: {counted(rest, 'more file')} with mistakes"] if rest > 0 else []
            raise InputError(mistakes[:_MOST_MISTAKES] + more)
        self._same_kind(findings)
        infos = {split: info for split, info in self._infos.items() if info}
        return infos, self._entries, tuple(fit.kept for fit in fits)

    def _same_kind(self, findings: Mapping[str, _Findings]) -> None:
        """InputError where some tiles have other bands than most, or are uint8 where most are not, or the reverse."""
        positions = self._by_kind(findings)
        if len(positions) <= 1:
            return
        usual = max(positions, key=lambda kind: sum(map(len, positions[kind].values())))
        bands, uint8 = usual
        odd = [
            (kind, self._tiles[split][index].image)
            for kind, splits in positions.items()
            for split, indices in splits.items()
            for index in indices
            if kind != usual
        ]
        mistakes = []
        if named := [f"{image} ({kind[0][0]})" for kind, image in odd if kind[0] != bands]:
            do = "does" if len(named) == 1 else "do"
            wanted = f"{counted(bands[0], 'band')} as the others have"
            mistakes.append(f"{counted(len(named), 'image')} {do} not have {wanted}: {first_few(named)}")
        if named := [str(image) for kind, image in odd if kind[1] != uint8]:
            what = "not uint8, and the others are" if uint8 else "uint8, and the others are not"
            are = "is" if len(named) == 1 else "are"
            mistakes.append(f"{counted(len(named), 'tile')} {are} {what}: {first_few(named)}")
        raise InputError(mistakes)

    def _by_kind(self, findings: Mapping[str, _Findings]) -> dict[_Kind, dict[str, Sequence[int]]]:
        """Positions of the tiles of each kind, by split."""
        positions: dict[_Kind, dict[str, Sequence[int]]] = {}
        for split, info in self._infos.items():
            found: Mapping[_Kind, Sequence[int]] = findings[split].kinds if split in findings else {}
            if not found and info:
                found = {(info.bands, info.uint8): range(len(self._tiles[split]))}
            for kind, indices in found.items():
                positions.setdefault(kind, {})[split] = indices
        return positions

    def _fits(self, wanted: Iterable[Wanted]) -> Iterator[Fit]:
        for mode, size in wanted:
            # A crop keeps tiles whole: no need to know the size.
            yield Fit(mode, size or (0 if mode == "crop" else image_size(self._largest())))

    def _largest(self) -> int:
        """Side of the largest training tile: known, or looked up in the files' headers."""
        info = self._infos[TRAIN]
        if info:
            return info.largest
        with ThreadPoolExecutor(available_cpus()) as pool:
            headers = pool.map(lambda tile: _header(tile.image), self._tiles[TRAIN])
            return max((max(header.height, header.width) for header in headers if header), default=1)

    def _key(self, split: str) -> str:
        versions = cv2.__version__, rasterio.__version__, np.__version__
        read = list(self._channels), split == TRAIN, self._config.nodata, self._alpha
        text = repr((FORMAT, versions, read, self._tiles[split].identity()))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _alpha_taken(self) -> tuple[Alpha, int]:
        """What the images' alpha band is, the same for all of them, and its number; says what their values decided.

        `auto` is left where no image declares one: should others do, each is looked at by itself.
        """
        known, train = self._infos[TRAIN], self._tiles[TRAIN]
        sample = train[:: -(-len(train) // _SAMPLED_ALPHA)]
        try:
            taken, band = (known.alpha, known.alpha_band) if known else alpha_taken(tile.image for tile in sample)
        except InputError:  # which the pass over the tiles will report
            return "auto", 0
        if band:
            meant = {"mask": "a mask, whose zeros hold no data", "band": "a band like the others"}
            other = "band" if taken == "mask" else "mask"
            self._say(
                f"band {band} of the images is declared as alpha; by its values it is {meant[taken]} "
                f"(alpha={other}: {meant[other]})"
            )
        return taken, band

    def _known(self, split: str) -> SplitInfo | None:
        content = self._cache.info(self._keys[split]) if self._cache else None
        return SplitInfo.from_plain(content) if content else None

    def _missing(self, split: str, fits: Iterable[Fit]) -> list[Fit]:
        if not self._cache:
            return []
        found = {fit.kept: self._cache.entry(self._keys[split], fit.kept) for fit in fits}
        self._entries |= {(split, kept): path for kept, path in found.items() if path}
        return [fit for fit in fits if not found[fit.kept]]

    def _room(self, missing: Mapping[str, Sequence[Fit]]) -> bool:
        """Whether the cache has room for what is missing; says what it needs."""
        assert self._cache
        needed = sum(self._needed(split, fit) for split, fits in missing.items() for fit in fits)
        reason = self._cache.room(needed)
        free = f"{_size(self._cache.free())} free"
        if reason:
            self._say(
                f"no cache: decoded tiles need about {_size(needed)} in {self._cache.folder} ({free}), but {reason}"
            )
        else:
            self._say(f"decoding tiles once, about {_size(needed)} in {self._cache.folder} ({free})")
        return not reason

    def _needed(self, split: str, fit: Fit) -> float:
        """About how many bytes an entry takes."""
        tiles = self._tiles[split]
        sample = tiles[:: max(1, len(tiles) // _SAMPLED_HEADERS)]
        sizes = [size for tile in sample if (size := _kept_bytes(tile, fit, split == TRAIN))]
        return sum(sizes) / max(1, len(sizes)) * len(tiles)

    def _pass(
        self, split: str, missing: Sequence[Fit], fits: Sequence[Fit], progress: Callable[[int], None]
    ) -> _Findings:
        """Read a split's tiles, unless another process did so while this one waited for it."""
        cache, tiles = self._cache, self._tiles[split]

        said: list[str] = []

        def wait() -> None:
            self._progress(*self._shown)  # whoever looks at this process sees that it lives
            if not said:
                said.append(f"waiting for another run that reads the {split} tiles")
                self._say(said[0])

        with cache.building(self._keys[split], wait) if cache else nullcontext():
            self._infos[split] = self._infos[split] or self._known(split)
            missing = self._missing(split, fits) if missing else []
            findings = _Findings()
            if self._infos[split] and not missing:
                return findings
            with ExitStack() as stack:
                writers = _Writers(self._say)
                if cache and missing:
                    writers.open(stack, cache, self._keys[split], missing)
                look = partial(_look, settings=(self._config.nodata, self._alpha))
                look = partial(look, training=split == TRAIN, fits=writers.fits)
                for done, item in enumerate(_looked_at(tiles, look), start=1):
                    findings.add(done - 1, item)
                    writers.add(item)
                    progress(done)
                if findings.sound:
                    info = replace(findings.info(), alpha=self._alpha, alpha_band=self._alpha_band)
                    self._infos[split] = info
                    if cache:
                        cache.put_info(self._keys[split], info.plain())
                    self._entries |= {(split, kept): path for kept, path in writers.publish(tiles.names).items()}
        return findings


class _Writers:
    """Writers of entries, all given up when the disk turns out to be full."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._writers: dict[Fit, EntryWriter] = {}

    @property
    def fits(self) -> list[Fit]:
        return list(self._writers)

    def open(self, stack: ExitStack, cache: Cache, key: str, fits: Iterable[Fit]) -> None:
        try:
            for fit in fits:
                self._writers[fit] = stack.enter_context(cache.writer(key, fit.kept))
        except OSError as error:
            self._give_up(error)

    def add(self, item: _Seen) -> None:
        try:
            for fit, writer in self._writers.items():
                if fit in item.kept:
                    writer.add(*item.kept[fit])
        except OSError as error:
            self._give_up(error)

    def publish(self, names: Sequence[str]) -> dict[str, Path]:
        try:
            return {fit.kept: writer.publish(names) for fit, writer in self._writers.items()}
        except OSError as error:
            self._give_up(error)
            return {}

    def _give_up(self, error: OSError) -> None:
        self._say(f"no cache: writing decoded tiles failed ({error.strerror or error})")
        for writer in self._writers.values():
            writer.abandon()
        self._writers = {}


@dataclass
class _Seen:
    """What reading one tile showed, or the mistake that it met."""

    mistake: str | None = None
    digest: bytes = b""
    labels: dict[int, int] = field(default_factory=dict)
    shaded: bool = False
    moments: Moments | None = None
    extremes: Extremes | None = None
    bands: tuple[int, ...] = ()
    uint8: bool = True
    side: int = 0
    kept: dict[Fit, tuple[list[Image], npt.NDArray[np.integer]]] = field(default_factory=dict)


class _Findings:
    """What reading a split's tiles shows, tile by tile."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.more = 0  # mistakes beyond those
        self.kinds: dict[_Kind, list[int]] = {}  # positions of the tiles
        self._pixels: Counter[int] = Counter()
        self._digest = hashlib.blake2b(digest_size=16)
        self._largest = 0
        self._moments: Moments | None = None
        self._extremes: Extremes | None = None
        self._shaded: list[int] = []

    def add(self, index: int, item: _Seen) -> None:
        if item.mistake:
            self.more += len(self.mistakes) >= _MOST_MISTAKES
            self.mistakes += [item.mistake] if len(self.mistakes) < _MOST_MISTAKES else []
            return
        self.kinds.setdefault((item.bands, item.uint8), []).append(index)
        self._pixels.update(item.labels)
        self._digest.update(item.digest)
        self._largest = max(self._largest, item.side)
        self._shaded += [index] if item.shaded else []
        if item.moments and len(self.kinds) == 1:
            self._moments = self._moments.merge(item.moments) if self._moments else item.moments
        if item.extremes and len(self.kinds) == 1:
            self._extremes = self._extremes.merge(item.extremes) if self._extremes else item.extremes

    @property
    def sound(self) -> bool:
        return not self.mistakes and len(self.kinds) == 1

    def info(self) -> SplitInfo:
        ((bands, uint8),) = self.kinds
        pixels = dict(sorted(self._pixels.items()))
        return SplitInfo(
            pixels,
            bands,
            uint8,
            self._largest,
            self._moments,
            self._digest.hexdigest(),
            tuple(self._shaded),
            self._extremes,
        )


def _looked_at(tiles: Split, look: Callable[[Tile], _Seen]) -> Iterator[_Seen]:
    """The tiles in their order, read in parallel; never many more in memory than threads."""
    threads = readable_at_once(tiles)
    ahead: deque[Future[_Seen]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for tile in tiles:
                ahead.append(pool.submit(look, tile))
                if len(ahead) > threads * _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # Ctrl-C does not wait for what has not begun
            for future in ahead:
                future.cancel()


def _look(tile: Tile, settings: _Settings, training: bool, fits: Sequence[Fit]) -> _Seen:
    try:
        sources, valid, mask = read_tile(tile, *settings)
        check_georeferences(tile)
    except InputError as error:
        return _Seen(mistake=error.mistakes[0])
    digest = hashlib.blake2b(tile.name.encode(), digest_size=16)
    for array in (*sources, valid, mask):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    counted = count_labels(mask if valid.all() else mask[valid])
    pixels = _valid_pixels(sources, valid) if training else None
    return _Seen(
        digest=digest.digest(),
        labels=counted,
        shaded=looks_shaded(mask, counted),
        moments=None if pixels is None else Moments.of(pixels),
        extremes=None if pixels is None else Extremes.of(pixels),
        bands=tuple(source.shape[2] for source in sources),
        uint8=all(source.dtype == np.uint8 for source in sources),
        side=max(mask.shape),
        kept={fit: decode(sources, valid, mask, fit, training) for fit in fits},
    )


def _valid_pixels(sources: list[Image], valid: Valid) -> npt.NDArray[np.float64]:
    return np.concatenate([source[valid].astype(np.float64) for source in sources], axis=1)


def _header(path: Path) -> Header | None:
    """A file's header; None where it cannot be read, which the pass over the tiles will report."""
    try:
        return read_header(path)
    except InputError:
        return None


def _kept_bytes(tile: Tile, fit: Fit, training: bool) -> int:
    """Bytes that are kept of a tile."""
    headers = [_header(path) for path in (tile.image, *tile.channels)]
    image = headers[0]
    if not image:
        return 0
    height, width = fit.inner(image.height, image.width)
    mask = height * width if training else image.height * image.width
    return sum(height * width * header.bands * header.itemsize for header in headers if header) + mask


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _masks(config: RunConfig, tiles: Mapping[str, Split], seen: Mapping[str, SplitInfo]) -> dict[str, Masks]:
    # A list names itself: the folder of its masks may hold those of other splits too.
    places = {
        name: place if place.is_file() else place / config.masks_dir for name, place in split_places(config).items()
    }
    return {
        split: Masks(
            str(places[split]),
            len(tiles[split]),
            info.pixels,
            with_shades(config, info.pixels, [str(tiles[split][index].mask) for index in info.shaded]),
            has_jpeg(tiles[split]),
        )
        for split, info in seen.items()
    }


def _bands(info: SplitInfo, channels: Sequence[str], dataset: str) -> tuple[Band, ...]:
    total = info.moments
    if total is None:
        raise InputError(f"{dataset}: the training images hold no valid pixel (all NaN or nodata)")
    names = [f"{IMAGE}:{i + 1}" for i in range(info.bands[0])] + list(channels)
    # A band that never varies carries nothing; dividing by one instead of zero leaves it at zero.
    std = np.sqrt(total.squares / total.count)
    std[std == 0] = 1.0
    rows = zip(names, total.mean, std, total.low, total.high, strict=True)
    return tuple(Band(name, *(float(value) for value in values)) for name, *values in rows)


def _fingerprint(config: RunConfig, infos: Iterable[SplitInfo]) -> str:
    content: Any = (config.classes, config.ignore, [info.digest for info in infos])
    return hashlib.blake2b(repr(content).encode(), digest_size=6).hexdigest()
