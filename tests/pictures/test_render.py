"""Tiles and masks as pictures: what is shown, and in which colour."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segtune.data.bands import Band
from segtune.data.labels import IGNORED
from segtune.pictures.render import difference, overlay, palette, render
from tests.pictures.sheets import LABELS, RED, WHITE, grey_picture, nearer, stripes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_each_band_reaches_over_two_standard_deviations(dtype: str) -> None:
    bands = [Band("image:1", 100, 10, 0, 250), Band("image:2", 60, 20, 0, 250), Band("nir", 30, 5, 0, 250)]
    image = np.array([[[80, 20, 20], [100, 60, 30], [120, 100, 40], [250, 250, 250]]]).astype(dtype)
    picture = render(image, bands, (0, 1, 2))
    assert (picture.shape, picture.dtype) == ((1, 4, 3), np.uint8)
    np.testing.assert_array_equal(picture[0, :, 0], [0, 128, 255, 255])
    np.testing.assert_array_equal(picture, np.repeat(picture[..., :1], 3, axis=2))


def test_a_band_is_not_stretched_beyond_its_values() -> None:
    bands = [Band("image:1", 50, 100, 0, 200)]
    picture = render(np.array([[[0], [50], [100], [200]]], np.int16), bands, (0,))
    np.testing.assert_array_equal(picture[0, :, 0], [0, 64, 128, 255])


def test_bands_are_shown_in_the_order_of_rgb() -> None:
    bands = [Band(f"image:{i}", 128, 64, 0, 256) for i in range(1, 5)]
    image = np.array([[[0, 64, 128, 192]]], dtype=np.uint8)
    assert render(image, bands, (3, 0, 1)).tolist() == [[[191, 0, 64]]]
    assert render(image, bands, (2,)).tolist() == [[[128, 128, 128]]]


def test_an_image_without_contrast_or_with_nan_is_black_there() -> None:
    image = np.array([[[5.0], [np.nan]]], dtype=np.float32)
    assert not render(image, [Band("image:1", 5, 0, 5, 5)], (0,)).any()


def test_two_bands_are_no_picture() -> None:
    with pytest.raises(ValueError, match="one position or three"):
        render(np.zeros((2, 2, 2), np.uint8), [Band("image:1", 1, 1, 0, 2)] * 2, (0, 1))


def test_a_palette_has_a_colour_of_its_own_for_each_class() -> None:
    colours = palette(254)
    assert len(set(colours)) == 254
    assert all(palette(count) == colours[:count] for count in (1, 3, 7, 8, 40))
    assert not set(colours) & {(0, 0, 0), WHITE, RED}


def test_the_first_twenty_colours_look_different() -> None:
    lab = cv2.cvtColor(np.array([palette(20)], np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    assert distances[~np.eye(20, dtype=bool)].min() > 25


def test_overlay_tints_classes_and_hatches_ignored_pixels() -> None:
    picture = grey_picture()
    shown = overlay(picture, stripes(), LABELS)
    first, second = palette(2)
    np.testing.assert_array_equal(shown[:, :8], picture[:, :8])
    assert nearer(shown[16, 12], first, second)
    assert nearer(shown[16, 20], second, first)
    assert tuple(shown[16, 8]) == first  # outlined
    assert tuple(shown[16, 16]) == second
    ignored = shown[:, 24:].astype(int)
    assert np.ptp(ignored, axis=2).max() == 0  # grey
    assert np.ptp(ignored) > 80  # in light and dark lines
    assert (picture == 100).all()


def test_hatching_is_seen_on_any_ground() -> None:
    mask = np.full((32, 32), IGNORED, dtype=np.uint8)
    for value in (0, 128, 255):
        assert np.ptp(overlay(grey_picture(value=value), mask, LABELS).astype(int)) > 80


def test_a_mask_of_another_size_covers_the_same_place() -> None:
    picture = grey_picture()
    same = overlay(picture, stripes(), LABELS)
    for height, width in ((64, 64), (16, 16), (320, 320)):
        other = overlay(picture, stripes(height, width), LABELS)
        assert other.shape == picture.shape
        np.testing.assert_array_equal(other[:, 2:-2:8], same[:, 2:-2:8])


def test_a_narrow_road_is_not_torn_where_the_mask_is_larger() -> None:
    mask = np.zeros((512, 512), dtype=np.uint8)
    road = np.clip(np.arange(512) // 3 + 17, 0, 511)
    mask[np.arange(512), road] = 1
    shown = overlay(grey_picture(64, 64), mask, LABELS)
    assert (shown != 100).any(axis=(1, 2)).all()


def test_differences_are_red_and_everything_else_is_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    truth = stripes()
    predicted = truth.copy()
    predicted[truth == IGNORED] = 1
    predicted[:16, :8] = 2
    predicted[:16, 8:16] = 0
    shown = difference(picture, predicted, truth).astype(int)
    coloured = np.ptp(shown, axis=2) > 0
    np.testing.assert_array_equal(coloured, (predicted != truth) & (truth != IGNORED))
    assert (shown[coloured][:, 0] > shown[coloured][:, 1] + 100).all()
