"""How alike images are: equal pixels, and nearly the same picture by a perceptual hash."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.reading import Image, Valid
from segtune.machine import available_cpus

_SIDE, _HASHED, _LOW = 64, 32, 8  # of the small picture, of the one that is hashed, and of the frequencies kept
_SUMMED = 2**23  # pixels of 8 bits whose sum fits into 32 bits
_FLAT = 1e-3  # deviation, relative to the largest value, below which a picture has no content to compare
_BITS = 16  # of 64 that may differ between candidates; between unrelated pictures about 32 do
_ROWS = 16  # of an image that its digest has more bits of
_AT_ONCE = 128  # pictures that are compared with all others in one step
_FINE, _COARSE = 1.0, 4.0  # deviations of blurs: what is finer is lost in storing, what is coarser is light and shade
_STEP = 6  # rows and columns of the small picture by which two may be shifted
_ALIKE = 0.85  # correlation of details, at the best shift: copies have 0.94 and more, unrelated pictures up to 0.7
_CONTRAST = 32  # of the details: steps of int8 per standard deviation


@dataclass(frozen=True)
class Likeness:
    """What is remembered of an image to find others like it, about 4 kB."""

    digest: bytes  # of the pixels
    hash: int  # 64 bits
    details: npt.NDArray[np.int8] | None  # of a small grey picture, (64, 64); None where the image is constant

    @classmethod
    def of(cls, image: Image, valid: Valid) -> Likeness:
        """Compute the likeness of an image, (H, W, bands), of whose pixels the `valid` ones hold data.

        The hash is pHash: the signs, against their median, of the lowest frequencies of the cosine transform of a small
        grey picture (Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions).
        """
        digest = _digest(image)
        small = _small(image, valid)
        if small is None:
            return cls(digest, 0, None)
        lowest = cv2.dct(cv2.resize(small, (_HASHED, _HASHED), interpolation=cv2.INTER_AREA))[:_LOW, :_LOW].ravel()
        bits = lowest > np.sort(lowest[1:])[len(lowest) // 2 - 1]  # the median without the first one, which is the mean
        details = cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _COARSE)
        details *= _CONTRAST / max(float(cv2.meanStdDev(details)[1].item()), 1e-6)
        code = int.from_bytes(np.packbits(bits).tobytes(), "big")
        return cls(digest, code, np.clip(np.rint(details), -127, 127).astype(np.int8))


def _digest(image: Image) -> bytes:
    """Return a digest of the pixels: a checksum of all, which is fast, and more bits of a sample of the rows."""
    rows = np.ascontiguousarray(image[:: max(1, len(image) // _ROWS)])
    checksum = zlib.crc32(np.ascontiguousarray(image).data)
    digest = hashlib.blake2b(repr((image.shape, image.dtype.str, checksum)).encode(), digest_size=16)
    digest.update(rows.data)
    return digest.digest()


def _small(image: Image, valid: Valid) -> npt.NDArray[np.float32] | None:
    """Return a grey picture of 64 x 64 with mean 0; None where nothing can be seen."""
    if not valid.any():
        return None
    if not valid.all():
        image = image.copy()
        image[~valid] = image[valid].mean(axis=0).astype(image.dtype)
    bands = _means(image)
    # A product of matrices: numpy's sums over a few bands take several times as long.
    grey = (bands @ np.full(bands.shape[1], 1 / bands.shape[1])).reshape(_SIDE, _SIDE)
    (mean,), (spread,) = (found.ravel().tolist() for found in cv2.meanStdDev(grey))
    if not spread > _FLAT * max(float(abs(grey).max()), 1e-12):
        return None
    return ((grey - mean) / spread).astype(np.float32)


def _means(image: Image) -> npt.NDArray[np.float64]:
    """Return the means, (64 x 64, bands), of an image's 64 x 64 equal parts."""
    height, width, bands = image.shape
    whole = height % _SIDE == 0 == width % _SIDE
    if whole or image.dtype != np.uint8 or min(height, width) < _SIDE or height * width > _SUMMED:
        # OpenCV takes parts that end within pixels from four bands at most.
        fours = [np.ascontiguousarray(image[..., start : start + 4]) for start in range(0, bands, 4)]
        small = [cv2.resize(four, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for four in fours]
        return np.concatenate([four.reshape(_SIDE * _SIDE, -1) for four in small], axis=1).astype(np.float64)
    # OpenCV takes three times as long where parts end within pixels. The sum of all pixels above and left of a place
    # is linear between the corners of pixels.
    sums = cv2.integral(image).reshape((height + 1) * (width + 1), bands)
    (row, below), (column, right) = _ends(height), _ends(width)
    first = row[:, None] * (width + 1) + column
    corners = (sums.take(first + step, axis=0) for step in (0, 1, width + 1, width + 2))
    upper, lower = (one + (other - one) * right[:, None] for one, other in zip(corners, corners, strict=True))
    sums = upper + (lower - upper) * below[:, None, None]
    parts = sums[1:, 1:] - sums[1:, :-1] - sums[:-1, 1:] + sums[:-1, :-1]
    return (parts * (_SIDE * _SIDE / (height * width))).reshape(_SIDE * _SIDE, bands)


def _ends(side: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return where 64 equal parts of a side begin and end, 65 places: the pixel, and how far in it."""
    places = np.linspace(0.0, side, _SIDE + 1, dtype=np.float64)
    pixels = np.minimum(places.astype(np.intp), side - 1)
    return pixels, places - pixels


def equal_groups(found: Sequence[Likeness]) -> list[list[int]]:
    """Return the positions of images with equal pixels, in groups of at least two."""
    groups: dict[bytes, list[int]] = {}
    for position, likeness in enumerate(found):
        groups.setdefault(likeness.digest, []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(found: Sequence[Likeness]) -> list[tuple[int, int]]:
    """Return the positions of pairs of images that show nearly the same picture, but differ in pixels.

    They were stored again with loss, made brighter or darker, or moved by a few pixels. Turned images are not found.
    """
    # One image stands for all that are equal to it, until pairs are found.
    equal: dict[bytes, list[int]] = {}
    for position, likeness in enumerate(found):
        if likeness.details is not None:
            equal.setdefault(likeness.digest, []).append(position)
    positions = [group[0] for group in equal.values()]
    codes = np.array([found[position].hash for position in positions], np.uint64)
    with ThreadPoolExecutor(available_cpus()) as pool:
        steps = pool.map(lambda start: list(_candidates(codes, start)), range(0, len(codes), _AT_ONCE))
        pairs = [(positions[i], positions[j]) for step in steps for i, j in step]
    return [
        (min(one, other), max(one, other))
        for i, j in pairs
        if alike(found[i], found[j])
        for one, other in product(equal[found[i].digest], equal[found[j].digest])
    ]


def _candidates(codes: npt.NDArray[np.uint64], start: int) -> Iterator[tuple[int, int]]:
    rows = codes[start : start + _AT_ONCE, None]
    few = np.bitwise_count(rows ^ codes[None, start:]) <= _BITS
    for i, j in zip(*map(np.ndarray.tolist, np.nonzero(few)), strict=True):
        if i < j:
            yield start + i, start + j


def alike(one: Likeness, other: Likeness) -> bool:
    """Return whether two images show nearly the same picture, perhaps moved by a few pixels."""
    if one.details is None or other.details is None:
        return False
    inner = other.details.astype(np.float32)[_STEP:-_STEP, _STEP:-_STEP]
    found = cv2.matchTemplate(one.details.astype(np.float32), inner, cv2.TM_CCOEFF_NORMED)
    return bool(found.max() >= _ALIKE)
