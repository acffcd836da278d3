"""Augmentation levels, for any number of bands, in uint8 or float32.

Every sample is drawn from (seed, epoch, sample) alone: what a run sees depends neither on how many loader workers
serve it nor on what they served before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

# albumentations asks the package registry for a newer release when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.store import Array, Indices
from segtune.schema import Band

_SPREAD = 4.0  # standard deviations that photometric changes of float images span on each side of the mean


def _geometric(level: str) -> list[A.BasicTransform]:
    """Changes of place. Edges are mirrored in image and mask alike, so that nothing has to be invented."""
    turns: list[A.BasicTransform] = [A.D4(p=1.0)]
    mirrored = {"border_mode": cv2.BORDER_REFLECT_101}
    affine: dict[str, list[A.BasicTransform]] = {
        "medium": [A.Affine(scale=(0.85, 1.2), rotate=(-15, 15), translate_percent=(-0.06, 0.06), p=0.5, **mirrored)],
        "hard": [
            A.Affine(
                scale=(0.7, 1.5), rotate=(-45, 45), translate_percent=(-0.12, 0.12), shear=(-8, 8), p=0.8, **mirrored
            ),
        ],
    }
    return [] if level == "none" else turns + affine.get(level, [])


def _photometric(level: str) -> list[A.BasicTransform]:
    """Changes of value; every one works on any number of bands."""
    levels: dict[str, list[A.BasicTransform]] = {
        "light": [A.RandomBrightnessContrast(0.1, 0.1, p=0.5)],
        "medium": [
            A.RandomBrightnessContrast(0.2, 0.2, p=0.6),
            A.OneOf([A.GaussNoise(std_range=(0.01, 0.04)), A.GaussianBlur(blur_limit=(3, 3))], p=0.25),
        ],
        "hard": [
            A.RandomBrightnessContrast(0.3, 0.3, p=0.7),
            A.RandomGamma(gamma_limit=(75, 130), p=0.3),
            A.OneOf([A.GaussNoise(std_range=(0.02, 0.08)), A.GaussianBlur(blur_limit=(3, 5))], p=0.4),
            A.CoarseDropout(
                num_holes_range=(1, 4), hole_height_range=(0.05, 0.15), hole_width_range=(0.05, 0.15), fill=0, p=0.2
            ),
        ],
    }
    return levels.get(level, [])


class Augmentation:
    """One level of augmentation for tiles with these bands."""

    def __init__(self, level: str, bands: Sequence[Band], uint8: bool) -> None:
        self._geometric = _compose(_geometric(level))
        self._photometric = _compose(_photometric(level))
        self._uint8 = uint8
        mean, std, low, high = (
            np.array([getattr(band, name) for band in bands], dtype=np.float32)
            for name in ("mean", "std", "low", "high")
        )
        self._low = np.maximum(low, mean - _SPREAD * std)
        self._span = np.maximum(np.minimum(high, mean + _SPREAD * std) - self._low, 1e-12)

    def __call__(self, image: Array, target: Indices, seed: int, epoch: int, sample: int) -> tuple[Array, Indices]:
        """Augment an image, (H, W, bands), and its target, (H, W); both keep shape and type."""
        draws = np.random.SeedSequence((seed, epoch, sample)).generate_state(2)
        if self._geometric:
            self._geometric.set_random_seed(int(draws[0]))
            changed = self._geometric(image=image, mask=target)
            image, target = changed["image"], changed["mask"]
        if self._photometric:
            self._photometric.set_random_seed(int(draws[1]))
            image = self._change_values(image)
        return image, target

    def _change_values(self, image: Array) -> Array:
        assert self._photometric is not None
        if self._uint8:
            return self._photometric(image=image)["image"]
        # albumentations takes float images in 0..1 and clips there. What lies outside the usual range is set
        # aside and added again, so that a bright cloud neither sets the scale nor is cut off.
        scaled = (image - self._low) / self._span
        usual = np.clip(scaled, 0.0, 1.0)
        changed: npt.NDArray[np.float32] = self._photometric(image=usual)["image"]
        return ((changed + (scaled - usual)) * self._span + self._low).astype(np.float32)


def _compose(transforms: list[A.BasicTransform]) -> A.Compose | None:
    # Without strict, a misspelt argument is a warning and the default applies.
    return A.Compose(transforms, strict=True) if transforms else None
