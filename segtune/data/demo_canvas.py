"""The canvas of one demo tile: reflectance and classes, and the tools to paint them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Raster = NDArray[np.float32]
Points = NDArray[np.float64]
_REFERENCE_SIZE = 128  # object sizes below are in pixels of a tile of this size and scale with the tile


@dataclass
class Scene:
    """A tile being painted: bands (size, size, 4) hold reflectance, labels (size, size) hold classes."""

    size: int
    rng: np.random.Generator
    bands: Raster = field(init=False)
    labels: NDArray[np.uint8] = field(init=False)
    taken: Mask = field(init=False)  # ground already built on, flooded or driven over
    sun: tuple[float, float] = field(init=False)  # (x, y) direction in which shadows fall, unit length

    def __post_init__(self) -> None:
        shape = (self.size, self.size)
        self.bands = np.zeros((*shape, 4), np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.taken = np.zeros(shape, bool)
        angle = self.rng.uniform(0, 2 * np.pi)
        self.sun = (float(np.cos(angle)), float(np.sin(angle)))

    def px(self, length: float) -> float:
        """Convert a length in reference pixels to pixels of this tile."""
        return length * self.size / _REFERENCE_SIZE

    def pick(self, colours: tuple[tuple[float, ...], ...], spread: float = 0.04) -> Raster:
        """Draw one of the colours, (4,), slightly varied in brightness and hue."""
        colour = np.asarray(colours[self.rng.integers(len(colours))])
        varied = colour * self.rng.normal(1, 0.08) * self.rng.normal(1, spread, 4)
        return np.clip(varied, 0.02, 0.98).astype(np.float32)

    def noise(self, *wavelengths: float) -> Raster:
        """Draw a smooth random texture (size, size), about zero mean and unit deviation, one octave per wavelength."""
        total = np.zeros((self.size, self.size), np.float32)
        for wavelength in wavelengths:
            cells = max(2, round(self.size / max(1.0, self.px(wavelength)))) + 1
            grid = self.rng.standard_normal((cells, cells)).astype(np.float32)
            total += cv2.resize(grid, (self.size, self.size), interpolation=cv2.INTER_CUBIC)
        return total / np.float32(np.sqrt(len(wavelengths)))

    def polygon(self, points: Points) -> Mask:
        """Return the pixels inside the closed polygon of (x, y) points, shape (n, 2)."""
        canvas = np.zeros((self.size, self.size), np.uint8)
        # Four fractional bits place the corners between pixels, so small roofs keep their angles.
        cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 1, shift=4)
        return canvas.astype(bool)

    def paint(self, mask: Mask, colour: Raster, label: int | None = None, edge: float = 0.5) -> None:
        """Cover the mask with a colour, (4,) or (size, size, 4), with edges blurred by `edge` pixels."""
        alpha = _soften(mask, edge)[..., None]
        self.bands = (self.bands * (1 - alpha) + colour * alpha).astype(np.float32)
        if label is not None:
            self.labels[mask] = label

    def shade(self, mask: Mask, factor: float, edge: float = 0.6) -> None:
        """Cast a shadow: the light on the mask is reduced to `factor`."""
        alpha = _soften(mask, edge)[..., None]
        # Skylight brightens shadows in blue; near infrared stays darkest, as over water.
        light = np.array([factor, factor * 1.08, factor * 1.3, factor * 0.8], np.float32)
        self.bands *= 1 - alpha * (1 - light)


def _soften(mask: Mask, sigma: float) -> Raster:
    """Return the mask as coverage from 0 to 1 with blurred edges."""
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma), np.float32)


def grow(mask: Mask, radius: float) -> Mask:
    """Dilate the mask by a disc of `radius` pixels."""
    width = 2 * round(radius) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), bool)


def rectangle(centre: Points, length: float, width: float, angle: float) -> Points:
    """Return the corners (4, 2) of a rectangle whose long side points along `angle` radians."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    return np.array(
        [centre + along + across, centre + along - across, centre - along - across, centre - along + across]
    )
