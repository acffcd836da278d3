"""What a scan finds in one tile, and in all tiles of a split."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segtune.data.fitting import Decoded, Fit, decode
from segtune.data.mask_values import count_labels, looks_shaded
from segtune.data.reading import Image, Valid, read_tile, readable_at_once
from segtune.data.scale import Levels, levels_of, sampled_pixels, usual_levels
from segtune.data.statistics import Extremes, Moments
from segtune.data.threads import reading_threads
from segtune.data.tiles import ReadSettings, Tile
from segtune.values import Alpha

Found = TypeVar("Found")
_AHEAD = 2  # tiles that each thread decodes ahead of the one that is written


@dataclass(frozen=True)
class TileFacts:
    """What is known of one tile after a scan of tiles that are dealt to folds."""

    labels: Mapping[int, int]  # pixels of each label
    moments: Moments | None  # of valid pixels in training; None where there are none


@dataclass(frozen=True)
class SplitInfo:
    """What a scan found in the tiles of one split."""

    pixels: dict[int, int]  # pixels of each label
    bands: tuple[int, ...]  # of each source
    uint8: bool  # all sources are
    largest: int  # side in pixels of the largest tile
    moments: Moments | None  # None where no pixel is valid
    digest: str  # of names and pixels
    shaded: tuple[int, ...]  # positions of tiles whose masks shade from label to label
    extremes: Extremes | None  # of training tiles, where any pixel is valid
    alpha: Alpha = "auto"  # what the alpha band was taken for, where its values decided
    alpha_band: int = 0  # number of the alpha band, counted from 1; 0 where there is none
    holders: dict[int, list[int]] = field(default_factory=dict)  # positions of the tiles that hold each label
    resolution: float | None = None  # metres per pixel of the first tile; None where its place is not known
    levels: tuple[tuple[float, ...], ...] = ()  # usual ones, see `scale.Levels`; empty where no pixel is valid
    each: tuple[TileFacts, ...] = ()  # of training tiles that are dealt to folds: sums do not tell those of a fold

    def plain(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        each = [{"labels": tile.labels, "moments": tile.moments and tile.moments.plain()} for tile in self.each]
        moments, extremes = self.moments and self.moments.plain(), self.extremes and self.extremes.plain()
        found = vars(self) | {"moments": moments, "extremes": extremes, "each": each}
        # 0.1.0 knows neither the facts of each tile nor the levels, which have a file of their own.
        return {name: value for name, value in found.items() if name != "levels" and (name != "each" or value)}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> SplitInfo:
        """Restore findings from JSON values; exact, since JSON keeps every digit of a float."""
        moments = content["moments"] and Moments.from_plain(content["moments"])
        each = tuple(
            TileFacts(_numbers(tile["labels"]), tile["moments"] and Moments.from_plain(tile["moments"]))
            for tile in content.get("each", ())
        )
        pixels = _numbers(content["pixels"])
        holders = {int(label): positions for label, positions in content.get("holders", {}).items()}
        tuples = {name: tuple(content[name]) for name in ("bands", "shaded")}
        extremes = content["extremes"] and Extremes.from_plain(content["extremes"])
        found = {"pixels": pixels, "holders": holders, "moments": moments, "extremes": extremes, "each": each}
        return cls(**{**content, **tuples, **found})


@dataclass(frozen=True)
class Kind:
    """What all tiles of a data set have in common."""

    bands: tuple[int, ...]  # of each source
    uint8: bool  # all sources are


@dataclass(frozen=True)
class TileFindings(TileFacts):
    """What a scan found in one tile."""

    kind: Kind
    side: int  # the longer one, in pixels
    digest: bytes  # of name and pixels
    shaded: bool  # the mask shades from label to label
    extremes: Extremes | None
    levels: Levels | None  # of a sample of its valid pixels
    decoded: dict[str, Decoded]  # what the cache keeps, by key


class SplitFindings:
    """Collects what a scan finds in the tiles of a split, one by one; with `each`, it keeps the facts of each tile."""

    def __init__(self, each: bool = False) -> None:
        self._each: list[TileFacts] | None = [] if each else None
        self.mistakes: list[str] = []  # the first mistake of each tile that cannot be used
        self.kinds: dict[Kind, list[int]] = {}  # positions of the tiles
        self._pixels: Counter[int] = Counter()
        self._digest = hashlib.blake2b(digest_size=16)
        self._largest = 0
        self._moments: Moments | None = None
        self._extremes: Extremes | None = None
        self._levels: list[Levels] = []
        self._shaded: list[int] = []
        self._holders: dict[int, list[int]] = {}

    def add(self, index: int, tile: TileFindings) -> None:
        """Add the findings of the tile at this position."""
        self.kinds.setdefault(tile.kind, []).append(index)
        self._pixels.update(tile.labels)
        for label in tile.labels:
            self._holders.setdefault(label, []).append(index)
        self._digest.update(tile.digest)
        self._largest = max(self._largest, tile.side)
        self._shaded += [index] if tile.shaded else []
        if self._each is not None:
            self._each.append(TileFacts(tile.labels, tile.moments))
        if tile.moments and len(self.kinds) == 1:
            self._moments = self._moments.merge(tile.moments) if self._moments else tile.moments
        if tile.levels is not None and len(self.kinds) == 1:
            self._levels.append(tile.levels)
        if tile.extremes and len(self.kinds) == 1:
            self._extremes = self._extremes.merge(tile.extremes) if self._extremes else tile.extremes

    @property
    def sound(self) -> bool:
        """Whether all tiles could be read and are of one kind."""
        return not self.mistakes and len(self.kinds) == 1

    def info(self, alpha: Alpha, alpha_band: int, resolution: float | None) -> SplitInfo:
        """Return the findings of a sound split."""
        (kind,) = self.kinds
        usual = usual_levels(self._levels)
        return SplitInfo(
            pixels=dict(sorted(self._pixels.items())),
            bands=kind.bands,
            uint8=kind.uint8,
            largest=self._largest,
            resolution=resolution,
            moments=self._moments,
            digest=self._digest.hexdigest(),
            shaded=tuple(self._shaded),
            extremes=self._extremes,
            levels=() if usual is None else tuple(map(tuple, usual.tolist())),
            alpha=alpha,
            alpha_band=alpha_band,
            holders=dict(sorted(self._holders.items())),
            each=tuple(self._each or ()),
        )


def in_parallel(tiles: Sequence[Tile], look: Callable[[Tile], Found]) -> Iterator[Future[Found]]:
    """Run `look` on tiles in threads and yield the results in order; few more tiles than threads are in memory."""
    threads = readable_at_once(tiles)
    ahead: deque[Future[Found]] = deque()
    with reading_threads(threads) as pool:
        try:
            for tile in tiles:
                ahead.append(pool.submit(look, tile))
                if len(ahead) > threads * _AHEAD:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:  # Ctrl-C does not wait for tiles that were not begun
            for future in ahead:
                future.cancel()


def look_at(tile: Tile, settings: ReadSettings, training: bool, fits: Sequence[Fit]) -> TileFindings:
    """Read a tile and decode it for each of the fits; InputError where it cannot be used."""
    pixels = read_tile(tile, settings, compare_places=True)
    sources, valid, mask = pixels
    digest = hashlib.blake2b(tile.name.encode(), digest_size=16)
    for array in (*sources, valid, mask):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    labels = count_labels(mask if valid.all() else mask[valid])
    values = _valid_pixels(sources, valid) if training else None
    return TileFindings(
        kind=Kind(tuple(source.shape[2] for source in sources), all(source.dtype == np.uint8 for source in sources)),
        side=max(mask.shape),
        digest=digest.digest(),
        labels=labels,
        shaded=looks_shaded(mask, labels),
        moments=None if values is None else Moments.of(values),
        extremes=None if values is None else Extremes.of(values),
        levels=levels_of(sampled_pixels(sources, valid)),
        decoded={fit.key: decode(pixels, fit, training) for fit in fits},
    )


def _numbers(content: Mapping[str, int]) -> dict[int, int]:
    """Return numbers by label, from JSON, whose keys are text."""
    return {int(label): number for label, number in content.items()}


def _valid_pixels(sources: list[Image], valid: Valid) -> npt.NDArray[np.float64]:
    return np.concatenate([source[valid].astype(np.float64) for source in sources], axis=1)
