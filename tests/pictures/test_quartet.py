"""A tile as four small pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segtune.data.labels import Labels
from segtune.pictures.quartet import LARGEST, colours_of, quartet
from segtune.pictures.render import difference, painted

LABELS = Labels((3, 7), (), True, 0, ("field", "wood"))


@pytest.mark.parametrize(
    ("shape", "size"), [((64, 48), (64, 48)), ((512, 256), (192, 96)), ((1000, 1), (192, 1)), ((30, 400), (14, 192))]
)
def test_pictures_have_the_shape_of_the_mask_and_a_bounded_size(shape: tuple[int, int], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    mask = rng.integers(0, 3, shape, dtype=np.uint8)
    for data in quartet(picture, mask, mask, LABELS):
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == size
        assert len(data) <= 3 * LARGEST**2 + 1000


def test_masks_and_errors_are_exact_and_the_image_nearly_so() -> None:
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    truth, predicted = (rng.integers(0, 3, (64, 64), dtype=np.uint8) for _ in range(2))
    found = [
        cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        for data in quartet(smooth, truth, predicted, LABELS)
    ]
    assert 0 < np.abs(found[0].astype(float) - smooth).mean() < 3
    exact = [painted(mask, LABELS, (64, 64)) for mask in (truth, predicted)]
    for picture, right in zip(found[1:], [*exact, difference(smooth, predicted, truth)], strict=True):
        np.testing.assert_array_equal(picture, right)


def test_the_legend_has_the_colours_of_the_masks() -> None:
    truth = np.array([[0, 1], [2, 2]], dtype=np.uint8)
    _, mask, _, _ = quartet(np.zeros((2, 2, 3), np.uint8), truth, truth, LABELS)
    drawn = cv2.cvtColor(cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    titles, colours = zip(*colours_of(LABELS), strict=True)
    assert titles == ("background", "3 field", "7 wood")
    assert [tuple(drawn[0, 0]), tuple(drawn[0, 1]), tuple(drawn[1, 0])] == list(colours)
