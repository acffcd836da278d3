"""Changes of colour: only in red, green and blue, wherever they are among the bands, and only where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.augment import Augmentation
from segtune.data.bands import Band
from tests.data.pictures import SIZE, bands_like

SAMPLES = 30
Image = npt.NDArray[Any]


def image_of(bands: int, dtype: str) -> Image:
    """A smooth random image, uint8, or float32 in a sensor's own unit."""
    random = np.random.default_rng(0)
    pixels = np.stack([cv2.GaussianBlur(random.normal(0, 1, (SIZE, SIZE)), (0, 0), 2) for _ in range(bands)], axis=2)
    pixels = (pixels - pixels.min()) / np.ptp(pixels)
    return (pixels * 255).astype(np.uint8) if dtype == "uint8" else (pixels * 9000 - 500).astype(np.float32)


def augmented(image: Image, level: str, rgb: Sequence[int], seed: int = 0) -> list[Image]:
    mask = np.zeros(image.shape[:2], np.uint8)
    augmentation = Augmentation(level, bands_like(image), image.dtype == np.uint8, rgb)
    return [augmentation(image, mask, seed, 0, index)[0] for index in range(SAMPLES)]


def changes(image: Image, level: str, rgb: Sequence[int]) -> list[Image]:
    """What colour alone changes, per sample: the difference to the same level without it."""
    pairs = zip(augmented(image, level, rgb), augmented(image, level, ()), strict=True)
    return [one.astype(np.float64) - other for one, other in pairs]


@pytest.mark.parametrize("level", ["medium", "hard"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("rgb", [(0, 1, 2), (2, 1, 0), (4, 2, 1)])
def test_only_red_green_and_blue_change_in_colour(level: str, dtype: str, rgb: tuple[int, ...]) -> None:
    image = image_of(5, dtype)
    found = changes(image, level, rgb)
    others = [band for band in range(5) if band not in rgb]
    assert all((change[..., others] == 0).all() for change in found)
    coloured = sum(bool((change[..., list(rgb)] != 0).all(axis=2).any()) for change in found)
    assert SAMPLES // 4 <= coloured < SAMPLES  # each sample has a draw of its own


@pytest.mark.parametrize("level", ["none", "safe", "light"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_lower_levels_leave_colour_alone(level: str, dtype: str) -> None:
    assert not any(change.any() for change in changes(image_of(4, dtype), level, (0, 1, 2)))


@pytest.mark.parametrize("rgb", [(0,), (0, 1)])
def test_fewer_than_three_bands_have_no_colour(rgb: tuple[int, ...]) -> None:
    assert not any(change.any() for change in changes(image_of(4, "uint8"), "hard", rgb))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_hard_changes_colour_more_than_medium(dtype: str) -> None:
    image = image_of(3, dtype)
    medium, hard = (
        np.mean([np.abs(change).mean() for change in changes(image, level, (0, 1, 2))]) for level in ("medium", "hard")
    )
    assert 0 < 1.5 * medium < hard
    assert hard < 0.2 * np.ptp(image)  # a scene in another light, not another scene


def test_uint8_and_float_images_change_in_the_same_way() -> None:
    """The same picture in either type: what differs is rounding."""
    image = image_of(3, "uint8")
    bands = [Band(f"image:{i}", 127.5, 128.0, 0.0, 255.0) for i in range(1, 4)]
    mask = np.zeros(image.shape[:2], np.uint8)
    whole, real = (Augmentation("medium", bands, uint8, (0, 1, 2)) for uint8 in (True, False))
    for index in range(SAMPLES):
        one, _ = whole(image, mask, 0, 0, index)
        other, _ = real(image.astype(np.float32), mask, 0, 0, index)
        # Noise is drawn by type, so averages are what can be compared.
        np.testing.assert_allclose(one.mean(axis=(0, 1)), other.mean(axis=(0, 1)), atol=2.5)


def test_the_order_of_the_bands_makes_no_difference() -> None:
    """Blue, green, red with rgb to match is the same scene, and is changed the same."""
    image = image_of(3, "uint8")
    mask = np.zeros(image.shape[:2], np.uint8)
    mirrored = np.ascontiguousarray(image[..., ::-1])
    one = Augmentation("medium", bands_like(image), True, (0, 1, 2))
    other = Augmentation("medium", bands_like(mirrored), True, (2, 1, 0))
    same = [
        np.array_equal(one(image, mask, 0, 0, index)[0], other(mirrored, mask, 0, 0, index)[0][..., ::-1])
        for index in range(SAMPLES)
    ]
    assert sum(same) >= SAMPLES // 2  # all but the noisy ones: noise is drawn by band


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_seed_decides_and_the_given_image_stays(dtype: str) -> None:
    image = image_of(4, dtype)
    before = image.copy()
    first, again = augmented(image, "hard", (0, 1, 2)), augmented(image, "hard", (0, 1, 2))
    other = augmented(image, "hard", (0, 1, 2), seed=1)
    for one, two, three in zip(first, again, other, strict=True):
        assert (one.shape, one.dtype) == (image.shape, image.dtype)
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three)
    np.testing.assert_array_equal(image, before)
