"""Decoded tiles -> augmented batches: shapes, types, alignment, and an order that (seed, epoch) decide alone."""

from __future__ import annotations

import multiprocessing
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.bands import Band
from segtune.data.batches import Batch, Batches
from segtune.data.dataset import DataInfo
from segtune.data.fitting import Fit
from segtune.data.labels import BACKGROUND, IGNORED
from segtune.data.reading import read_image, read_mask, read_tile
from segtune.data.scan import scan
from segtune.data.store import DecodedTiles, TileStore
from segtune.errors import InputError
from segtune.fields import choices
from tests.conftest import WriteDataSet, WriteImage

LEVELS = choices("augmentation")
SIZE = 48


# Stores: from the cache, or decoded from the files


@pytest.fixture(params=[True, False], ids=["cached", "decoded"])
def cached(request: pytest.FixtureRequest) -> bool:
    return request.param


def scanned(root: Path, **settings: Any) -> DataInfo:
    return scan(RunConfig(dataset=str(root), **settings))


def store_of(root: Path, cached: bool = True, split: str = "train", **settings: Any) -> TileStore:
    """The store of a run with these settings."""
    config = RunConfig(dataset=str(root), cache_dir=None if cached else "none", **settings)
    info = scan(config)
    store = info.store(split, config.model_copy(update={"image_size": config.image_size or info.image_size()}))
    assert store.decoded is cached
    return store


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_a_tile_of_the_right_size_is_kept_as_it_is(
    tmp_path: Path, data_set: WriteDataSet, cached: bool, dtype: str, bands: int
) -> None:
    data_set(tmp_path, train=3, val=1, bands=bands, dtype=dtype, suffix=".tif")
    store = store_of(tmp_path, cached, channels=["nir"])
    assert len(store) == 3
    for index, tile in enumerate(scanned(tmp_path, channels=["nir"]).tiles["train"]):
        sources, _, mask = read_tile(tile)
        image, target = store.image(index), store.target(index)
        assert store.name(index) == tile.name
        assert image.dtype == (np.uint8 if dtype == "uint8" else np.float32)
        np.testing.assert_array_equal(image, np.concatenate(sources, axis=2))
        assert target.dtype == np.uint8
        np.testing.assert_array_equal(target, (mask == 255) * 1)


def test_the_network_sees_the_sources_asked_for_in_their_order(
    tmp_path: Path, data_set: WriteDataSet, cached: bool
) -> None:
    """One scan with all the channels of a search serves runs with some of them."""
    data_set(tmp_path, train=1, val=1, channels=["nir", "dem"])
    config = RunConfig(dataset=str(tmp_path), cache_dir=None if cached else "none", image_size=32)
    info = scan(config, ["nir", "dem"])
    (tile,) = info.tiles["train"]
    image, nir, dem = (read_image(path)[0] for path in (tile.image, *tile.channels))
    wanted: dict[tuple[str, ...], list[npt.NDArray[Any]]] = {
        (): [image],
        ("dem",): [image, dem],
        ("dem", "nir"): [image, dem, nir],
    }
    for channels, expected in wanted.items():
        store = info.store("train", config.model_copy(update={"channels": list(channels)}))
        np.testing.assert_array_equal(store.image(0), np.concatenate(expected, axis=2))


@pytest.mark.parametrize("shape", [(20, 20), (100, 100), (40, 90), (90, 20)])
@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_tile_is_resized_to_the_square(
    tmp_path: Path, data_set: WriteDataSet, shape: tuple[int, int], bands: int, dtype: str
) -> None:
    data_set(tmp_path, train=2, val=2, size=shape, bands=bands, dtype=dtype, suffix=".tif", channels=())
    tiles = scanned(tmp_path, image_size=64).tiles
    for split in ("train", "val"):
        store = store_of(tmp_path, split=split, image_size=64)
        for index, tile in enumerate(tiles[split]):
            image, mask = store.image(index), read_mask(tile.mask) == 255
            assert (image.shape, image.dtype) == ((64, 64, bands), np.dtype(dtype))
            original = read_image(tile.image)[0]
            np.testing.assert_allclose(image.mean(axis=(0, 1)), original.mean(axis=(0, 1)), rtol=0.05)
            if split == "val":
                np.testing.assert_array_equal(store.target(index), mask * 1)
                continue
            assert store.target(index).shape == (64, 64)
            # The object stays where it is: a resized image is brightest where the resized mask is set.
            inside = store.target(index) == 1
            assert image[inside].mean() > 2 * image[~inside].mean()


@pytest.mark.parametrize(("size", "method"), [(64, cv2.INTER_LINEAR), (40, cv2.INTER_AREA)])
def test_more_bands_than_opencv_resizes_at_once(
    tmp_path: Path, data_set: WriteDataSet, cached: bool, size: int, method: int
) -> None:
    data_set(tmp_path, train=1, val=1, size=50, bands=9, suffix=".tif", channels=())
    image = store_of(tmp_path, cached, image_size=size).image(0)
    original = read_image(tmp_path / "train" / "images" / "000.tif")[0]
    for band in range(9):
        expected = cv2.resize(original[..., band], (size, size), interpolation=method)
        np.testing.assert_array_equal(image[..., band], expected)


def test_resizing_makes_no_new_labels(tmp_path: Path, data_set: WriteDataSet, cached: bool) -> None:
    data_set(tmp_path, train=2, val=1, size=(50, 37), labels=(0, 7, 3, 200))
    for size in (32, 64):
        store = store_of(tmp_path, cached, image_size=size, classes=[7, 3], ignore=[200])
        assert np.unique(store.target(0)).tolist() == [BACKGROUND, 1, 2, IGNORED]


@pytest.mark.parametrize(("dtype", "value"), [("float32", np.nan), ("int16", -9999), ("uint8", 0)])
def test_pixels_without_data_hold_their_tiles_mean_and_are_ignored(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, cached: bool, dtype: str, value: float
) -> None:
    data_set(tmp_path, dtype=dtype, suffix=".tif")
    missing = np.random.default_rng(0).random((32, 32)) < 0.3
    means: dict[str, list[npt.NDArray[Any]]] = {"train": [], "val": []}
    for split, tiles in scanned(tmp_path, channels=["nir"]).tiles.items():
        for number, tile in enumerate(tiles):
            sources, _, _ = read_tile(tile)
            image = sources[0].copy() // (number + 1)  # means that differ
            image[missing] = value
            write_image(tile.image, image, nodata=value)
            pixels = np.concatenate([image, sources[1]], axis=2)[~missing]
            means[split].append(pixels.mean(axis=0, dtype=np.float64))
    for split, expected in means.items():
        store = store_of(tmp_path, cached, split, channels=["nir"])
        for index, mean in enumerate(expected):
            filled = np.round(mean) if dtype != "float32" else mean
            image = store.image(index)
            assert np.isfinite(image).all()
            if dtype == "int16":  # the channel is a file of its own, and filled in its own type
                assert image[missing].std(axis=0).max() == 0
            np.testing.assert_allclose(image[missing], np.broadcast_to(filled, image[missing].shape), rtol=1e-6)
            np.testing.assert_array_equal(store.target(index) == IGNORED, missing)


def test_a_tile_without_any_data_is_all_ignored(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, cached: bool
) -> None:
    data_set(tmp_path, dtype="float32", suffix=".tif", channels=())
    write_image(tmp_path / "train" / "images" / "001.tif", np.full((32, 32, 3), np.nan, np.float32))
    store = store_of(tmp_path, cached)
    assert (store.target(1) == IGNORED).all()
    assert np.isfinite(store.image(1)).all()


def test_a_value_that_the_nodata_setting_declares_is_ignored_in_loss_and_metric(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, cached: bool
) -> None:
    data_set(tmp_path, dtype="int16", suffix=".tif")
    for folder, rows in (("images", slice(4)), ("nir", slice(28, None))):
        image = read_image(tmp_path / "val" / folder / "001.tif")[0].copy()
        image[rows] = -9999
        write_image(tmp_path / "val" / folder / "001.tif", image)
    found = store_of(tmp_path, cached, "val", channels=["nir"], nodata=-9999)
    assert (np.flatnonzero((found.target(1) == IGNORED).all(axis=1)) == [0, 1, 2, 3, 28, 29, 30, 31]).all()
    assert found.image(1).min() > -9999


def test_missing_pixels_do_not_spread_when_a_tile_is_resized(
    tmp_path: Path, write_image: WriteImage, data_set: WriteDataSet, cached: bool
) -> None:
    data_set(tmp_path, train=1, val=1, size=48, dtype="float32", suffix=".tif")
    path = tmp_path / "train" / "images" / "000.tif"
    image = read_image(path)[0].copy()
    image[:, :24] = np.nan
    write_image(path, image)
    store = store_of(tmp_path, cached, image_size=32)
    assert np.isfinite(store.image(0)).all()
    assert (store.target(0)[:, :16] == IGNORED).all()
    assert (store.target(0)[:, 16:] != IGNORED).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_change_the_order(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    data_set(tmp_path, train=19, val=1)
    monkeypatch.setattr("segtune.data.reading.available_cpus", lambda: threads)
    store, decoded = store_of(tmp_path), store_of(tmp_path, cached=False)
    for index in range(19):
        assert store.name(index) == decoded.name(index) == f"{index:03d}"
        np.testing.assert_array_equal(store.image(index), decoded.image(index))


# Augmentation


def bands_like(image: npt.NDArray[Any]) -> list[Band]:
    flat = image.reshape(-1, image.shape[2]).astype(np.float64)
    rows = zip(flat.mean(axis=0), flat.std(axis=0), flat.min(axis=0), flat.max(axis=0), strict=True)
    return [Band(f"image:{i}", *(float(value) for value in row)) for i, row in enumerate(rows)]


def sample(
    bands: int, dtype: str, seed: int = 0, shape: tuple[int, int] = (SIZE, SIZE)
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """A smooth random image and a mask with background, two classes and ignored pixels."""
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.normal(0, 1, (*shape, 1)), (0, 0), 4)
    mask = np.digitize(noise, np.quantile(noise, [0.4, 0.7, 0.9])).astype(np.uint8)
    mask[mask == 3] = IGNORED
    pixels = np.stack([cv2.GaussianBlur(random.normal(0, 1, shape), (0, 0), 2) for _ in range(bands)], axis=2)
    pixels = (pixels - pixels.min()) / np.ptp(pixels)
    image = pixels * 255 if dtype == "uint8" else (pixels * 9000 - 500)
    return image.astype(dtype), mask


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


# Batches


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
    info, store = scanned(root, **CHANNELS), store_of(root, cached, **CHANNELS)
    augmentation = Augmentation("hard", info.input_bands(["nir"]), info.uint8)
    with Batches(store, batch_size, seed, augmentation, workers=workers, **settings) as batches:
        return [batch for epoch in epochs for batch in batches.epoch(epoch, first_batch)]


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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
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


@pytest.mark.parametrize("split", ["train", "val"])
def test_wider_pixels_than_the_model_knows_are_refused_and_do_not_wrap_around(
    tmp_path: Path, data_set: WriteDataSet, split: str
) -> None:
    narrow = scanned(data_set(tmp_path / "narrow", suffix=".tif"))
    wide = scanned(data_set(tmp_path / "wide", suffix=".tif", dtype="uint16"))
    tiles = wide.tiles[split]
    store = DecodedTiles(tiles, narrow.labels, narrow.bands, [0], Fit("resize", 32), narrow.uint8, None)
    with pytest.raises(InputError, match="uint16, but the model was trained on uint8"):
        store.image(0)


def test_tiles_of_other_bands_than_the_models_are_refused_by_name(tmp_path: Path, data_set: WriteDataSet) -> None:
    info = scanned(data_set(tmp_path, bands=3, suffix=".tif"))
    store = DecodedTiles(info.tiles["val"], info.labels, info.bands[:2], [0], Fit("resize", 32), True, None)
    with pytest.raises(InputError, match=r"000\.tif: has 3 bands in all, but the model was trained on 2"):
        store.image(0)


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
