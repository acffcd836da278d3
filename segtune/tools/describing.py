"""Describe a data set in numbers: values of each channel, shares of the classes, and the settings that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.balance import weights_of
from segtune.data.bands import Band
from segtune.data.dataset import image_size
from segtune.data.labels import Labels
from segtune.data.mask_values import count_labels
from segtune.data.reading import TilePixels
from segtune.data.statistics import Moments
from segtune.data.tiles import TRAIN
from segtune.errors import InputError, first_few
from segtune.machine import versions
from segtune.tools.pixels import DataSet, bands_of, labels_of, valid_pixels

FORMAT = 1  # of the JSON
PERCENTILES = (1, 2, 25, 50, 75, 98, 99)
_SAMPLED = 2_000_000  # pixels of a split that percentiles are computed from, at most; all tiles have the same number
_MOST_OF_TILE, _FEWEST_OF_TILE = 4096, 16


@dataclass(frozen=True)
class SplitStats:
    """One split in numbers."""

    tiles: int
    sizes: Mapping[tuple[int, int], int]  # tiles by (height, width), most frequent first
    bands: Sequence[Band]  # over all valid pixels
    percentiles: Sequence[Mapping[int, float]]  # of each band, over a sample
    pixels: Mapping[int, int]  # of each label
    holders: Mapping[int, int]  # tiles that hold each label
    valid: float  # share of the pixels


@dataclass(frozen=True)
class Stats:
    """A data set in numbers."""

    dataset: str
    channels: tuple[str, ...]
    splits: Mapping[str, SplitStats]
    labels: Labels

    @property
    def image_size(self) -> int:
        """The image_size of runs that set none."""
        return image_size(max(max(size) for size in self.splits[TRAIN].sizes))

    def weights(self, setting: str) -> dict[str, float]:
        """Return the weights of the classes, by label, that a setting of class_weights stands for."""
        return weights_of(setting, self.labels, self.splits[TRAIN].pixels)

    def shares(self, split: str) -> dict[int, float]:
        """Return the share of each label in the labelled pixels of a split that are not ignored."""
        pixels = {label: n for label, n in self.splits[split].pixels.items() if label not in self.labels.ignore}
        return {label: number / sum(pixels.values()) for label, number in pixels.items()}

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON values; see docs/data-tools.md."""
        splits = {
            name: {
                "tiles": split.tiles,
                "sizes": {f"{width}x{height}": number for (height, width), number in split.sizes.items()},
                "valid": split.valid,
                "bands": {
                    band.name: {
                        "mean": band.mean,
                        "std": band.std,
                        "min": band.low,
                        "max": band.high,
                        "percentiles": {str(rank): value for rank, value in ranks.items()},
                    }
                    for band, ranks in zip(split.bands, split.percentiles, strict=True)
                },
                "labels": {
                    str(label): {"pixels": number, "share": self.shares(name).get(label), "tiles": split.holders[label]}
                    for label, number in split.pixels.items()
                },
            }
            for name, split in self.splits.items()
        }
        return {
            "format": FORMAT,
            "segtune": versions()["segtune"],
            "dataset": self.dataset,
            "channels": list(self.channels),
            "classes": list(self.labels.classes),
            "ignore": list(self.labels.ignore),
            "splits": splits,
            "image_size": self.image_size,
            "class_weights": {setting: self.weights(setting) for setting in ("balanced", "effective")},
        }


@dataclass(frozen=True)
class _Seen:
    """What one tile adds."""

    size: tuple[int, int]
    moments: Moments | None
    sample: npt.NDArray[np.float64]  # (N, bands)
    labels: Mapping[int, int]
    valid: int


def describe(
    config: RunConfig, channels: Sequence[str] | None, with_classes: bool, progress: Callable[[int, int], None]
) -> Stats:
    """Read every tile of a data set once and return it in numbers.

    Parameters
    ----------
    config: where the data lies and how it is read.
    channels: the extra channels; None for all folders beside images and masks that every split has.
    with_classes: whether `config.classes` is meant; otherwise all labels but 0 are classes.
    progress: called with the number of tiles read and the number to read.

    Raises InputError for what a training refuses, too: files without partners, unreadable ones, no valid pixel.
    """
    data = DataSet.of(config, channels)
    total = sum(len(split) for split in data.splits.values())
    done = 0
    splits = {}
    for name, split in data.splits.items():
        most = min(_MOST_OF_TILE, max(_FEWEST_OF_TILE, _SAMPLED // max(1, len(split))))
        seen = []
        for one in data.read(split, lambda tile, most=most: _look(tile, most)):  # type: ignore[misc]
            seen.append(one)
            done += 1
            progress(done, total)
        splits[name] = _together(seen, data.channels, f"{config.dataset}, {name}")
    held = splits[TRAIN].pixels
    if with_classes and (absent := [label for label in config.classes if label not in held]):
        raise InputError(
            f"--classes: no mask of {TRAIN} holds {first_few(map(str, absent))}; they hold "
            f"{first_few(map(str, held), 20)}"
        )
    labels = labels_of(config, with_classes, held)
    return Stats(config.dataset, data.channels, splits, labels)


def _look(tile: TilePixels, most: int) -> _Seen:
    pixels = valid_pixels(tile)
    # An odd step avoids the same columns in every row.
    sample = pixels[:: max(1, len(pixels) // most) | 1]
    height, width = tile.mask.shape
    return _Seen((height, width), Moments.of(pixels), sample, count_labels(tile.mask), len(pixels))


def _together(seen: Sequence[_Seen], channels: Sequence[str], place: str) -> SplitStats:
    moments: Moments | None = None
    for one in seen:
        if one.moments is not None:
            moments = one.moments if moments is None else moments.merge(one.moments)
    sizes = Counter(one.size for one in seen)
    labels = sorted({label for one in seen for label in one.labels})
    bands = bands_of(moments, channels, place)
    ranks = np.asarray(np.percentile(np.concatenate([one.sample for one in seen]), PERCENTILES, axis=0))
    return SplitStats(
        len(seen),
        dict(sizes.most_common()),
        bands,
        [dict(zip(PERCENTILES, values.tolist(), strict=True)) for values in ranks.T],
        {label: sum(one.labels.get(label, 0) for one in seen) for label in labels},
        {label: sum(label in one.labels for one in seen) for label in labels},
        sum(one.valid for one in seen) / sum(height * width * n for (height, width), n in sizes.items()),
    )
