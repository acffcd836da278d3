"""Mixing of tiles: parts of another tile, in image and mask alike, drawn from seed, epoch and sample only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from segtune.config import RunConfig
from segtune.data.batches import Batches, DrawnTiles
from segtune.data.fitting import Fit
from segtune.data.labels import IGNORED, Labels
from segtune.data.mix import Mix
from tests.conftest import WriteDataSet
from tests.data.stores import scanned, store_of

SIZE = 32
SAMPLES = 60


class Painted:
    """A store whose images tell tile and label of each pixel: band 0 holds the tile, band 1 the target."""

    decoded = True

    def __init__(self, targets: list[npt.NDArray[np.uint8]]) -> None:
        self._targets = targets

    def __len__(self) -> int:
        return len(self._targets)

    def name(self, index: int) -> str:
        return str(index)

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        target = self._targets[index]
        return np.stack([np.full_like(target, index), target], axis=2)

    def target(self, index: int) -> npt.NDArray[np.uint8]:
        return self._targets[index]


def squares(*indices: int) -> npt.NDArray[np.uint8]:
    """A target of background, with a square of each of these indices."""
    target = np.zeros((SIZE, SIZE), np.uint8)
    for number, index in enumerate(indices):
        top, left = divmod(number, 3)
        target[2 + 10 * top : 9 + 10 * top, 2 + 10 * left : 9 + 10 * left] = index
    return target


def mixed(
    store: Painted, mix: Mix | None, index: int = 0, seed: int = 0, crop: Fit | None = None, epoch: int = 1
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    tiles = DrawnTiles(store, seed, None, crop, mix)
    return [tiles.draw(index, epoch, number) for number in range(SAMPLES)]  # type: ignore[misc]


STORE = Painted([squares(1), squares(1, 2, 1, IGNORED), squares(2, 2), squares(1, 1, 1)])
KINDS = ("cutmix", "copy_paste")


def holders(store: Painted) -> dict[int, list[int]]:
    """The tiles that hold each index."""
    return {index: [n for n in range(len(store)) if (store.target(n) == index).any()] for index in (1, 2)}


def mix_of(kind: str, probability: float = 1.0, store: Painted = STORE) -> Mix:
    """How tiles with two classes of equal rarity are mixed."""
    config, labels = RunConfig(mix=kind, mix_probability=probability), Labels((1, 2), (), True, 0)
    mix = Mix.of(config, labels, {}, holders(store))
    assert mix
    return mix


@pytest.mark.parametrize("kind", KINDS)
def test_image_and_mask_are_mixed_alike(kind: str) -> None:
    for image, target in mixed(STORE, mix_of(kind)):
        np.testing.assert_array_equal(image[..., 1], target)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_come_from_one_other_tile(kind: str) -> None:
    partners = [set(np.unique(image[..., 0])) - {0} for image, _ in mixed(STORE, mix_of(kind))]
    assert all(len(found) <= 1 for found in partners)
    assert set.union(*partners) == {1, 2, 3}


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_share_of_the_samples_is_mixed(kind: str) -> None:
    changed = [image[..., 0].any() for image, _ in mixed(STORE, mix_of(kind, 0.3))]
    assert 0.1 * SAMPLES < sum(changed) < 0.5 * SAMPLES


def test_cutmix_replaces_one_box_of_any_size() -> None:
    areas = []
    for image, _ in mixed(STORE, Mix("cutmix", 1.0, (1.0, 1.0))):
        where = image[..., 0] > 0
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        assert where.sum() == len(rows) * len(columns)
        assert (np.diff(rows) == 1).all()
        assert (np.diff(columns) == 1).all()
        areas.append(where.mean())
    assert min(areas) < 0.05
    assert max(areas) > 0.6
    assert 0.2 < np.mean(areas) < 0.5


def test_copy_paste_replaces_whole_objects_of_one_class_and_no_background() -> None:
    counts = set()
    for image, target in mixed(STORE, mix_of("copy_paste")):
        pasted = image[..., 0] > 0
        (label,) = np.unique(target[pasted])
        assert label in (1, 2)
        assert pasted.sum() % 49 == 0
        counts.add(int(pasted.sum()) // 49)
    assert counts == {1, 2, 3}


def test_copy_paste_prefers_rare_classes() -> None:
    labels = Labels((10, 20), (), True, 0)
    config, pixels = RunConfig(mix="copy_paste", mix_probability=1.0), {0: 10**6, 10: 10**5, 20: 10**3}
    mix = Mix.of(config, labels, pixels, {10: holders(STORE)[1], 20: holders(STORE)[2]})
    classes = [np.unique(target[image[..., 0] > 0])[0] for image, target in mixed(STORE, mix)]
    assert classes.count(2) > 0.9 * SAMPLES  # of the other tiles, two of three hold it


def test_copy_paste_draws_classes_and_then_any_other_tile_that_holds_them() -> None:
    mix = Mix("copy_paste", 1.0, (3.0, 1.0, 9.0), ((0, 2, 3, 5), (1, 2), ()))
    random = np.random.default_rng(0)
    drawn = np.array([mix.partner(6, 2, random) for _ in range(4000)])
    shares = [(drawn == tile).mean() for tile in range(6)]
    assert shares == pytest.approx([0.25, 0.25, 0.0, 0.25, 0.0, 0.25], abs=0.03)
    assert {mix.partner(6, 4, random) for _ in range(100)} == {0, 1, 2, 3, 5}


def test_each_sample_reads_the_target_of_one_other_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    target = Painted.target

    def reading(store: Painted, index: int) -> npt.NDArray[np.uint8]:
        read.append(index)
        return target(store, index)

    mix = mix_of("copy_paste")
    monkeypatch.setattr(Painted, "target", reading)
    mixed(STORE, mix)
    assert len(read) == 2 * SAMPLES


def test_copy_paste_without_an_object_changes_nothing() -> None:
    store = Painted([squares(1), squares(IGNORED), squares()])
    for image, target in mixed(store, mix_of("copy_paste", store=store)):
        assert not image[..., 0].any()
        np.testing.assert_array_equal(target, squares(1))


def test_cutmix_takes_ignored_pixels_along() -> None:
    store = Painted([squares(1), np.full((SIZE, SIZE), IGNORED, np.uint8)])
    for image, target in mixed(store, Mix("cutmix", 1.0, (1.0,))):
        np.testing.assert_array_equal(target == IGNORED, image[..., 0] == 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_tile_is_mixed_with_itself(kind: str) -> None:
    alone = Painted([squares(1, 2)])
    for image, target in mixed(alone, mix_of(kind, store=alone)):
        np.testing.assert_array_equal(target, squares(1, 2))
        assert image.shape == (SIZE, SIZE, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_both_tiles_are_cropped_each_at_its_own_place(kind: str) -> None:
    for image, target in mixed(STORE, mix_of(kind), crop=Fit("crop", 16)):
        assert image.shape == (16, 16, 2)
        np.testing.assert_array_equal(image[..., 1], target)


def test_seed_epoch_and_sample_decide() -> None:
    mix = Mix("cutmix", 1.0, (1.0, 1.0))
    first = mixed(STORE, mix)
    for other, same in (
        (mixed(STORE, mix), True),
        (mixed(STORE, mix, seed=1), False),
        (mixed(STORE, mix, epoch=2), False),
    ):
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True)) is same
    assert len({image.tobytes() for image, _ in first}) > 0.9 * SAMPLES


def test_a_sample_that_is_not_mixed_is_as_without_mix() -> None:
    plain, some = mixed(STORE, None), mixed(STORE, Mix("cutmix", 0.3, (1.0, 1.0)))
    for (image, target), (other, other_target) in zip(plain, some, strict=True):
        if not other[..., 0].any():
            np.testing.assert_array_equal(image, other)
            np.testing.assert_array_equal(target, other_target)


def test_a_run_that_does_not_mix_has_no_mix() -> None:
    assert Mix.of(RunConfig(), Labels((1,), (), True, 0), {1: 5}, {1: [0]}) is None


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than cores
@pytest.mark.parametrize("kind", KINDS)
def test_workers_and_the_cache_change_nothing(kind: str, tmp_path: Path, data_set: WriteDataSet) -> None:
    root = data_set(tmp_path, train=7, val=1)
    scanned(root)

    def stream(workers: int, cached: bool, first_batch: int = 0) -> list[bytes]:
        mix = Mix(kind, 0.7, (1.0,), (range(7),))
        with Batches(store_of(root, cached), 2, 5, mix=mix, samples=5, workers=workers) as batches:
            found = [batch for epoch in (1, 2) for batch in batches.epoch(epoch, first_batch)]
        return [part.numpy().tobytes() for batch in found for part in batch]  # type: ignore[union-attr]

    whole = stream(0, cached=True)
    assert stream(2, cached=True) == stream(1, cached=False) == whole
    assert stream(0, cached=True, first_batch=1) == [*whole[2:6], *whole[8:]]
