"""Balance between frequent and rare classes: weights of the classes in a loss, and how often tiles are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segtune.data.dataset import DataInfo
from segtune.data.labels import Labels
from segtune.data.tiles import TRAIN

_LARGEST_RATIO = 20.0  # between the weights of two classes
_LARGEST_FACTOR = 10.0  # between how often two tiles are drawn
_Numbers = npt.NDArray[np.float64]


def class_weights(setting: str, info: DataInfo) -> dict[str, float]:
    """Return the weights of background, where pixels can be background, and of the classes, by label; empty for none.

    `balanced` is the inverse of a class's number of training pixels. `effective` is the inverse of its effective number
    (Cui et al. 2019, arXiv:1901.05555), with as many different samples as an average class has pixels: classes of
    average frequency and above then weigh nearly the same. Both give a class at most 20 times another one's weight. A
    list has a number for each class, and 1 for background. The mean weight of a training pixel is always 1.
    """
    return weights_of(setting, info.labels, info.pixels[TRAIN])


def weights_of(setting: str, labels: Labels, pixels: Mapping[int, int]) -> dict[str, float]:
    """Return the weights as `class_weights` does, from the number of training pixels of each label."""
    if setting == "none":
        return {}
    named = {str(label): pixels.get(label, 0) for label in labels.classes}
    if labels.predicts_background:
        listed = {*labels.classes, *labels.ignore}
        named = {"background": sum(n for label, n in pixels.items() if label not in listed)} | named
    counts = np.maximum(1.0, np.array(list(named.values()), np.float64))
    weights = _weights(setting, counts, background="background" in named)
    weights /= (weights * counts).sum() / counts.sum()
    return {name: float(weight) for name, weight in zip(named, weights, strict=True)}


def _weights(setting: str, counts: _Numbers, background: bool) -> _Numbers:
    if setting == "balanced":
        weights = 1 / counts
    elif setting == "effective":
        weights = 1 / -np.expm1(-counts / counts.mean())  # (1 - b) / (1 - b^n) with b = 1 - 1/N, for a large N
    else:
        return np.array([1.0] * background + [float(number) for number in setting.split(",")])
    return np.minimum(weights, _LARGEST_RATIO * weights.min())


def repeat_factors(holders: Mapping[int, Sequence[int]], tiles: int) -> _Numbers:
    """Return how often each of the tiles is drawn in proportion to a tile without rare classes, from 1 to 10.

    This is the repeat factor of Gupta et al. 2019 (arXiv:1908.03195) with a threshold of 1: a tile has that of its
    rarest class, 1 / sqrt(share of the tiles that hold it).

    Parameters
    ----------
    holders: positions of the tiles that hold each class.
    """
    factors = np.ones(tiles)
    for positions in holders.values():
        if len(positions):
            factor = min(_LARGEST_FACTOR, (tiles / len(positions)) ** 0.5)
            held = np.array(positions)
            factors[held] = np.maximum(factors[held], factor)
    return factors
