"""Augmentation levels, for any number of bands, in uint8 or float32.

Each sample is drawn from (seed, epoch, sample) only: what a run sees depends neither on the number of loader processes
nor on what they loaded before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

# albumentations asks the package registry for a newer release when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.geometric.distortion import BaseDistortion

from segtune.data.bands import Band
from segtune.data.labels import Indices
from segtune.data.store import Array

_SPREAD = 4.0  # standard deviations that photometric changes of float images span on each side of the mean


class _Elastic(BaseDistortion):  # type: ignore[misc]  # albumentations has no types there
    """Moves pixels by random distances that vary smoothly, as for U-Net (Ronneberger et al. 2015, arXiv:1505.04597).

    Distances are drawn on a coarse grid, in shares of the tile's side. A.ElasticTransform draws one per pixel and takes
    ten times as long; its distances are in pixels.
    """

    _NODES, _SHARE = 5, 0.025  # grid points along a side; standard deviation of a distance

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the maps of where each pixel comes from."""
        height, width = params["shape"][:2]
        coarse = self.random_generator.normal(0, self._SHARE, (self._NODES, self._NODES, 2)).astype(np.float32)
        moved = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
        return {"map_x": columns[None] + moved[..., 0] * width, "map_y": rows[:, None] + moved[..., 1] * height}


def _distorted() -> A.BasicTransform:
    mirrored = cv2.BORDER_REFLECT_101
    elastic = _Elastic(cv2.INTER_LINEAR, cv2.INTER_NEAREST, "mask", p=1.0, border_mode=mirrored)
    return A.OneOf([elastic, A.GridDistortion(num_steps=5, distort_limit=0.3, border_mode=mirrored, p=1.0)], p=0.3)


def _geometric(level: str) -> list[A.BasicTransform]:
    """Return the geometric transforms of a level. Edges are mirrored in image and mask alike."""
    turns: list[A.BasicTransform] = [A.D4(p=1.0)]
    mirrored = {"border_mode": cv2.BORDER_REFLECT_101}
    affine: dict[str, list[A.BasicTransform]] = {
        "medium": [A.Affine(scale=(0.85, 1.2), rotate=(-15, 15), translate_percent=(-0.06, 0.06), p=0.5, **mirrored)],
        "hard": [
            A.Affine(
                scale=(0.7, 1.5), rotate=(-45, 45), translate_percent=(-0.12, 0.12), shear=(-8, 8), p=0.8, **mirrored
            ),
            _distorted(),
            A.RandomGridShuffle(grid=(2, 2), p=0.1),
        ],
    }
    return [] if level == "none" else turns + affine.get(level, [])


def _brightness(limit: float, p: float) -> A.BasicTransform:
    """Return a change of brightness and contrast by up to `limit` of the tile's own mean.

    Most satellite tiles are dark: a share of the largest value would turn many of them black.
    """
    return A.RandomBrightnessContrast(limit, limit, brightness_by_max=False, p=p)


def _light(level: str) -> list[A.BasicTransform]:
    """Return the brightness and contrast transforms of a level; they work on any number of bands."""
    levels: dict[str, list[A.BasicTransform]] = {
        "light": [_brightness(0.1, p=0.5)],
        "medium": [_brightness(0.2, p=0.6)],
        "hard": [_brightness(0.3, p=0.7), A.RandomGamma(gamma_limit=(75, 130), p=0.3)],
    }
    return levels.get(level, [])


def _coarser() -> A.BasicTransform:
    """Return a change to a coarser resolution and back."""
    # OpenCV's INTER_AREA takes no more than four bands.
    return A.Downscale((0.5, 0.9), {"downscale": cv2.INTER_LINEAR, "upscale": cv2.INTER_LINEAR})


def _sensor(level: str) -> list[A.BasicTransform]:
    """Return the noise, blur, resolution and dropout transforms of a level; they work on any number of bands."""
    levels: dict[str, list[A.BasicTransform]] = {
        "medium": [A.OneOf([A.GaussNoise(std_range=(0.01, 0.04)), A.GaussianBlur(blur_limit=(3, 3))], p=0.25)],
        "hard": [
            A.OneOf([A.GaussNoise(std_range=(0.02, 0.08)), A.GaussianBlur(blur_limit=(3, 5)), _coarser()], p=0.5),
            A.CoarseDropout(
                num_holes_range=(1, 4), hole_height_range=(0.05, 0.15), hole_width_range=(0.05, 0.15), fill=0, p=0.2
            ),
        ],
    }
    return levels.get(level, [])


def _colour(level: str) -> list[A.BasicTransform]:
    """Return the changes of value, saturation and hue of a level; they work on three bands only.

    Not A.HueSaturationValue: it adds to the saturation, which colours what is almost grey, and takes float images
    through eight bits.
    """
    levels: dict[str, list[A.BasicTransform]] = {
        "medium": [
            A.ColorJitter(brightness=(0.9, 1.1), contrast=(1, 1), saturation=(0.75, 1.25), hue=(-0.03, 0.03), p=0.5)
        ],
        "hard": [
            A.ColorJitter(brightness=(0.8, 1.2), contrast=(1, 1), saturation=(0.5, 1.5), hue=(-0.06, 0.06), p=0.7)
        ],
    }
    return levels.get(level, [])


def transforms_of(level: str, colour: bool = True) -> list[A.BasicTransform]:
    """Return all transforms of a level in the order in which they are applied; `colour`: there are three rgb bands."""
    return [*_geometric(level), *_light(level), *(_colour(level) if colour else []), *_sensor(level)]


class UsualRange:
    """The usual range of each band. It becomes 0..1, where albumentations takes float images and clips them."""

    def __init__(self, bands: Sequence[Band]) -> None:
        mean, std, low, high = (
            np.array([getattr(band, name) for band in bands], dtype=np.float32)
            for name in ("mean", "std", "low", "high")
        )
        self._low = np.maximum(low, mean - _SPREAD * std)
        self._span = np.maximum(np.minimum(high, mean + _SPREAD * std) - self._low, 1e-12)

    def split(self, image: Array) -> tuple[Array, Array]:
        """Return an image scaled and clipped to 0..1, and what lies beyond; the sum of both is the image, scaled.

        So a bright cloud, added again at the end, neither sets the scale nor is cut off.
        """
        scaled = (image - self._low) / self._span
        usual = np.clip(scaled, 0.0, 1.0)
        return usual, scaled - usual

    def restored(self, scaled: Array) -> Array:
        """Return a scaled image in the unit of the data."""
        return (scaled * self._span + self._low).astype(np.float32)


class Augment(Protocol):
    """Changes training tiles; draws depend on seed, epoch and sample only."""

    def __call__(self, image: Array, target: Indices, seed: int, epoch: int, sample: int) -> tuple[Array, Indices]:
        """Augment an image, (H, W, bands), and its target, (H, W); both keep shape and type."""


class Augmentation:
    """One level of augmentation for tiles with these bands.

    Parameters
    ----------
    level: none, safe, light, medium or hard.
    bands: statistics of the images' bands, in their order; float images are changed in proportion to them.
    uint8: images are uint8, else float32 in any unit.
    rgb: positions of red, green and blue among the bands, which medium and hard change in colour too; the colour of
        fewer than three bands stays as it is.
    """

    def __init__(self, level: str, bands: Sequence[Band], uint8: bool, rgb: Sequence[int] = ()) -> None:
        self._geometric = _compose(_geometric(level))
        self._light, self._sensor = _compose(_light(level)), _compose(_sensor(level))
        self._rgb = list(rgb)
        self._colour = _compose(_colour(level) if len(self._rgb) == 3 else [])
        self._uint8 = uint8
        self._range = UsualRange(bands)

    def __call__(self, image: Array, target: Indices, seed: int, epoch: int, sample: int) -> tuple[Array, Indices]:
        """Augment an image, (H, W, bands), and its target, (H, W); both keep shape and type."""
        # A draw for each kind: that one of them is off changes none of the others.
        draws = np.random.SeedSequence((seed, epoch, sample)).generate_state(4)
        for changes, draw in zip((self._geometric, self._light, self._colour, self._sensor), draws, strict=True):
            if changes:
                changes.set_random_seed(int(draw))
        if self._geometric:
            changed = self._geometric(image=image, mask=target)
            image, target = changed["image"], changed["mask"]
        if self._light:
            image = self._change_values(image)
        return image, target

    def _change_values(self, image: Array) -> Array:
        if self._uint8:
            return self._change_usual(image)
        usual, beyond = self._range.split(image)
        return self._range.restored(self._change_usual(usual) + beyond)

    def _change_usual(self, image: Array) -> Array:
        """Change light, then colour, then noise: light depends on all bands, and noise comes from the sensor."""
        assert self._light is not None
        image = self._light(image=image)["image"]
        if self._colour:
            coloured = self._colour(image=np.ascontiguousarray(image[..., self._rgb]))["image"]
            image = image.copy()
            image[..., self._rgb] = coloured
        return self._sensor(image=image)["image"] if self._sensor else image


def _compose(transforms: list[A.BasicTransform]) -> A.Compose | None:
    # Without strict, a misspelt argument is a warning and the default applies.
    return A.Compose(transforms, strict=True) if transforms else None
