"""What the values of masks show: their labels, and whether the masks were made lossy or resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.labels import UNLABELLED

_FEW = 4  # difference of labels that are counted one by one
_EXACT = 2**24  # pixels that float32 counts
_COMMON = 0.05  # share of a mask's pixels from which a value counts as a label
FEWEST_SHADES = 3  # values between two labels; fewer may be rare labels
_MOST_IN_BLOCKS, _LEAST_ON_SLOPES = 0.3, 0.25  # shares of the shades' pixels, found on drawn, resampled and real masks
_ANCHOR, _APART = 0.02, 1 / 8  # least share of all pixels, and of the range of values, by which a label stands apart


def count_labels(mask: npt.NDArray[np.integer]) -> dict[int, int]:
    """Count the pixels of each label of a mask, without unlabelled ones."""
    if mask.dtype == np.uint8 and 0 < mask.size < _EXACT:  # OpenCV counts in float32
        low, high = int(mask.min()), int(mask.max())
        # Comparing takes a tenth of the time of a histogram, for each label.
        likely = range(low, high + 1) if high - low <= _FEW else (low, high)
        counted = {label: int(np.count_nonzero(mask == label)) for label in likely}
        if sum(counted.values()) == mask.size:
            return {label: number for label, number in counted.items() if number}
        found = cv2.calcHist([mask.reshape(1, -1)], [0], None, [256], [0, 256]).ravel()
        return {label: int(found[label]) for label in np.flatnonzero(found).tolist()}
    if mask.dtype.kind == "u" and mask.dtype.itemsize <= 2:  # counting is faster than the sorting of np.unique
        counts = np.bincount(mask.ravel())
        labels = np.flatnonzero(counts)
        return dict(zip(labels.tolist(), counts[labels].tolist(), strict=True))
    labels, counts = np.unique(mask[mask != UNLABELLED], return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def looks_shaded(mask: npt.NDArray[np.integer], pixels: Mapping[int, int]) -> bool:
    """Return whether a mask, (H, W), shades from one value into another, as JPEG, smooth edges and resampling do.

    `pixels` counts its values. Shades are rare values between the lowest and the highest one. They lie on slopes, with
    lower values on one side and higher ones on the other; a rare label forms areas.
    """
    shades = _shades(pixels)
    if len(shades) < FEWEST_SHADES:
        return False
    values = mask.astype(np.float64)
    kernel = np.ones((3, 3), np.uint8)
    slopes = (cv2.erode(values, kernel) < values) & (values < cv2.dilate(values, kernel))
    shaded = np.isin(mask, shades)
    count = np.count_nonzero(shaded)
    if np.count_nonzero(slopes & shaded) < _LEAST_ON_SLOPES * count:
        return False
    return bool(np.count_nonzero(_in_blocks(values) & shaded) <= _MOST_IN_BLOCKS * count)


def _shades(pixels: Mapping[int, int]) -> list[int]:
    """Return the values that are rare, and neither the lowest nor the highest one."""
    total = sum(pixels.values())
    low, high = min(pixels, default=0), max(pixels, default=0)
    return [value for value, number in pixels.items() if low < value < high and number < _COMMON * total]


def _in_blocks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return the pixels that belong to a square of 2 x 2 equal ones."""
    found = np.zeros(values.shape, bool)
    corner = values[:-1, :-1]
    equal = (corner == values[1:, :-1]) & (corner == values[:-1, 1:]) & (corner == values[1:, 1:])
    for part in (np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[:-1, 1:], np.s_[1:, 1:]):
        found[part] |= equal
    return found


def kept_share(pixels: Mapping[int, int], classes: Sequence[int], ignore: Sequence[int]) -> float:
    """Return the share of the classes among the pixels whose values are nearer to them than to other labels.

    It is what the classes keep of masks that shade: a threshold between labels would give them all of these pixels.
    """
    values, numbers = (np.array(list(items)) for items in (pixels.keys(), pixels.values()))
    named = np.array([*classes, *ignore])
    apart = np.abs(values[:, None] - named).min(axis=1) > _APART * (values.max() - values.min())
    others = apart & (numbers >= min(_ANCHOR * numbers.sum(), numbers[apart].max(initial=0)))
    anchors = np.array([*named, *values[others]])
    nearest = anchors[np.abs(values[:, None] - anchors).argmin(axis=1)]
    wanted = numbers[np.isin(nearest, classes)].sum()
    return float(numbers[np.isin(values, classes)].sum() / wanted) if wanted else 1.0
