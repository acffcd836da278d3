"""Whether the values of splits have one scale: how large they are in each, beside train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segtune.data.reading import Image, Valid
from segtune.data.tiles import TRAIN
from segtune.errors import first_few

SAME_SCALE = "bring both to one scale, such as 0 to 255"  # what to do about another one
_APART = 8.0  # ratio of levels from which two splits have different scales
_SAMPLED = 1000  # pixels of a tile that are looked at

_USUAL = 0.75  # quantile of the second level

Levels = npt.NDArray[np.float64]  # largest and usual absolute values of each band, (2, bands)


def grid(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of a sample of an image of this size."""
    step = max(1, round((shape[0] * shape[1] / _SAMPLED) ** 0.5))
    return slice(step // 2, None, step), slice(step // 2, None, step)


def sampled_pixels(sources: Sequence[Image], valid: Valid) -> npt.NDArray[np.float64]:
    """Return a sample of a tile's valid pixels, (N, bands)."""
    sampled = grid(valid.shape)
    kept = valid[sampled]
    return np.concatenate([source[sampled][kept].astype(np.float64) for source in sources], axis=1)


def levels_of(pixels: npt.NDArray[np.float64]) -> Levels | None:
    """Return the levels of a tile by (N, bands) of its pixels; None where there are none."""
    if not len(pixels):
        return None
    sizes = abs(pixels)
    place = int((len(sizes) - 1) * _USUAL)
    return np.stack([sizes.max(axis=0), np.partition(sizes, place, axis=0)[place]])


def usual_levels(tiles: Sequence[Levels]) -> Levels | None:
    """Return the median of tiles' levels, band by band; None without tiles."""
    return np.median(tiles, axis=0) if tiles else None


def other_scales(usual: Mapping[str, Levels], bands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each split whose usual levels are not of train's scale, and a sentence on it.

    Both levels must tell it: a fill value changes the largest one alone. A band whose levels are 0 in either split says
    nothing: most of its pixels may be empty.
    """
    train = usual.get(TRAIN)
    for split, own in usual.items():
        if train is None or split == TRAIN:
            continue
        ratio = np.where((own > 0) & (train > 0), own / np.where(train > 0, train, 1), 1)
        far = (ratio >= _APART).all(axis=0) | (ratio <= 1 / _APART).all(axis=0)
        if far.any():
            shown = first_few((f"{bands[i]} ({ratio[0, i]:.3g} times)" for i in np.flatnonzero(far).tolist()), 4)
            yield split, f"{split}: values have another scale than in train: {shown}"
