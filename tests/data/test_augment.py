"""Levels of augmentation: shapes, types, alignment, and draws that seed, epoch and sample decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segtune.data.augment import Augmentation
from segtune.data.labels import IGNORED
from segtune.vocabulary import LEVELS
from tests.data.pictures import SIZE, bands_like, sample


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bands", [1, 3, 4, 7])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_level_keeps_shape_type_and_labels(level: str, bands: int, dtype: str) -> None:
    image, mask = sample(bands, dtype)
    before = image.copy(), mask.copy()
    augmentation = Augmentation(level, bands_like(image), dtype == "uint8")
    for index in range(25):
        changed, target = augmentation(image, mask, 1, 2, index)
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
        assert (target.shape, target.dtype) == (mask.shape, mask.dtype)
        assert set(np.unique(target)) <= {0, 1, 2, IGNORED}
        assert np.isfinite(changed).all()
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "none"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_other_level_changes_images(level: str, dtype: str) -> None:
    image, mask = sample(3, dtype)
    augmentation = Augmentation(level, bands_like(image), dtype == "uint8")
    changed = [augmentation(image, mask, 0, 0, index)[0] for index in range(20)]
    assert sum(not np.array_equal(image, one) for one in changed) > 10


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_level_none_changes_nothing(dtype: str) -> None:
    image, mask = sample(4, dtype)
    augmentation = Augmentation("none", bands_like(image), dtype == "uint8")
    for index in range(10):
        changed, target = augmentation(image, mask, 0, 0, index)
        np.testing.assert_array_equal(changed, image)
        np.testing.assert_array_equal(target, mask)


@pytest.mark.parametrize("bands", [1, 3, 7])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_level_safe_turns_and_flips_image_and_mask_alike(bands: int, dtype: str) -> None:
    image, mask = sample(bands, dtype)
    augmentation = Augmentation("safe", bands_like(image), dtype == "uint8")
    turned = [np.rot90(a, k) for a in (np.arange(SIZE**2).reshape(SIZE, SIZE),) for k in range(4)]
    ways = [*turned, *(way[:, ::-1] for way in turned)]
    seen = set()
    for index in range(60):
        changed, target = augmentation(image, mask, 0, 0, index)
        np.testing.assert_array_equal(np.sort(changed, axis=None), np.sort(image, axis=None))
        matching = [
            number
            for number, way in enumerate(ways)
            if np.array_equal(changed.reshape(-1, bands), image.reshape(-1, bands)[way.ravel()])
        ]
        assert len(matching) == 1
        np.testing.assert_array_equal(target.ravel(), mask.ravel()[ways[matching[0]].ravel()])
        seen.update(matching)
    assert seen == set(range(8))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_image_and_mask_stay_aligned(level: str, dtype: str, bands: int) -> None:
    """The image shows the mask: wherever a pixel ends, its brightness still tells its label."""
    mask = (sample(1, "uint8", seed=3, shape=(96, 96))[1] > 0).astype(np.uint8)
    image = np.repeat(np.where(mask, 200, 50).astype(dtype)[..., None], bands, axis=2)
    augmentation = Augmentation(level, bands_like(image), dtype == "uint8")
    agreements, moved = [], 0
    for index in range(20):
        changed, target = augmentation(image, mask, 0, 0, index)
        brightness = changed.mean(axis=2)
        middle = (np.median(brightness[target == 0]) + np.median(brightness[target == 1])) / 2
        agreements.append(((brightness > middle) == target).mean())
        moved += not np.array_equal(target, mask)
    assert np.median(agreements) > 0.97
    assert min(agreements) > 0.85  # a blurred or a partly covered one
    assert (moved > 10) == (level != "none")


@pytest.mark.parametrize("level", ["light", "medium", "hard"])
def test_float_values_far_outside_the_usual_range_survive(level: str) -> None:
    """A bright cloud in one corner: neither cut off nor what sets the scale of the rest."""
    image, mask = sample(3, "float32")
    bands = bands_like(image)
    cloud = np.float32(1e6)
    image[:12, :12] = cloud
    augmentation = Augmentation(level, bands, False)
    peaks = []
    for index in range(30):
        changed, _ = augmentation(image, mask, 0, 0, index)
        peaks.append(changed.max())
        rest = changed[changed < cloud / 100]
        assert rest.std() > 0.2 * image[image < cloud / 100].std()
    assert np.median(peaks) == pytest.approx(cloud, rel=0.05)


@pytest.mark.parametrize("level", ["light", "medium", "hard"])
def test_float_changes_grow_with_the_unit_of_the_data(level: str) -> None:
    """Reflectance in 0..1 and in 0..10000 are the same picture and are changed the same."""
    image, mask = sample(3, "float32")
    unit = (image + 500) / 9000
    small, large = unit.astype(np.float32), (unit * 10_000).astype(np.float32)
    for index in range(10):
        one, _ = Augmentation(level, bands_like(small), False)(small, mask, 0, 0, index)
        other, _ = Augmentation(level, bands_like(large), False)(large, mask, 0, 0, index)
        np.testing.assert_allclose(one * 10_000, other, atol=5)


@pytest.mark.parametrize(("level", "least", "most"), [("safe", 0, 0), ("medium", 0, 0), ("hard", 12, 36)])
def test_only_hard_bends_lines_and_swaps_quarters(level: str, least: int, most: int) -> None:
    """The mask tells the row that a pixel came from, so that its middle is a plane after an affine change."""
    mask = np.repeat(np.arange(96, dtype=np.uint8)[:, None], 96, axis=1)
    image = np.full((96, 96, 2), 100, np.uint8)
    planes = np.stack([np.ones(32 * 32), *np.indices((32, 32)).reshape(2, -1)], axis=1)
    bent = 0
    for index in range(60):
        target = Augmentation(level, bands_like(image), True)(image, mask, 3, 0, index)[1]
        middle = target[32:64, 32:64].ravel().astype(np.float64)
        error = np.abs(middle - planes @ np.linalg.lstsq(planes, middle, rcond=None)[0]).max()
        bent += error > 1.5
    assert least <= bent <= most


def test_seed_epoch_and_sample_each_decide() -> None:
    image, mask = sample(3, "uint8")
    augmentation = Augmentation("hard", bands_like(image), True)
    first = augmentation(image, mask, 1, 2, 3)
    for other in ((9, 9, 9), (1, 2, 4), (1, 3, 3), (2, 2, 3), (1, 3, 2), (2, 1, 3)):
        assert not np.array_equal(augmentation(image, mask, *other)[0], first[0])
    again = augmentation(image, mask, 1, 2, 3)
    for now, then in zip(again, first, strict=True):
        np.testing.assert_array_equal(now, then)


def test_augmentation_leaves_global_random_states_alone() -> None:
    image, mask = sample(3, "uint8")
    augmentation = Augmentation("hard", bands_like(image), True)
    expected = np.random.RandomState(5).random(), torch.Generator().manual_seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    for index in range(10):
        augmentation(image, mask, 0, 0, index)
    assert np.random.random() == expected[0]
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected[1]))
