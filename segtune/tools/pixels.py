"""The tiles of a whole data set and how they are read, for tools that look at pixels before any training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.alpha import alpha_taken
from segtune.data.bands import IMAGE, Band
from segtune.data.labels import Labels
from segtune.data.pairs import find_tiles
from segtune.data.reading import TilePixels, read_tile
from segtune.data.splits import TEST, find_data_set, places_with_test, split_places, test_place
from segtune.data.statistics import Moments
from segtune.data.tiles import TRAIN, VAL, Layout, ReadSettings, Split, Tile
from segtune.errors import InputError, counted
from segtune.machine import available_cpus
from segtune.tools.checking import channel_folders
from segtune.values import MAX_CLASSES

_SAMPLED_ALPHA = 32  # images whose alpha bands are examined
_AT_ONCE = 64  # tiles that wait to be read
R = TypeVar("R")


@dataclass(frozen=True)
class DataSet:
    """The tiles of a data set, and how they are read."""

    splits: Mapping[str, Split]  # test/ too, where it exists
    channels: tuple[str, ...]
    settings: ReadSettings

    @classmethod
    def of(cls, config: RunConfig, channels: Sequence[str] | None) -> DataSet:
        """Find the tiles; `channels` None takes all folders beside images and masks that every split has.

        Raises InputError as a training does, but val may be absent: `import` and `tile` write one split.
        """
        test, own = test_place(config), split_places(config)
        if own[TRAIN].exists() and not config.val_dir and not own.get(VAL, own[TRAIN]).exists():
            config = config.model_copy(update={"use_only_add_val": True})
        if channels is None:
            places = [place for place in places_with_test(config).values() if place.exists()]
            channels = channel_folders(places, config) if places else ()
        splits = dict(find_data_set(config, channels))
        if test:
            splits[TEST] = find_tiles(test, Layout.of(config, channels))
        images = [tile.image for split in splits.values() for tile in split[:: -(-len(split) // _SAMPLED_ALPHA) or 1]]
        alpha = alpha_taken(images) if config.alpha == "auto" else None
        return cls(splits, tuple(channels), ReadSettings(config.nodata, alpha.taken if alpha else config.alpha))

    def read(self, tiles: Iterable[Tile], look: Callable[[TilePixels], R]) -> Iterator[R]:
        """Read tiles in threads, and yield in their order what `look` returns for each."""

        def read(tile: Tile) -> R:
            return look(read_tile(tile, self.settings))

        with ThreadPoolExecutor(available_cpus()) as pool:
            waiting: list[Tile] = []
            for tile in tiles:
                waiting.append(tile)
                if len(waiting) == _AT_ONCE:
                    yield from pool.map(read, waiting)
                    waiting = []
            yield from pool.map(read, waiting)


def without_val(splits: Mapping[str, object], dataset: str) -> list[str]:
    """Return a line where the splits lack val, whose folder may have a wrong name."""
    return [] if VAL in splits else [f"no {VAL}/ in {dataset}: only {' and '.join(splits)} can be shown"]


def valid_pixels(tile: TilePixels) -> npt.NDArray[np.float64]:
    """Return the pixels of a tile that hold data in all of its files, (N, bands): those of the image, then channels."""
    return np.concatenate([source[tile.valid] for source in tile.sources], axis=1).astype(np.float64)


def bands_of(moments: Moments | None, channels: Sequence[str], dataset: str) -> list[Band]:
    """Return the statistics of each band with its name; raise InputError where no pixel is valid."""
    if moments is None:
        raise InputError(f"{dataset}: the images hold no valid pixel (all NaN or nodata)")
    names = [f"{IMAGE}:{number + 1}" for number in range(len(moments.mean) - len(channels))] + list(channels)
    std = np.sqrt(moments.squares / moments.count)
    rows = zip(names, moments.mean, std, moments.low, moments.high, strict=True)
    return [Band(name, *(float(value) for value in values)) for name, *values in rows]


def labels_of(config: RunConfig, with_classes: bool, found: Iterable[int]) -> Labels:
    """Return what labels mean: `config.classes`, or all labels but 0, which is then background."""
    known = sorted(set(found) - set(config.ignore))
    if with_classes:
        return Labels.from_masks(config.classes, config.ignore, known, config.class_names)
    classes = [label for label in known if label > 0] or known[:1]
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise InputError(
            f"{config.dataset}: its masks hold {counted(len(classes), 'label')}; --classes says which count"
        )
    return Labels.from_masks(classes, config.ignore, known)
