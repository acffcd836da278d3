"""Small objects are removed, and a sweep says what that gains."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segtune.data.labels import Indices
from segtune.evaluation.areas import AREAS, AreaCounts, SmallObjects, remove_small
from segtune.evaluation.metrics import ConfusionMatrix
from tests.evaluation.splits import blobs, labels_of, tiles
from tests.evaluation.test_metrics import array


def kept(indices: Indices, min_area: int) -> Indices:
    """The same by another library: objects of each class, neighbours over corners too."""
    found = np.zeros_like(indices)
    for index in range(1, int(indices.max()) + 1):
        objects, _ = ndimage.label(indices == index, structure=np.ones((3, 3)))
        areas = np.bincount(objects.ravel())
        areas[0] = 0
        found[areas[objects] >= max(min_area, 1)] = index
    return found


@pytest.mark.parametrize("min_area", [0, 1, 2, 5, 30, 10_000])
@pytest.mark.parametrize("indices", [2, 5])
def test_objects_with_fewer_pixels_become_background(indices: int, min_area: int) -> None:
    mask = blobs((60, 70), indices, seed=indices)
    mask[np.random.default_rng(0).random(mask.shape) < 0.1] = 1
    before = mask.copy()
    cleaned = remove_small(mask, min_area)
    np.testing.assert_array_equal(cleaned, kept(mask, min_area))
    np.testing.assert_array_equal(mask, before)
    assert cleaned.dtype == np.uint8


def test_touching_objects_of_two_classes_are_two_objects() -> None:
    mask = array([[1, 1, 0, 2], [1, 2, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(remove_small(mask, 2), array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]))
    mask = array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(remove_small(mask, 3), mask)


def test_without_background_the_class_around_an_object_takes_its_place() -> None:
    mask = np.full((8, 8), 1, np.uint8)
    mask[:, 5:] = 2
    mask[2:4, 3:5] = 3  # touches class 1 along 6 edges, class 2 along 2
    mask[6, 6] = 1  # lies in class 2
    cleaned = remove_small(mask, 5, background=False)
    expected = np.full((8, 8), 1, np.uint8)
    expected[:, 5:] = 2
    np.testing.assert_array_equal(cleaned, expected)


def test_small_objects_that_touch_do_not_take_each_others_class() -> None:
    mask = np.full((6, 7), 4, np.uint8)
    mask[2:4, 2:5] = 3
    mask[2, 3] = 2  # touches small objects alone but at its top
    mask[3, 3] = 1  # touches small ones, and class 4 below
    np.testing.assert_array_equal(remove_small(mask, 9, background=False), np.full((6, 7), 4))


@pytest.mark.parametrize("min_area", [3, 12, 40])
def test_nothing_small_is_left_and_large_objects_stay(min_area: int) -> None:
    mask = blobs((50, 60), 4, seed=9, first=1)
    mask[np.random.default_rng(1).random(mask.shape) < 0.1] = 2
    cleaned = remove_small(mask, min_area, background=False)
    large = kept(mask, min_area)
    np.testing.assert_array_equal(cleaned[large > 0], large[large > 0])
    assert cleaned.min() >= 1
    np.testing.assert_array_equal(kept(cleaned, min_area), cleaned)


def test_a_mask_of_small_objects_alone_stays_without_background() -> None:
    mask = array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(remove_small(mask, 3, background=False), mask)
    np.testing.assert_array_equal(remove_small(mask, 3), np.zeros((2, 2)))


def in_blocks(mask: Indices, block: int, min_area: int, background: bool) -> Indices:
    """Remove small objects from rows that come in blocks, which are given back as they came."""
    objects, blocks = SmallObjects(mask.shape[1], min_area, background), []
    tops = range(0, len(mask), block)
    for top in tops:
        blocks += objects.add(mask[top : top + block], last=top == tops[-1])
    assert [len(part) for part in blocks] == [len(mask[top : top + block]) for top in tops]
    return np.concatenate(blocks)


@pytest.mark.parametrize("block", [1, 3, 16, 50, 200])
@pytest.mark.parametrize("min_area", [2, 6, 30, 150, 100_000])
@pytest.mark.parametrize("background", [True, False])
def test_small_objects_in_blocks_are_those_of_the_whole(block: int, min_area: int, background: bool) -> None:
    mask = blobs((120, 50), 4, seed=min_area, first=0 if background else 1)
    mask[np.random.default_rng(2).random(mask.shape) < 0.05] = 2
    mask[60:, 20:24] = 3  # a large object across many blocks
    mask[30:50, 5:30] = 0  # no data
    np.testing.assert_array_equal(
        in_blocks(mask, block, min_area, background), remove_small(mask, min_area, background)
    )


@pytest.mark.parametrize("pixels", [9, 10])
def test_an_object_that_reaches_over_many_blocks_is_judged_as_a_whole(pixels: int) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[range(11, 11 + pixels), range(3, 3 + pixels)] = 1  # touches itself at corners alone
    found = in_blocks(mask, 2, 10, background=True)
    np.testing.assert_array_equal(found, mask if pixels == 10 else 0 * mask)


def test_blocks_wait_only_for_objects_that_may_be_small() -> None:
    objects, row = SmallObjects(3, 4, background=True), array([[0, 1, 0]])
    assert [len(objects.add(row, last=False)) for _ in range(6)] == [0, 0, 0, 4, 1, 1]
    assert len(objects.add(array([[2, 0, 0]]), last=False)) == 0
    assert len(objects.add(array([[0, 0, 0]]), last=False)) == 2


def miou(split: list[tuple[Indices, Indices]], classes: tuple[int, ...]) -> float:
    matrix = ConfusionMatrix(classes)
    for predicted, truth in split:
        matrix.update(predicted, truth)
    return matrix.scores().miou


@pytest.mark.parametrize(("classes", "background"), [(1, True), (3, True), (3, False)])
def test_the_sweep_scores_what_remove_small_leaves(classes: int, background: bool) -> None:
    labels = labels_of(classes, background)
    split = tiles(classes, seed=6, background=background)
    counts = AreaCounts(labels, threshold=0.6, own_threshold=0.5, own_min_area=3)
    for truth, probabilities in split:
        counts.update(truth, probabilities)
    sweep = counts.result()

    def predicted(threshold: float, min_area: int) -> list[tuple[Indices, Indices]]:
        first = 0 if background else 1
        found = []
        for truth, probabilities in split:
            above = probabilities[0] > threshold if labels.binary else probabilities.argmax(axis=0) + first
            found.append((remove_small(above.astype(np.uint8), min_area, background), truth))
        return found

    expected = {area: miou(predicted(0.6, area), labels.classes) for area in AREAS}
    assert dict(zip(sweep.areas, sweep.miou, strict=True)) == expected
    assert sweep.own_miou == miou(predicted(0.5, 3), labels.classes)
    best = sweep.best()
    assert best.miou == max(*expected.values(), sweep.own_miou)
    assert best.gain == best.miou - sweep.own_miou >= 0
    assert AREAS[0] == 0


def speckled(noise: int) -> tuple[Indices, np.ndarray]:
    """A large object that is found at 0.4 alone, and false alarms of a few pixels."""
    truth = np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    probabilities = np.full((1, 40, 40), 0.05, np.float32)
    probabilities[0, 10:30, 10:30] = 0.45
    for number in range(noise):
        probabilities[0, 0:2, 4 * number : 4 * number + 2] = 0.9
    return truth, probabilities


def test_the_best_choice_beats_the_models_own() -> None:
    counts = AreaCounts(labels_of(1), threshold=0.4, own_threshold=0.5, own_min_area=0)
    counts.update(*speckled(noise=6))
    best = counts.result().best()
    assert best.plain() == {"threshold": 0.4, "min_area": 8, "miou": 1.0, "gain": 1.0}


def test_removing_nothing_is_preferred_where_nothing_is_gained() -> None:
    counts = AreaCounts(labels_of(1), threshold=0.4, own_threshold=0.4, own_min_area=0)
    counts.update(*speckled(noise=0))
    assert counts.result().best().plain() == {"threshold": 0.4, "min_area": 0, "miou": 1.0, "gain": 0.0}


def test_the_models_own_stays_where_it_is_better_than_the_sweep() -> None:
    counts = AreaCounts(labels_of(1), threshold=0.5, own_threshold=0.4, own_min_area=7)
    counts.update(*speckled(noise=3))
    assert counts.result().best().plain() == {"threshold": 0.4, "min_area": 7, "miou": 1.0, "gain": 0.0}
