"""Panels of a tile: what each shows, and in which order files list them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.labels import IGNORED, Labels
from segtune.pictures.panels import Panels, panels, panels_name
from segtune.pictures.render import CERTAIN, Picture, palette, shaded
from tests.pictures.sheets import LABELS, grey_picture, has, stripes

BINARY = Labels((255,), (7,), True, 0)
SIDE = 256  # of a small tile on the panels


def tile(iou: float | None = 0.5, truth: npt.NDArray[np.uint8] | None = None, name: str = "tile") -> Panels:
    """A tile of one class whose probability rises from left to right, predicted in the right half."""
    probability = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    return Panels(name, grey_picture(64, 64), (probability > 0.5).astype(np.uint8), probability, truth, iou)


def classes(truth: npt.NDArray[np.uint8] | None) -> Panels:
    predicted = np.where(stripes(64, 64) == IGNORED, 2, stripes(64, 64)).astype(np.uint8)
    return Panels("tile", grey_picture(64, 64), predicted, None, truth, 0.5)


def cells(picture: Picture, count: int) -> list[Picture]:
    """The pictures of the only row, without their frames."""
    assert picture.shape[1] == count * SIDE + (count - 1) * 8 + 32
    row = picture[-16 - SIDE : -16]
    return [row[1:-1, 16 + number * (SIDE + 8) :][:, 1 : SIDE - 1] for number in range(count)]


def test_a_probability_is_blue_above_the_threshold_and_grey_below() -> None:
    for threshold in (0.2, 0.5, 0.9):
        probability = np.linspace(0, 1, 101, dtype=np.float32)[None]
        predicted = (probability > threshold).astype(np.uint8)
        shades = shaded(probability, predicted, threshold)[0].astype(int)
        blue = shades[:, 2] - shades[:, 0] > 20
        np.testing.assert_array_equal(blue, predicted[0] == 1)
        assert np.ptp(shades[~blue], axis=1).max() == 0
        assert (np.diff(shades[:, 0]) <= 0).all()  # darker and darker
        assert (shades[0] == 255).all()
        assert tuple(shades[-1]) == CERTAIN


def test_an_object_that_was_removed_is_grey_whatever_its_probability() -> None:
    shades = shaded(np.full((2, 2), 0.9, np.float32), np.zeros((2, 2), np.uint8), 0.5)
    assert np.ptp(shades) == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_shades_exist_at_the_ends_of_the_scale_and_without_a_number(threshold: float) -> None:
    probability = np.array([[0, 0.5, 1, np.nan]], np.float32)
    assert shaded(probability, (probability > threshold).astype(np.uint8), threshold).shape == (1, 4, 3)


def test_image_output_and_truth_stand_side_by_side() -> None:
    truth = np.where(stripes(64, 64) == 2, 0, stripes(64, 64)).astype(np.uint8)  # the last quarter is ignored
    image, output, true = cells(panels(tile(truth=truth), BINARY, 0.5), 3)
    assert (image == 100).all()
    blue = output[128, :, 2].astype(int) - output[128, :, 0] > 20
    assert not blue[:120].any()
    assert blue[136:].all()
    assert (true[:, :60] == 255).all()
    assert (true[:, 66:120] == CERTAIN).all()
    ignored = true[:, -56:].astype(int)
    assert np.ptp(ignored, axis=2).max() == 0  # grey
    assert np.ptp(ignored) > 80  # in light and dark lines


def test_without_truth_there_are_two_panels_and_no_iou() -> None:
    assert len(cells(panels(tile(None), BINARY, 0.5), 2)) == 2
    assert len(cells(panels(classes(None), LABELS, 0.5), 2)) == 2
    assert np.array_equal(panels(tile(None), BINARY, 0.5), panels(tile(0.7), BINARY, 0.5))


def test_several_classes_have_their_colours_and_a_legend() -> None:
    picture = panels(classes(stripes(64, 64)), LABELS, 0.5)
    _, output, true = cells(picture, 3)
    first, second = palette(2)
    assert (output[:, 70:120] == first).all()
    assert (output[:, 136:] == second).all()
    assert not has(true[:, -56:], second)
    head = picture[: -SIDE - 16]
    assert has(head, first)
    assert has(head, second)


def test_the_caption_tells_name_and_iou_and_the_legend_the_threshold() -> None:
    truth = stripes(64, 64)
    shown = [panels(tile(iou, truth), BINARY, 0.5) for iou in (0.5, 0.7, None)]
    shown += [panels(tile(0.5, truth, "other"), BINARY, 0.5), panels(tile(0.5, truth), BINARY, 0.4)]
    heads = {picture[: -SIDE - 16].tobytes() for picture in shown}
    assert len(heads) == len(shown)


@pytest.mark.parametrize(
    ("height", "width", "cell"), [(10, 10, 256), (300, 300, 300), (2000, 1000, 512), (100, 400, 400)]
)
def test_a_panel_is_as_wide_as_its_tile_within_limits(height: int, width: int, cell: int) -> None:
    predicted = np.zeros((height, width), np.uint8)
    part = Panels("tile", grey_picture(8, 8), predicted, predicted.astype(np.float32), predicted, None)
    picture = panels(part, BINARY, 0.5)
    assert picture.shape[1] == 3 * cell + 2 * 8 + 32
    assert (picture[-16:] == 255).all()


def test_names_sort_from_the_worst_tile_to_the_best_and_to_empty_ones() -> None:
    truth = stripes()
    tiles = [tile(iou, truth, name) for iou, name in ((1.0, "a"), (None, "b"), (0.07, "c"), (0.7341, "d"), (0.0, "e"))]
    names = [panels_name(part) for part in tiles]
    assert sorted(names) == ["0.000_e.png", "0.070_c.png", "0.734_d.png", "1.000_a.png", "empty_b.png"]
    assert panels_name(replace(tiles[0], truth=None, iou=None)) == "a.png"
