"""Input channels: the bands of an image, and the extra channels that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segtune.errors import InputError

IMAGE = "image"  # names the image's own bands among the input bands


@dataclass(frozen=True)
class Band:
    """Statistics of one input channel over the training tiles' valid pixels."""

    name: str  # "image:1" for the first band of the image, or the folder of an extra channel
    mean: float
    std: float
    low: float
    high: float


def rgb_positions(rgb: Sequence[int], bands: Sequence[Band]) -> tuple[int, ...]:
    """Return the positions in `bands` of red, green and blue, or of one band that is shown in grey.

    `rgb` holds numbers of the image's bands, counted from 1. Where it is empty, the first three bands are taken, or the
    first one where there are fewer. Raises InputError where the image has no such band.
    """
    names = [band.name for band in bands]
    own = sum(name.startswith(f"{IMAGE}:") for name in names)
    wanted = rgb or ((1, 2, 3) if own >= 3 else (1,))
    missing = [number for number in wanted if f"{IMAGE}:{number}" not in names]
    if missing:
        raise InputError(f"rgb: there is no band {missing[0]}; the images have {own}")
    return tuple(names.index(f"{IMAGE}:{number}") for number in wanted)
