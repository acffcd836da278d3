"""Distance maps against brute force, and their way into batches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from segtune.data.augment import Augmentation
from segtune.data.batches import Batches
from segtune.data.distances import DistanceMaps, border_weights, signed_distances
from segtune.data.labels import IGNORED, Labels
from tests.conftest import WriteDataSet
from tests.data.stores import scanned, store_of

BINARY, SEVERAL = Labels((255,), (), True, 0), Labels((4, 9), (), True, 0)


def target(seed: int = 0, ignored: bool = False) -> npt.NDArray[np.uint8]:
    """Blocks of three indices, some of them ignored."""
    random = np.random.default_rng(seed)
    found = np.kron(random.integers(0, 3, (5, 6)), np.ones((4, 4))).astype(np.uint8)
    found[:, :7] = IGNORED if ignored else found[:, :7]
    return found


def nearest(there: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The distance of each pixel to the nearest one of these, by looking at all of them."""
    points = np.argwhere(there)
    grid = np.moveaxis(np.indices(there.shape), 0, -1)
    return np.sqrt(((grid[:, :, None] - points) ** 2).sum(-1)).min(-1)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_signed_distances_are_positive_outside_and_negative_inside(index: int, ignored: bool) -> None:
    truth = target(ignored=ignored)
    region = truth == index
    wanted = np.where(region, 1 - nearest(~region & (truth != IGNORED)), nearest(region)) / 24
    np.testing.assert_allclose(signed_distances(truth, index), wanted, rtol=0.03, atol=0.003)


def large(random: np.random.Generator, ignored: bool = False) -> npt.NDArray[np.uint8]:
    """Smooth regions of three indices, a line of one pixel, and perhaps a corner that is ignored."""
    fields = [cv2.GaussianBlur(random.normal(size=(256, 320)), (0, 0), 12) for _ in range(3)]
    found = np.stack(fields).argmax(0).astype(np.uint8)
    cv2.line(found.view(), (10, 200), (300, 33), 1, 1)
    found[:60, :90] = IGNORED if ignored else found[:60, :90]
    return found


def distances_at(points: npt.NDArray[np.int64], there: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The distance of each of these points to the nearest pixel of a mask, by looking at all of them."""
    return np.sqrt(((points[:, None] - np.argwhere(there)) ** 2).sum(-1)).min(-1)


@pytest.mark.parametrize("ignored", [False, True])
def test_maps_of_a_large_target_have_half_its_size_and_are_nearly_exact(ignored: bool) -> None:
    random = np.random.default_rng(4)
    truth = large(random, ignored)
    counted = np.argwhere(truth != IGNORED)
    points = counted[random.choice(len(counted), 300, replace=False)]
    rows, columns = points.T
    for index in range(3):
        region = truth == index
        inside, outside = distances_at(points, ~region & (truth != IGNORED)), distances_at(points, region)
        found = signed_distances(truth, index)
        assert found.shape == (128, 160)
        error = cv2.resize(found, (320, 256))[rows, columns] * 320 - np.where(
            region[rows, columns], 1 - inside, outside
        )
        assert np.abs(error).max() < 3.5  # pixels: 1 % of the side
        assert np.abs(error).mean() < 0.8
    other = np.zeros(len(points))
    for index in range(3):
        here = truth[rows, columns] == index
        other[here] = distances_at(points[here], (truth != index) & (truth != IGNORED))
    error = cv2.resize(border_weights(truth), (320, 256))[rows, columns] - 1 - 10 * np.exp(-(other**2) / 50)
    assert np.abs(error).max() < 2
    assert np.abs(error).mean() < 0.5


@pytest.mark.parametrize("shape", [(191, 192), (193, 400), (300, 201)])
def test_maps_of_targets_that_are_small_or_odd_have_their_size(shape: tuple[int, int]) -> None:
    truth = np.zeros(shape, np.uint8)
    truth[90:] = 1
    assert signed_distances(truth, 1).shape == border_weights(truth).shape == shape


def test_a_large_region_that_is_absent_has_no_distances() -> None:
    truth = np.ones((256, 256), np.uint8)
    assert signed_distances(truth, 0).shape == (128, 128)
    assert not signed_distances(truth, 0).any()
    assert (border_weights(truth) == 1).all()


@pytest.mark.parametrize("ignored", [False, True])
def test_a_region_that_is_absent_or_alone_has_no_distances(ignored: bool) -> None:
    truth = np.ones((8, 8), np.uint8)
    truth[:2] = IGNORED if ignored else 1
    for index in (0, 1):
        assert not signed_distances(truth, index).any()
    assert (border_weights(truth) == 1).all()


@pytest.mark.parametrize("ignored", [False, True])
def test_border_weights_fall_with_the_distance_to_another_region(ignored: bool) -> None:
    truth = target(ignored=ignored)
    other = np.full(truth.shape, np.inf)
    for index in range(3):
        others = (truth != index) & (truth != IGNORED)
        other[truth == index] = nearest(others)[truth == index]
    counted = truth != IGNORED
    wanted = 1 + 10 * np.exp(-(other**2) / 50)
    np.testing.assert_allclose(border_weights(truth)[counted], wanted[counted], atol=0.6)


def test_ignored_pixels_make_no_border() -> None:
    truth = np.zeros((8, 8), np.uint8)
    truth[3:5] = IGNORED
    assert (border_weights(truth) == 1).all()


@pytest.mark.parametrize(
    ("loss", "labels", "count"),
    [
        ("dice+boundary", BINARY, 1),
        ("dice+0.5*boundary", SEVERAL, 3),
        ("dice+boundary", Labels((1, 2), (), False, 0), 2),
        ("boundary_ce", SEVERAL, 1),
        ("boundary_ce+boundary", SEVERAL, 4),
    ],
)
def test_a_loss_gets_a_map_for_each_output_and_the_border_weights(loss: str, labels: Labels, count: int) -> None:
    maps = DistanceMaps.of(loss, labels)
    assert maps
    found = maps(target())
    assert found.shape == (count, 20, 24)
    assert found.dtype == np.float16
    first = 1 if labels.binary or not labels.background else 0
    for position in range(count - ("boundary_ce" in loss)):
        np.testing.assert_allclose(found[position], signed_distances(target(), first + position), atol=1e-3)
    if "boundary_ce" in loss:
        np.testing.assert_allclose(found[-1], border_weights(target()), atol=1e-2)


def test_other_losses_need_no_maps() -> None:
    assert DistanceMaps.of("dice+ce", SEVERAL) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_carry_the_maps_of_the_augmented_targets(tmp_path: Path, data_set: WriteDataSet, workers: int) -> None:
    data_set(tmp_path)
    store, info = store_of(tmp_path), scanned(tmp_path)
    maps = DistanceMaps.of("boundary_ce+boundary", info.labels)
    assert maps
    with Batches(store, 4, 3, Augmentation("hard", info.bands, True), workers=workers, maps=maps) as batches:
        for _, targets, found in batches.epoch(1):
            assert isinstance(found, torch.Tensor)
            for tile, map_ in zip(targets, found, strict=True):
                np.testing.assert_array_equal(map_.numpy(), maps(tile.numpy()))
