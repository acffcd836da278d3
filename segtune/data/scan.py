"""The scan of a data set before training: whether it is sound, what it holds, and its statistics.

The scan also decodes the tiles into the cache and keeps its findings there: the next run on the same files starts at
once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio

from segtune.config import RunConfig
from segtune.data.alpha import AlphaBand, alpha_taken
from segtune.data.bands import IMAGE, Band
from segtune.data.cache import FORMAT, Cache, EntryWriters, NoRoomError
from segtune.data.checks import (
    Masks,
    absent_remarks,
    check_classes,
    check_same_kind,
    fill_remarks,
    has_jpeg,
    mask_remarks,
    with_shades,
)
from segtune.data.dataset import DataInfo, image_size
from segtune.data.exclusion import exclusion_lines
from segtune.data.fast_check import check_command, fast_findings, shared_lines
from segtune.data.findings import Kind, SplitFindings, SplitInfo, in_parallel, look_at
from segtune.data.fitting import Fit
from segtune.data.labels import Labels
from segtune.data.reading import ground_resolution
from segtune.data.scale import SAME_SCALE, other_scales
from segtune.data.splits import find_data_set, split_places
from segtune.data.statistics import Moments
from segtune.data.tile_sizes import kept_bytes, largest_side
from segtune.data.tiles import TRAIN, VAL, ReadSettings, Split
from segtune.errors import InputError, counted
from segtune.remarks import Say, unheard

_MOST_MISTAKES = 5  # that are shown
_MANY = 10_000  # tiles whose headers take a while
_SAMPLED_ALPHA = 32  # images whose alpha bands are examined

Progress = Callable[[int, int], None]
Wanted = tuple[str, int | None]  # fit, and image_size or None where it follows from the data


def scan(
    config: RunConfig,
    channels: Sequence[str] | None = None,
    progress: Progress | None = None,
    wanted: Iterable[Wanted] | None = None,
    say: Say = unheard,
    tiles: Mapping[str, Split] | None = None,
    folded: bool = False,
    shared: bool = True,
) -> DataInfo:
    """Scan a data set: take findings from the cache, or read each tile once, into the cache where there is room.

    Parameters
    ----------
    config: the run. A search passes the `channels` and `wanted` of all its trials.
    channels, tiles: extra channels, and tiles of each split; None for those of the run and of the data set.
    progress: called with the number of tiles read and the number to read.
    wanted: fits and image sizes that the cache should hold; None for those of the run.
    say: gets lines on the cache and on everything unusual in the data.
    shared: whether `say` gets lines on what splits share; `folded`: none on train and val, dealt to folds together.

    Raises InputError for unreadable files, for differing sizes, bands or types, for files of a tile that lie elsewhere
    on the ground, for splits whose values have another scale, and for classes that no training mask contains.
    """
    channels = tuple(config.channels if channels is None else channels)
    tiles = find_data_set(config, channels) if tiles is None else tiles
    for line in exclusion_lines(split.excluded for split in tiles.values()):
        say(line)
    reader = _Reader(config, channels, tiles, progress or (lambda done, total: None), say, folded, shared)
    seen, entries, kept = reader.read(wanted or [(config.fit, config.image_size)])
    pixels = {split: info.pixels for split, info in seen.items()}
    names = [f"{IMAGE}:{i + 1}" for i in range(seen[TRAIN].bands[0])] + list(channels)
    bands = _bands(config, seen, names)
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
        labels=Labels.from_masks(config.classes, config.ignore, pixels[TRAIN], config.class_names),
        pixels=pixels,
        holders={label: tuple(seen[TRAIN].holders.get(label, ())) for label in config.classes},
        channels=channels,
        bands=bands,
        uint8=all(info.uint8 for info in seen.values()),
        largest=seen[TRAIN].largest,
        resolution=seen[TRAIN].resolution,
        fingerprint=_fingerprint(config, seen.values()),
        entries=entries,
        wanted=kept,
        each=seen[TRAIN].each,
    )


def _bands(config: RunConfig, seen: Mapping[str, SplitInfo], names: Sequence[str]) -> tuple[Band, ...]:
    """Return the bands of train; InputError where the values of another split have another scale."""
    usual = {split: np.array(info.levels) for split, info in seen.items() if info.levels}
    if mistakes := [f"{what}; {SAME_SCALE}" for _, what in other_scales(usual, names)]:
        raise InputError(mistakes)
    return bands_of(seen[TRAIN].moments, names, config.dataset)


class _Reader:
    """Brings together what is known of the splits and the entries of the cache; reads what is missing."""

    def __init__(
        self,
        config: RunConfig,
        channels: Sequence[str],
        tiles: Mapping[str, Split],
        progress: Progress,
        say: Say,
        folded: bool,
        shared: bool,
    ) -> None:
        self._config, self._channels, self._tiles = config, channels, tiles
        self._dealt, self._shared = (TRAIN, VAL) if folded else (), shared
        self._progress, self._say = progress, say
        self._shown = 0, sum(map(len, tiles.values()))
        self._cache = Cache.of(config, self._say)
        self._keys: dict[str, str] = {}
        self._infos: dict[str, SplitInfo | None] = {}
        self._alpha, self._alpha_band = config.alpha, 0
        for split in sorted(tiles, key=TRAIN.__ne__):  # training tiles first: they decide what alpha is
            self._keys |= {split: self._key(split)} if self._cache else {}
            self._infos[split] = self._known(split)
            if split == TRAIN and config.alpha == "auto" and (found := self._alpha_taken()):
                self._alpha, self._alpha_band = found.taken, found.number
        self._entries: dict[tuple[str, str], Path] = {}

    def read(
        self, wanted: Iterable[Wanted]
    ) -> tuple[dict[str, SplitInfo], dict[tuple[str, str], Path], tuple[str, ...]]:
        """Return the findings of each split, the cache's entries by split and key, and the keys that runs need."""
        self._fast_check()
        fits = list({fit.key: fit for fit in self._fits(wanted)}.values())
        missing = {split: self._missing(split, fits) for split in self._tiles}
        if any(missing.values()) and not self._room(missing):
            missing = {split: [] for split in self._tiles}
        unread = [split for split in self._tiles if missing[split] or not self._infos[split]]
        total, done = sum(len(self._tiles[split]) for split in unread), 0
        findings: dict[str, SplitFindings] = {}
        for split in unread:

            def progress(here: int, before: int = done) -> None:
                self._shown = before + here, total
                self._progress(*self._shown)

            findings[split] = self._pass(split, missing[split], fits, progress)
            done += len(self._tiles[split])
        self._refuse([mistake for found in findings.values() for mistake in found.mistakes])
        check_same_kind(self._tiles, self._by_kind(findings))
        infos = {split: info for split, info in self._infos.items() if info}
        return infos, self._entries, tuple(fit.key for fit in fits)

    def _fast_check(self) -> None:
        """Raise InputError for what headers tell before anything is decoded, and warn of tiles in several splits.

        The warnings are kept in the cache: later scans of the same files repeat them and read nothing.
        """
        cache, key = self._cache, _digest(("shared tiles", FORMAT, sorted(self._keys.items()), *self._dealt))
        known = cache.info(key) if cache else None
        if known is None:
            if (number := sum(map(len, self._tiles.values()))) >= _MANY:
                self._say(f"reading the headers of {number} tiles")
            every = self._tiles[TRAIN]  # for folds, they validate as well
            splits = {split: own for split, own in self._tiles.items() if split == TRAIN or own is not every}
            found = fast_findings(splits, self._dealt)
            self._refuse([finding.what for finding in found if finding.severity == "error"])
            known = {"warnings": shared_lines(found, {split: len(own) for split, own in splits.items()})}
            if cache:
                cache.put_info(key, known)
        for line in known["warnings"] if self._shared else []:
            self._say(f"warning: {line}; {check_command(self._config)} shows all")

    def _refuse(self, mistakes: Sequence[str]) -> None:
        """Raise InputError with the first mistakes, if there are any."""
        if mistakes:
            rest = len(mistakes) - _MOST_MISTAKES
            more = [f"{self._config.dataset}: {counted(rest, 'more file')} with mistakes"] if rest > 0 else []
            raise InputError([*mistakes[:_MOST_MISTAKES], *more])

    def _by_kind(self, findings: Mapping[str, SplitFindings]) -> dict[Kind, dict[str, Sequence[int]]]:
        """Return the positions of the tiles of each kind, by split."""
        positions: dict[Kind, dict[str, Sequence[int]]] = {}
        for split, info in self._infos.items():
            found: Mapping[Kind, Sequence[int]] = findings[split].kinds if split in findings else {}
            if not found and info:
                found = {Kind(info.bands, info.uint8): range(len(self._tiles[split]))}
            for kind, indices in found.items():
                positions.setdefault(kind, {})[split] = indices
        return positions

    def _fits(self, wanted: Iterable[Wanted]) -> Iterator[Fit]:
        for mode, size in wanted:
            # Crops keep whole tiles: the size does not matter.
            yield Fit(mode, size or (0 if mode == "crop" else image_size(self._largest())))

    def _largest(self) -> int:
        """Return the side of the largest training tile: from earlier findings, or from the files' headers."""
        info = self._infos[TRAIN]
        if info:
            return info.largest
        return largest_side(self._tiles[TRAIN])

    def _key(self, split: str) -> str:
        versions = cv2.__version__, rasterio.__version__, np.__version__
        read = list(self._channels), split == TRAIN, self._config.nodata, self._alpha
        return _digest((FORMAT, versions, read, self._tiles[split].identity()))

    def _alpha_taken(self) -> AlphaBand | None:
        """Decide what the images' alpha band is, for all images alike, and say so.

        Returns None where no sampled image declares one; images that do are then judged one by one.
        """
        known, train = self._infos[TRAIN], self._tiles[TRAIN]
        if known:
            found = AlphaBand(known.alpha_band, known.alpha) if known.alpha_band else None
        else:
            try:
                found = alpha_taken(tile.image for tile in train[:: -(-len(train) // _SAMPLED_ALPHA)])
            except InputError:  # reported when the tiles are read
                return None
        if found:
            meant = {"mask": "a mask, whose zeros hold no data", "band": "a band like the others"}
            other = "band" if found.taken == "mask" else "mask"
            self._say(
                f"band {found.number} of the images is declared as alpha; by its values it is {meant[found.taken]} "
                f"(alpha={other}: {meant[other]})"
            )
        return found

    def _known(self, split: str) -> SplitInfo | None:
        content = self._cache.info(self._keys[split]) if self._cache else None
        if not content:
            return None
        # Earlier releases noted neither which training tiles hold a label nor their resolution: these are read again.
        noted = split != TRAIN or (content.get("holders") and "resolution" in content)
        noted = noted and (content.get("each") or not self._keeps_each(split))
        levels = self._cache.info(self._levels_key(split)) if self._cache and noted else None
        return replace(SplitInfo.from_plain(content), levels=levels["levels"]) if levels else None

    def _levels_key(self, split: str) -> str:
        return _digest(("levels", self._keys[split]))

    def _keeps_each(self, split: str) -> bool:
        """Return whether the tiles of a split are those of several, which are dealt to folds."""
        return split == TRAIN and bool(self._tiles[split].parts)

    def _missing(self, split: str, fits: Iterable[Fit]) -> list[Fit]:
        if not self._cache:
            return []
        found = {fit.key: self._cache.entry(self._keys[split], fit.key) for fit in fits}
        self._entries |= {(split, kept): path for kept, path in found.items() if path}
        return [fit for fit in fits if not found[fit.key]]

    def _room(self, missing: Mapping[str, Sequence[Fit]]) -> bool:
        """Make room in the cache for what is missing and say what it needs; return whether there is room."""
        assert self._cache
        needed = sum(
            kept_bytes(self._tiles[split], fit, split == TRAIN) for split, fits in missing.items() for fit in fits
        )
        try:
            self._cache.make_room(needed)
        except NoRoomError as error:
            where = f"{self._cache.folder} ({_size(self._cache.free())} free)"
            self._say(f"no cache: decoded tiles need about {_size(needed)} in {where}, but {error}")
            return False
        where = f"{self._cache.folder} ({_size(self._cache.free())} free)"
        self._say(f"decoding tiles once, about {_size(needed)} in {where}")
        return True

    def _pass(
        self, split: str, missing: Sequence[Fit], fits: Sequence[Fit], progress: Callable[[int], None]
    ) -> SplitFindings:
        """Read the tiles of a split, unless another process did so while this one waited."""
        cache, tiles = self._cache, self._tiles[split]

        said: list[str] = []

        def wait() -> None:
            self._progress(*self._shown)  # shows that this process is alive
            if not said:
                said.append(f"waiting for another run that reads the {split} tiles")
                self._say(said[0])

        with cache.building(self._keys[split], wait) if cache else nullcontext():
            self._infos[split] = self._infos[split] or self._known(split)
            missing = self._missing(split, fits) if missing else []
            findings = SplitFindings(self._keeps_each(split))
            if self._infos[split] and not missing:
                return findings
            with ExitStack() as stack:
                writers = EntryWriters(self._say)
                if cache and missing:
                    writers.open(stack, cache, self._keys[split], [fit.key for fit in missing])
                fits = [fit for fit in missing if fit.key in writers.keys]
                settings = ReadSettings(self._config.nodata, self._alpha)
                look = partial(look_at, settings=settings, training=split == TRAIN, fits=fits)
                for index, looking in enumerate(in_parallel(tiles, look)):
                    try:
                        tile = looking.result()
                    except InputError as error:
                        findings.mistakes.append(error.mistakes[0])
                    else:
                        findings.add(index, tile)
                        writers.add(tile.decoded)
                    progress(index + 1)
                if findings.sound:
                    info = findings.info(self._alpha, self._alpha_band, ground_resolution(tiles[0].image))
                    self._infos[split] = info
                    if cache:
                        cache.put_info(self._keys[split], info.plain())
                        cache.put_info(self._levels_key(split), {"levels": info.levels})
                    self._entries |= {(split, key): path for key, path in writers.publish(tiles.names).items()}
        return findings


def _digest(content: object) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _masks(config: RunConfig, tiles: Mapping[str, Split], seen: Mapping[str, SplitInfo]) -> dict[str, Masks]:
    # A list file stands for itself: its folder of masks may hold those of other splits too.
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


def bands_of(total: Moments | None, names: Sequence[str], dataset: str) -> tuple[Band, ...]:
    """Return the bands with these names; InputError, naming the data set, where its training images hold no pixel."""
    if total is None:
        raise InputError(f"{dataset}: the training images hold no valid pixel (all NaN or nodata)")
    # A constant band has no deviation; dividing by one leaves it at zero.
    std = np.sqrt(total.squares / total.count)
    std[std == 0] = 1.0
    rows = zip(names, total.mean, std, total.low, total.high, strict=True)
    return tuple(Band(name, *(float(value) for value in values)) for name, *values in rows)


def _fingerprint(config: RunConfig, infos: Iterable[SplitInfo]) -> str:
    content: Any = (config.classes, config.ignore, [info.digest for info in infos])
    return hashlib.blake2b(repr(content).encode(), digest_size=6).hexdigest()
