"""Decoded tiles -> augmented batches: shapes, types, alignment, and an order that (seed, epoch) decide alone."""

from __future__ import annotations

import multiprocessing
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from segtune.data.augment import Augmentation
from segtune.data.batches import Batch, Batches
from segtune.data.fitting import Fit
from tests.conftest import WriteDataSet
from tests.data.pictures import SIZE, bands_like, sample
from tests.data.stores import scanned, store_of


class _Memory:
    """A store of images that tell their own index: every pixel of tile i is i."""

    decoded = True

    def __init__(self, count: int, size: int = 16) -> None:
        self.images = [np.full((size, size, 3), i, dtype=np.uint8) for i in range(count)]
        self.targets = [np.full((size + i, size), i, dtype=np.uint8) for i in range(count)]

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return str(index)

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        return self.images[index]

    def target(self, index: int) -> npt.NDArray[np.uint8]:
        return self.targets[index]


def order_of(batches: Batches, epoch: int = 0) -> list[list[int]]:
    """The tiles of each batch of an epoch of a `_Memory`."""
    found = []
    for images, targets in batches.epoch(epoch):
        found.append([int(image[0, 0, 0]) for image in images])
        assert [int(target[0, 0]) for target in targets] == found[-1]
    return found


CHANNELS = {"channels": ["nir"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("set"), train=7, val=1)


def stream(
    root: Path,
    epochs: Sequence[int],
    workers: int = 0,
    seed: int = 4,
    batch_size: int = 3,
    first_batch: int = 0,
    cached: bool = True,
    **settings: Any,
) -> list[Batch]:
    """All batches of these epochs, from one loader."""
    with augmented(root, workers, seed, batch_size, cached, **settings) as batches:
        return [batch for epoch in epochs for batch in batches.epoch(epoch, first_batch)]


def augmented(
    root: Path, workers: int = 0, seed: int = 4, batch_size: int = 3, cached: bool = True, **settings: Any
) -> Batches:
    info, store = scanned(root, **CHANNELS), store_of(root, cached, **CHANNELS)
    augmentation = Augmentation("hard", info.input_bands(["nir"]), info.uint8)
    return Batches(store, batch_size, seed, augmentation, workers=workers, **settings)


def same(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    return len(first) == len(second) and all(
        isinstance(a, torch.Tensor)
        and isinstance(b, torch.Tensor)
        and torch.equal(a, b)
        and all(torch.equal(x, y) for x, y in zip(s, t, strict=True))
        for (a, s), (b, t) in zip(first, second, strict=True)
    )


@pytest.fixture(scope="module")
def two_epochs(root: Path) -> list[Batch]:
    return stream(root, (1, 2))


def test_batches_hold_images_and_targets_as_the_store_keeps_them(root: Path) -> None:
    store = store_of(root, **CHANNELS)
    with Batches(store, 3) as batches:
        found = list(batches.epoch(0))
    assert [len(targets) for _, targets in found] == [3, 3, 1]
    for index, (image, target) in enumerate(
        (image, target) for images, targets in found for image, target in zip(images, targets, strict=True)
    ):
        assert (image.dtype, target.dtype) == (torch.uint8, torch.uint8)
        np.testing.assert_array_equal(image, store.image(index))
        np.testing.assert_array_equal(target, store.target(index))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than cores
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(root: Path, cached: bool, two_epochs: list[Batch], workers: int) -> None:
    assert same(stream(root, (1, 2), workers, cached=cached), two_epochs)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_were_begun_early_are_the_same(root: Path, two_epochs: list[Batch], workers: int) -> None:
    half = len(two_epochs) // 2
    with augmented(root, workers) as batches:
        first = list(batches.epoch(1))
        batches.begin(2)
        assert same(list(batches.epoch(2)), two_epochs[half:])
        batches.begin(2)  # of which nothing is used, because another pass is asked for
        assert same(list(batches.epoch(1)), first)
        assert same(first, two_epochs[:half])


def test_timing_tiles_changes_no_batch(root: Path, two_epochs: list[Batch]) -> None:
    with augmented(root) as batches:
        assert 0 < batches.tile_seconds() < 5
        assert same(list(batches.epoch(1)), two_epochs[: len(two_epochs) // 2])


def test_an_epoch_can_be_repeated_without_those_before_it(root: Path, two_epochs: list[Batch]) -> None:
    """A run that continues after a kill sees what it would have seen."""
    assert same(stream(root, (2,), workers=1), two_epochs[len(two_epochs) // 2 :])


def test_epochs_and_seeds_differ(root: Path, two_epochs: list[Batch]) -> None:
    half = len(two_epochs) // 2
    assert not same(two_epochs[:half], two_epochs[half:])
    assert not same(stream(root, (1,), seed=5), two_epochs[:half])


def test_a_tile_is_augmented_anew_in_each_epoch() -> None:
    """The order aside: sorted by tile, two epochs show different pictures."""
    image, _ = sample(3, "uint8")
    store = _Memory(4, SIZE)
    store.images = [image + np.uint8(0) for _ in range(4)]
    store.targets = [np.zeros((SIZE, SIZE), np.uint8) for _ in range(4)]
    with Batches(store, 4, 0, Augmentation("hard", bands_like(image), True)) as batches:
        pictures = [tile.numpy().tobytes() for epoch in range(3) for tile in next(iter(batches.epoch(epoch)))[0]]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("count", [1, 6])
def test_every_batch_size_covers_every_tile_once(seed: int | None, count: int) -> None:
    for batch_size in range(1, count + 2):
        with Batches(_Memory(count), batch_size, seed) as batches:
            for epoch in range(2):
                found = order_of(batches, epoch)
                assert sorted(index for batch in found for index in batch) == list(range(count))
                assert len(found) == len(batches)
                assert all(len(batch) == batch_size for batch in found[:-1])
                assert 1 <= len(found[-1]) <= batch_size


def test_more_loader_processes_than_cores_are_no_concern_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with Batches(_Memory(9), 3, workers=2) as batches:
            list(batches.epoch(1))
    assert not said


def test_the_order_does_not_depend_on_the_batch_size() -> None:
    orders = []
    for batch_size in (1, 4, 9):
        with Batches(_Memory(9), batch_size, 7) as batches:
            orders.append([index for batch in order_of(batches, 2) for index in batch])
    assert orders[0] == orders[1] == orders[2]


def test_the_order_is_drawn_anew_for_every_epoch_and_seed() -> None:
    orders = []
    for seed in range(3):
        with Batches(_Memory(20), 20, seed) as batches:
            orders += [tuple(order_of(batches, epoch)[0]) for epoch in range(3)]
    assert len(set(orders)) == len(orders)


def test_without_a_seed_the_order_is_the_stores() -> None:
    with Batches(_Memory(5), 2) as batches:
        assert [order_of(batches, epoch) for epoch in range(2)] == [[[0, 1], [2, 3], [4]]] * 2


def test_an_epoch_left_early_does_not_disturb_the_next(root: Path, two_epochs: list[Batch]) -> None:
    augmentation = Augmentation("hard", scanned(root, **CHANNELS).bands, True)
    for workers in (0, 2):
        with Batches(store_of(root, **CHANNELS), 3, 4, augmentation, workers=workers) as batches:
            next(batches.epoch(1))
            assert same(list(batches.epoch(2)), two_epochs[len(two_epochs) // 2 :])


def test_masks_in_evaluation_may_differ_in_size() -> None:
    with Batches(_Memory(3), 3) as batches:
        ((_, targets),) = batches.epoch(0)
    assert [tuple(target.shape) for target in targets] == [(16, 16), (17, 16), (18, 16)]


def test_changing_a_batch_does_not_change_the_store(root: Path) -> None:
    store = store_of(root)
    before = store.image(0).copy(), store.target(0).copy()
    with Batches(store, 1) as batches:
        images, (target,) = next(batches.epoch(0))
        images.zero_()
        target.fill_(9)
    np.testing.assert_array_equal(store.image(0), before[0])
    np.testing.assert_array_equal(store.target(0), before[1])


@pytest.mark.parametrize("finished", [True, False])
def test_close_ends_the_loader_processes(finished: bool) -> None:
    others = set(multiprocessing.active_children())
    batches = Batches(_Memory(8), 2, workers=2)
    passing: Iterator[Batch] = batches.epoch(0)
    next(passing)
    if finished:
        list(passing)
    assert len(set(multiprocessing.active_children()) - others) == 2
    batches.close()
    assert not set(multiprocessing.active_children()) - others


def test_an_error_inside_a_with_ends_the_loader_processes() -> None:
    others = set(multiprocessing.active_children())

    def fail() -> None:
        with Batches(_Memory(8), 2, workers=1) as batches:
            next(batches.epoch(0))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not set(multiprocessing.active_children()) - others


def test_closed_batches_say_so_and_can_be_closed_again() -> None:
    batches = Batches(_Memory(2), 1)
    batches.close()
    batches.close()
    with pytest.raises(RuntimeError, match="closed"):
        batches.epoch(0)


def test_loading_draws_nothing_from_the_global_generator(root: Path) -> None:
    """Else dropout would depend on the number of workers."""
    for workers in (0, 1):
        torch.manual_seed(1)
        stream(root, (1, 2), workers)
        drawn = torch.rand(4)
        torch.manual_seed(1)
        assert torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(method, marks=pytest.mark.slow) for method in ("spawn", "forkserver"))]
)
def test_every_start_method_of_processes_gives_the_same(root: Path, two_epochs: list[Batch], method: str) -> None:
    """forkserver is the default from Python 3.14 on."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        assert same(stream(root, (1, 2), workers=1), two_epochs)
    finally:
        multiprocessing.set_start_method(before, force=True)


# Epochs that are not one pass


@pytest.mark.parametrize("samples", [1, 3, 5, 7, 8, 11, 20])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_tile_is_drawn_equally_often_however_long_an_epoch_is(samples: int, batch_size: int) -> None:
    count, drawn = 7, Counter[int]()
    with Batches(_Memory(count), batch_size, 5, samples=samples) as batches:
        assert len(batches) == -(-samples // batch_size)
        for epoch in range(1, 12):
            found = order_of(batches, epoch)
            assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
            assert sum(map(len, found)) == samples
            assert found == order_of(batches, epoch)
            drawn.update(index for batch in found for index in batch)
            assert max(drawn.values()) - min(drawn[index] for index in range(count)) <= 1
    assert drawn.total() == 11 * samples


def test_a_short_epoch_is_a_part_of_the_long_one() -> None:
    """Its end is a point to look at the model, and changes nothing in what the model sees."""

    def order(samples: int | None, epochs: int) -> list[int]:
        with Batches(_Memory(6), 2, 9, samples=samples) as batches:
            return [i for epoch in range(1, epochs + 1) for batch in order_of(batches, epoch) for i in batch]

    assert order(None, 4) == order(6, 4) == order(2, 12) == order(12, 2) == order(8, 3)
    assert order(4, 6) == order(None, 4)


@pytest.mark.parametrize("samples", [None, 3, 20])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_goes_on_from_any_batch_as_if_never_left(root: Path, samples: int | None, workers: int) -> None:
    whole = stream(root, (2,), samples=samples, batch_size=2)
    for first in range(len(whole) + 1) if not workers else (1, len(whole)):
        assert same(stream(root, (2,), workers, samples=samples, batch_size=2, first_batch=first), whole[first:])


def test_the_next_epoch_begins_at_its_begin_again(root: Path) -> None:
    info = scanned(root, **CHANNELS)
    augmentation = Augmentation("hard", info.bands, True)
    with Batches(store_of(root, **CHANNELS), 2, 4, augmentation, samples=5) as batches:
        whole = list(batches.epoch(3))
        list(batches.epoch(2, 1))
        assert same(list(batches.epoch(3)), whole)


def test_a_tile_that_comes_again_within_an_epoch_is_augmented_otherwise() -> None:
    image, _ = sample(3, "uint8")
    store = _Memory(2, SIZE)
    store.images = [image, image]
    store.targets = [np.zeros((SIZE, SIZE), np.uint8)] * 2
    with Batches(store, 5, 0, Augmentation("hard", bands_like(image), True), samples=10) as batches:
        pictures = [tile.numpy().tobytes() for epoch in (1, 2) for images, _ in batches.epoch(epoch) for tile in images]
    assert len(set(pictures)) == len(pictures) == 20


def test_the_order_without_a_seed_may_be_cut_short_too() -> None:
    with Batches(_Memory(5), 2, samples=3) as batches:
        assert order_of(batches, 1) == [[0, 1], [2]]


# Crops


def test_crops_are_random_and_determined_by_seed_epoch_and_sample(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=5, val=2, size=(70, 90), channels=())
    store = store_of(tmp_path, fit="crop", image_size=32)
    fit = Fit("crop", 32)

    def crops(seed: int, epoch: int, workers: int = 0, samples: int | None = None) -> dict[bytes, bytes]:
        with Batches(store, 2, seed, crop=fit, workers=workers, samples=samples) as batches:
            found = [(i, t) for images, targets in batches.epoch(epoch) for i, t in zip(images, targets, strict=True)]
        assert all(i.shape == (32, 32, 3) and t.shape == (32, 32) for i, t in found)
        return {image.numpy().tobytes(): target.numpy().tobytes() for image, target in found}

    first = crops(1, 1)
    assert crops(1, 1) == crops(1, 1, workers=2) == first
    assert not set(first) & set(crops(2, 1))
    assert not set(first) & set(crops(1, 2))
    assert len(crops(1, 1, samples=20)) == 20  # a tile that comes again is cut elsewhere
    # What is cut out is a part of the tile, and its target is cut out of the same place.
    whole = [(store.image(i), store.target(i)) for i in range(len(store))]
    for image, target in first.items():
        cut = np.frombuffer(image, np.uint8).reshape(32, 32, 3)
        places = [
            (tile, top, left)
            for tile, (pixels, _) in enumerate(whole)
            for top, left in zip(*np.nonzero((pixels[:-31, :-31] == cut[0, 0]).all(axis=2)), strict=True)
            if np.array_equal(pixels[top : top + 32, left : left + 32], cut)
        ]
        ((tile, top, left),) = places
        assert whole[tile][1][top : top + 32, left : left + 32].tobytes() == target


def test_whole_tiles_of_several_sizes_come_as_a_list(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path / "a", train=2, val=2, size=(40, 50))
    data_set(tmp_path / "b", train=1, val=1, size=(64, 36))
    for folder in ("images", "gt"):
        (tmp_path / "b" / "val" / folder / "000.png").rename(tmp_path / "a" / "val" / folder / "zzz.png")
    store = store_of(tmp_path / "a", split="val", fit="crop", image_size=32)
    with Batches(store, 3) as batches:
        ((images, targets),) = batches.epoch(1)
    assert isinstance(images, list)
    shapes = [(40, 50), (40, 50), (64, 36)]
    assert [tuple(image.shape) for image in images] == [(*shape, 3) for shape in shapes]
    assert [tuple(target.shape) for target in targets] == shapes
