"""Helpers: plain tiles, striped masks, and rows of a sheet."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.data.labels import IGNORED, Labels
from segtune.pictures.render import Picture
from segtune.pictures.sheet import Prediction, Preview

LABELS = Labels((10, 20), (0,), True, 1)
RED, WHITE = (255, 0, 0), (255, 255, 255)
CELL = 64


def grey_picture(height: int = 32, width: int = 32, value: int = 100) -> Picture:
    return np.full((height, width, 3), value, dtype=np.uint8)


def stripes(height: int = 32, width: int = 32) -> npt.NDArray[np.uint8]:
    """Four columns: background, the first class, the second one, ignored."""
    columns = np.repeat(np.array([0, 1, 2, IGNORED], dtype=np.uint8), width // 4)
    return np.tile(columns, (height, 1))


def nearer(colour: npt.NDArray[Any], one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a colour points from grey to one colour rather than to another."""
    return bool(np.dot(colour - 100.0, np.subtract(one, 100)) > np.dot(colour - 100.0, np.subtract(other, 100)))


def preview(name: str = "tile.tif", height: int = 32, width: int = 32) -> Preview:
    mask = stripes(height, width)
    return Preview(name, grey_picture(), mask, grey_picture(value=160), mask[:, ::-1])


def mistake(name: str = "tile.tif", height: int = 32, width: int = 32, iou: float = 0.25) -> Prediction:
    truth = stripes(height, width)
    return Prediction(name, iou, grey_picture(), truth, np.where(truth == 1, 2, 0).astype(np.uint8))


def has(sheet: Picture, colour: tuple[int, int, int]) -> bool:
    return bool((sheet == colour).all(axis=2).any())
