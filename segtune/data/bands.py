"""Input channels: the bands of an image, and the extra channels that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.errors import InputError, counted

_NARROW = 2.0  # range of values of which whole numbers tell nothing, such as reflectances from 0 to 1
IMAGE = "image"  # names the image's own bands among the input bands


@dataclass(frozen=True)
class Band:
    """Statistics of one input channel over the training tiles' valid pixels."""

    name: str  # "image:1" for the first band of the image, or the folder of an extra channel
    mean: float
    std: float
    low: float
    high: float


def image_bands(names: Sequence[str]) -> int:
    """Return how many of the input bands with these names are the image's own."""
    return sum(name.startswith(f"{IMAGE}:") for name in names)


def check_order(order: Sequence[int], names: Sequence[str]) -> None:
    """Raise InputError where `order` does not say for each band of a model's image, or of its input, where it lies."""
    own, every = image_bands(names), len(names)
    if len(order) in (own, every):
        return
    extra = names[own:]
    more = f", or {every} if the images hold {' and '.join(extra)} too" if extra else ""
    raise InputError(
        f"--bands: needs {counted(own, 'number')}{more}, one for each band of the model ({', '.join(names)}), but got "
        f"{len(order)}"
    )


def check_count(place: object, found: int, names: Sequence[str]) -> None:
    """Raise InputError where an image and its extra channels have another number of bands than a model's input."""
    if found == len(names):
        return
    own = image_bands(names)
    numbers = ",".join(str(number) for number in range(1, own + 1))
    hint = f"; --bands says which ones to read, such as --bands {numbers}" if found > len(names) else ""
    raise InputError(
        f"{place}: has {counted(found, 'band')} in all, but the model was trained on {len(names)} "
        f"({', '.join(names)}){hint}"
    )


def check_types(place: object, sources: Sequence[npt.NDArray[Any]], bands: Sequence[Band], uint8: bool) -> None:
    """Raise InputError where pixels are of a type that cannot hold what a model was trained on.

    Parameters
    ----------
    place: the file, for messages.
    sources: image and extra channels, (H, W, bands).
    bands: those of the model, with the lowest and highest value in its training.
    uint8: whether all of the training's images were uint8.
    """
    types = [source.dtype for source in sources for _ in range(source.shape[2])]
    if uint8 and (wrong := sorted({dtype.name for dtype in types if dtype != np.uint8})):
        raise InputError(
            f"{place}: pixels are {' and '.join(wrong)}, but the model was trained on uint8; convert them to 0 to 255, "
            f"as its training's images were"
        )
    for band, dtype in zip(bands, types, strict=True):
        if dtype.kind == "f":
            continue
        whole = band.low == round(band.low) and band.high == round(band.high)
        narrow = not whole and band.high - band.low <= _NARROW
        if narrow or (dtype == np.uint8 and band.high > np.iinfo(np.uint8).max):
            what = "whole numbers" if narrow else "at most 255"
            raise InputError(
                f"{place}: pixels of {band.name} are {dtype.name}, so {what}, but the model was trained on values from "
                f"{band.low:g} to {band.high:g}; convert them to that scale"
            )


def rgb_positions(rgb: Sequence[int], bands: Sequence[Band]) -> tuple[int, ...]:
    """Return the positions in `bands` of red, green and blue, or of one band that is shown in grey.

    `rgb` holds numbers of the image's bands, counted from 1. Where it is empty, the first three bands are taken, or the
    first one where there are fewer. Raises InputError where the image has no such band.
    """
    names = [band.name for band in bands]
    own = image_bands(names)
    wanted = rgb or ((1, 2, 3) if own >= 3 else (1,))
    missing = [number for number in wanted if f"{IMAGE}:{number}" not in names]
    if missing:
        raise InputError(f"rgb: there is no band {missing[0]}; the images have {own}")
    return tuple(names.index(f"{IMAGE}:{number}") for number in wanted)
