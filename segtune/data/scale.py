"""Whether the values of splits have one scale: each split's usual largest values, beside those of train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segtune.data.reading import Image, Valid
from segtune.data.tiles import TRAIN
from segtune.errors import first_few

SAME_SCALE = "bring both to one scale, such as 0 to 255"  # what to do about another one
_APART = 8.0  # ratio of the usual largest values from which two splits have different scales
_SAMPLED = 1000  # pixels of a tile that are looked at

Highs = npt.NDArray[np.float64]  # largest absolute value of each band, (bands,)


def grid(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of a sample of an image of this size."""
    step = max(1, round((shape[0] * shape[1] / _SAMPLED) ** 0.5))
    return slice(step // 2, None, step), slice(step // 2, None, step)


def highs_of(sources: Sequence[Image], valid: Valid) -> Highs | None:
    """Return the largest absolute values in a sample of a tile's valid pixels; None where none of them is valid."""
    sampled = grid(valid.shape)
    kept = valid[sampled]
    if not kept.any():
        return None
    return np.concatenate([abs(source[sampled][kept].astype(np.float64)).max(axis=0) for source in sources])


def usual_highs(tiles: Sequence[Highs]) -> Highs | None:
    """Return the median of tiles' largest values, band by band; None without tiles."""
    return np.median(tiles, axis=0) if tiles else None


def other_scales(usual: Mapping[str, Highs], bands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each split whose usual largest values are not of train's scale, and a sentence on it.

    A band whose usual largest value is 0 in either says nothing: most of its tiles may be empty.
    """
    train = usual.get(TRAIN)
    for split, own in usual.items():
        if train is None or split == TRAIN:
            continue
        ratio = np.where((own > 0) & (train > 0), own / np.where(train > 0, train, 1), 1)
        odd = [i for i in range(len(bands)) if not 1 / _APART < ratio[i] < _APART]
        if odd:
            shown = first_few((f"{bands[i]} ({ratio[i]:.3g} times)" for i in odd), 4)
            yield split, f"{split}: values have another scale than in train: {shown}"
