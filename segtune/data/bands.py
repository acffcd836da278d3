"""Input channels: the bands of an image, and the extra channels that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segtune.errors import InputError

IMAGE = "image"  # the name of the image's own bands among the bands of the input


@dataclass(frozen=True)
class Band:
    """Statistics of one input channel over the training tiles' valid pixels."""

    name: str  # "image:1" for the image's first band, or an extra channel's folder
    mean: float
    std: float
    low: float
    high: float


def rgb_positions(rgb: Sequence[int], bands: Sequence[Band]) -> tuple[int, ...]:
    """Positions among `bands` of red, green and blue, or of one band that is shown grey.

    `rgb` counts the image's bands from 1; empty stands for the first three where there are three or more, else for
    the first. Raises InputError where the image has no such band.
    """
    names = [band.name for band in bands]
    own = sum(name.startswith(f"{IMAGE}:") for name in names)
    wanted = rgb or ((1, 2, 3) if own >= 3 else (1,))
    missing = [number for number in wanted if f"{IMAGE}:{number}" not in names]
    if missing:
        raise InputError(f"rgb: there is no band {missing[0]}; the images have {own}")
    return tuple(names.index(f"{IMAGE}:{number}") for number in wanted)
