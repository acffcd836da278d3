"""How tiles of any size become the square that the network sees, and how predictions map back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.labels import UNLABELLED
from segtune.data.reading import Image, TilePixels, Valid
from segtune.values import ENLARGE, OVERLAP, SHRINK, check_overlap

Pixels = npt.NDArray[Any]
_SHRINK, _ENLARGE = getattr(cv2, SHRINK), getattr(cv2, ENLARGE)
_BANDS_AT_ONCE = 4  # OpenCV averages at most four bands at a time


@dataclass(frozen=True)
class Fit:
    """A way of fitting tiles to a square of `size` pixels: resize, crop or pad."""

    mode: str
    size: int

    @classmethod
    def of(cls, config: RunConfig) -> Fit:
        """Return the fit of a run whose image_size is set."""
        return cls(config.fit, config.image_size or 0)

    @classmethod
    def from_key(cls, key: str) -> Fit:
        """Parse a cache key such as `resize-512`."""
        mode, _, size = key.partition("-")
        return cls(mode, int(size)) if size else cls("crop", 0)

    @property
    def key(self) -> str:
        """The cache key of fitted tiles, such as `resize-512`: crops of every size share the whole tiles."""
        return "whole" if self.mode == "crop" else f"{self.mode}-{self.size}"

    def inner(self, height: int, width: int) -> tuple[int, int]:
        """Return the size, (h, w), at which a tile of (height, width) is kept."""
        if self.mode == "resize":
            return self.size, self.size
        largest = max(height, width)
        if self.mode == "crop" or largest <= self.size:
            return height, width
        return max(1, round(height * self.size / largest)), max(1, round(width * self.size / largest))

    def keep_image(self, image: Pixels) -> Pixels:
        """Return an image, (H, W, bands), as it is kept: resized or shrunk, but neither padded nor cropped."""
        return resized(image, self.inner(*image.shape[:2]))

    def keep_mask(self, mask: Pixels) -> Pixels:
        """Return a mask, (H, W), as it is kept for training; no new labels arise."""
        size = self.inner(*mask.shape)
        if size == mask.shape:
            return mask
        if mask.dtype == np.int64:  # OpenCV would make it int32
            return self.keep_mask(mask.view(np.float64)).view(np.int64)
        return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def pad_image(self, image: Pixels) -> Pixels:
        """Pad a kept image to at least `size` pixels on each side with its mean colour."""
        height, width = image.shape[:2]
        if min(height, width) >= self.size:
            return image
        padded = np.empty((max(height, self.size), max(width, self.size), image.shape[2]), image.dtype)
        mean = image.mean(axis=(0, 1), dtype=np.float64)
        padded[...] = np.round(mean) if image.dtype.kind in "iu" else mean
        padded[:height, :width] = image
        return padded

    def pad_target(self, target: Pixels, padding: int) -> Pixels:
        """Pad a kept target to at least `size` pixels on each side with `padding`."""
        height, width = target.shape
        if min(height, width) >= self.size:
            return target
        padded = np.full((max(height, self.size), max(width, self.size)), padding, target.dtype)
        padded[:height, :width] = target
        return padded

    def crop(self, image: Pixels, target: Pixels, random: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Cut a square at a random place from image and target, which are at least that large."""
        height, width = target.shape
        top = int(random.integers(height - self.size + 1))
        left = int(random.integers(width - self.size + 1))
        square = np.s_[top : top + self.size, left : left + self.size]
        return image[square], target[square]

    def windows(self, height: int, width: int, overlap: float = OVERLAP) -> list[tuple[int, int]]:
        """Return the corners, (top, left), of evenly spread windows that cover an image at least as large as one.

        Neighbours overlap by at least this share of their side.
        """
        tops, lefts = (window_starts(length, self.size, overlap) for length in (height, width))
        return [(top, left) for top in tops for left in lefts]


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where evenly spread windows begin that cover a length; neighbours share at least this part of a side.

    Raises InputError where the overlap is not from 0 to 0.9.
    """
    check_overlap(overlap)
    steps = math.ceil(max(0, length - side) / (side * (1 - overlap)))
    return [round(i * (length - side) / steps) for i in range(steps + 1)] if steps else [0]


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return an image, (H, W, bands), at another size, (h, w): averaged where it shrinks, interpolated where it grows.

    The result has the image's type, whole numbers are rounded.
    """
    height, width = image.shape[:2]
    if size == (height, width):
        return image
    # Average the sides that shrink, then interpolate those that grow: OpenCV averages only where no side grows.
    shrunk = min(height, size[0]), min(width, size[1])
    parts = []
    for first in range(0, image.shape[2], _BANDS_AT_ONCE):
        part = image[..., first : first + _BANDS_AT_ONCE]
        if shrunk != (height, width):
            part = cv2.resize(part, shrunk[::-1], interpolation=_SHRINK)
        if shrunk != size:
            part = cv2.resize(part, size[::-1], interpolation=_ENLARGE)
        parts.append(part)
    return np.dstack(parts)


class Decoded(NamedTuple):
    """What the cache keeps of a tile."""

    sources: list[Image]  # each (h, w, bands)
    labels: npt.NDArray[np.integer]  # (h, w) in training, else of the mask's own size


def decode(pixels: TilePixels, fit: Fit, training: bool) -> Decoded:
    """Return what the cache keeps of a tile that was read.

    Pixels without data are UNLABELLED, and get the mean of the tile's others, so that resizing does not smear an
    arbitrary value into its neighbours. Labels are fitted for training only. Which of them are classes is decided
    later: the same tiles serve runs that learn other ones.
    """
    sources, valid, mask = pixels
    if not valid.all():
        mask = np.where(valid, mask.astype(np.int64), UNLABELLED)
        sources = [filled(source, valid) for source in sources]
    mask = _narrowed(mask)
    return Decoded([fit.keep_image(source) for source in sources], fit.keep_mask(mask) if training else mask)


def _narrowed(mask: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Return labels in the smallest of the types that are kept: uint8, int32 or int64."""
    low, high = int(mask.min()), int(mask.max())
    dtype = next(d for d in (np.uint8, np.int32, np.int64) if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
    return mask.astype(dtype, copy=False)


def filled(source: Image, valid: Valid) -> Image:
    """Return a source, (H, W, bands), whose pixels without data have the mean of the others; 0 where there are none."""
    if valid.all():
        return source
    copy = source.copy()
    mean = source[valid].mean(axis=0, dtype=np.float64) if valid.any() else np.zeros(source.shape[2])
    copy[~valid] = np.round(mean) if source.dtype.kind in "iu" else mean
    return copy
