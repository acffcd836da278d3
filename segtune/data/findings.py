"""What reading tiles shows: of one tile, and of all tiles of a split."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.config import Alpha
from segtune.data.fitting import Fit, decode
from segtune.data.georeference import check_georeferences
from segtune.data.masks import count_labels, looks_shaded
from segtune.data.reading import Image, Valid, read_tile, readable_at_once
from segtune.data.statistics import Extremes, Moments
from segtune.data.tiles import Split, Tile
from segtune.errors import InputError


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


MOST_MISTAKES = 5  # of one kind, shown by name
_AHEAD = 2  # tiles decoded ahead of the one that is written, for each thread
Settings = tuple[float | None, Alpha]  # nodata and alpha, by which a tile is read
Kind = tuple[tuple[int, ...], bool]  # of a tile: bands of each source, and whether all of them are uint8


@dataclass
class TileFindings:
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


class SplitFindings:
    """What reading a split's tiles shows, tile by tile."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.more = 0  # mistakes beyond those
        self.kinds: dict[Kind, list[int]] = {}  # positions of the tiles
        self._pixels: Counter[int] = Counter()
        self._digest = hashlib.blake2b(digest_size=16)
        self._largest = 0
        self._moments: Moments | None = None
        self._extremes: Extremes | None = None
        self._shaded: list[int] = []

    def add(self, index: int, item: TileFindings) -> None:
        if item.mistake:
            self.more += len(self.mistakes) >= MOST_MISTAKES
            self.mistakes += [item.mistake] if len(self.mistakes) < MOST_MISTAKES else []
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


def look_at_all(tiles: Split, look: Callable[[Tile], TileFindings]) -> Iterator[TileFindings]:
    """The tiles in their order, read in parallel; never many more in memory than threads."""
    threads = readable_at_once(tiles)
    ahead: deque[Future[TileFindings]] = deque()
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


def look_at(tile: Tile, settings: Settings, training: bool, fits: Sequence[Fit]) -> TileFindings:
    try:
        sources, valid, mask = read_tile(tile, *settings)
        check_georeferences(tile)
    except InputError as error:
        return TileFindings(mistake=error.mistakes[0])
    digest = hashlib.blake2b(tile.name.encode(), digest_size=16)
    for array in (*sources, valid, mask):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    counted = count_labels(mask if valid.all() else mask[valid])
    pixels = _valid_pixels(sources, valid) if training else None
    return TileFindings(
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
