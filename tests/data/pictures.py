"""Smooth random pictures, and the statistics of their bands."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.bands import Band
from segtune.data.labels import IGNORED

SIZE = 48


def bands_like(image: npt.NDArray[Any]) -> list[Band]:
    flat = image.reshape(-1, image.shape[2]).astype(np.float64)
    rows = zip(flat.mean(axis=0), flat.std(axis=0), flat.min(axis=0), flat.max(axis=0), strict=True)
    return [Band(f"image:{i}", *(float(value) for value in row)) for i, row in enumerate(rows, start=1)]


def sample(
    bands: int, dtype: str, seed: int = 0, shape: tuple[int, int] = (SIZE, SIZE)
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Return a smooth random image and a mask with background, two classes and ignored pixels."""
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.normal(0, 1, (*shape, 1)), (0, 0), 4)
    mask = np.digitize(noise, np.quantile(noise, [0.4, 0.7, 0.9])).astype(np.uint8)
    mask[mask == 3] = IGNORED
    pixels = np.stack([cv2.GaussianBlur(random.normal(0, 1, shape), (0, 0), 2) for _ in range(bands)], axis=2)
    pixels = (pixels - pixels.min()) / np.ptp(pixels)
    image = pixels * 255 if dtype == "uint8" else (pixels * 9000 - 500)
    return image.astype(dtype), mask
