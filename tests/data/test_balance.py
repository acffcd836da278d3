"""Weights of classes, and tiles with rare classes drawn more often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.balance import class_weights, repeat_factors
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.findings import SplitInfo
from segtune.data.fitting import Fit
from tests.conftest import WriteDataSet, WriteImage
from tests.data.caching import Counted
from tests.data.caching import scanned as cached_scan
from tests.data.stores import scanned, store_of


def with_masks(root: Path, write_image: WriteImage, masks: list[npt.NDArray[np.uint8]]) -> None:
    """Give the training tiles these masks."""
    for index, mask in enumerate(masks):
        write_image(root / "train" / "gt" / f"{index:03d}.png", mask)


@pytest.fixture
def shares(tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage) -> Path:
    """Masks of 32 x 32 pixels: background, class 1 in every tile, class 2 in one, class 3 in a pixel; 9 is ignored."""
    data_set(tmp_path / "set", train=8, val=2, labels=(0, 1, 2, 3, 9))
    masks = [np.zeros((32, 32), np.uint8) for _ in range(8)]
    for mask in masks:
        mask[:8], mask[8:10] = 1, 9
    masks[3][20:22] = 2
    masks[5][31, 31] = 3
    with_masks(tmp_path / "set", write_image, masks)
    return tmp_path / "set"


def info_of(root: Path) -> DataInfo:
    return scanned(root, classes=[1, 2, 3], ignore=[9])


def test_balanced_weights_are_inverse_shares_and_capped(shares: Path) -> None:
    pixels = {"background": 8 * 22 * 32 - 65, "1": 8 * 8 * 32, "2": 64, "3": 1}
    weights = class_weights("balanced", info_of(shares))
    assert list(weights) == list(pixels)
    assert weights["1"] / weights["background"] == pytest.approx(pixels["background"] / pixels["1"])
    for rare in ("2", "3"):  # 88 and 5567 times rarer than background
        assert weights[rare] / weights["background"] == pytest.approx(20)
    mean = sum(weights[name] * number for name, number in pixels.items()) / sum(pixels.values())
    assert mean == pytest.approx(1)


def test_effective_weights_differ_less_between_frequent_classes(shares: Path) -> None:
    balanced, effective = (class_weights(name, info_of(shares)) for name in ("balanced", "effective"))
    assert balanced["1"] / balanced["background"] > 2
    assert 1 < effective["1"] / effective["background"] < 2
    assert effective["3"] / effective["background"] == pytest.approx(20)


def test_a_list_of_weights_has_one_for_background_and_the_mean_of_a_pixel(shares: Path) -> None:
    weights = class_weights("2,5,10", info_of(shares))
    ratios = [weight / weights["background"] for weight in weights.values()]
    assert ratios == pytest.approx([1, 2, 5, 10])
    assert class_weights("none", info_of(shares)) == {}


def test_a_single_class_has_a_weight_beside_background(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path)
    weights = class_weights("3", scanned(tmp_path))
    assert list(weights) == ["background", "255"]
    assert weights["255"] == pytest.approx(3 * weights["background"])


def test_a_tile_has_the_factor_of_its_rarest_class(shares: Path) -> None:
    info = info_of(shares)
    assert {label: list(tiles) for label, tiles in info.holders.items()} == {1: list(range(8)), 2: [3], 3: [5]}
    expected = np.ones(8)
    expected[[3, 5]] = 8**0.5
    np.testing.assert_allclose(repeat_factors(info.holders, 8), expected)
    many = repeat_factors({1: np.array([7])}, 100_000)
    assert (many.max(), many.min()) == (10, 1)


def test_the_cache_keeps_which_tiles_hold_a_class(shares: Path, reads: Counted) -> None:
    settings = {"classes": [1, 2, 3], "ignore": [9]}
    first = cached_scan(shares, **settings)
    reads.refuse = True
    again = cached_scan(shares, **settings)
    assert {label: list(tiles) for label, tiles in again.holders.items()} == {
        label: list(tiles) for label, tiles in first.holders.items()
    }


def test_findings_of_an_earlier_release_are_completed_by_reading_once(
    shares: Path, reads: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"classes": [1, 2, 3], "ignore": [9]}
    plain = SplitInfo.plain
    with monkeypatch.context() as patch:
        patch.setattr(SplitInfo, "plain", lambda self: {k: v for k, v in plain(self).items() if k != "holders"})
        first = cached_scan(shares, **settings)
    reads.tiles.clear()
    second = cached_scan(shares, **settings)
    assert len(reads.tiles) == 8  # training tiles alone
    assert second.fingerprint == first.fingerprint
    assert list(second.holders[2]) == [3]
    reads.refuse = True
    cached_scan(shares, **settings)


# Drawing


def drawn(root: Path, epochs: range, batch_size: int = 3, samples: int | None = None, workers: int = 0) -> list[bytes]:
    """The targets of the batches, with tiles that are told apart by their pixels."""
    info = info_of(root)
    factors = repeat_factors(info.holders, 8)
    store = store_of(root, classes=[1, 2, 3], ignore=[9])
    with Batches(store, batch_size, 7, samples=samples, workers=workers, factors=factors) as batches:
        return [image.numpy().tobytes() for epoch in epochs for images, _ in batches.epoch(epoch) for image in images]


def test_tiles_are_drawn_in_proportion_and_an_epoch_keeps_its_length(shares: Path) -> None:
    rounds = 60
    found = Counter(drawn(shares, range(1, rounds + 1)))
    assert found.total() == 8 * rounds
    store, factors = store_of(shares, classes=[1, 2, 3], ignore=[9]), repeat_factors(info_of(shares).holders, 8)
    for index, factor in enumerate(factors):
        expected = 8 * rounds * factor / factors.sum()
        assert found[store.image(index).tobytes()] == pytest.approx(expected, rel=0.15)
    for epoch in range(1, 6):  # in one pass, a tile comes about as often as its share of 1.95 or 0.69 says
        counts = Counter(drawn(shares, range(epoch, epoch + 1)))
        assert set(counts.values()) <= {1, 2}


def test_the_order_does_not_depend_on_batches_epochs_or_workers(shares: Path) -> None:
    whole = drawn(shares, range(1, 5))
    assert drawn(shares, range(1, 5), batch_size=8) == whole
    assert drawn(shares, range(1, 9), samples=4) == whole
    assert drawn(shares, range(1, 5), workers=2) == whole
    assert drawn(shares, range(3, 5)) == whole[16:]


def test_an_epoch_continues_from_any_batch(shares: Path) -> None:
    factors = repeat_factors(info_of(shares).holders, 8)
    store = store_of(shares, classes=[1, 2, 3], ignore=[9])
    with Batches(store, 3, 7, factors=factors) as batches:
        whole = [batch[0] for batch in batches.epoch(2)]
        for first in range(4):
            rest = [batch[0] for batch in batches.epoch(2, first_batch=first)]
            assert len(rest) == len(whole) - first
            assert all(np.array_equal(a, b) for a, b in zip(rest, whole[first:], strict=True))


def test_a_tile_that_comes_twice_is_cropped_anew(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=3, val=2, size=96)
    store = store_of(tmp_path, fit="crop", image_size=32)
    factors = np.array([10.0, 1.0, 1.0])
    with Batches(store, 4, 1, crop=Fit("crop", 32), samples=24, factors=factors) as batches:
        tiles = [tile.numpy().tobytes() for images, _ in batches.epoch(1) for tile in images]
    assert len(set(tiles)) == len(tiles) == 24


class _Numbers:
    """A store of tiles of one pixel, whose value is the tile's index."""

    decoded = True

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def image(self, index: int) -> npt.NDArray[np.float32]:
        return np.full((1, 1, 1), index, np.float32)

    def target(self, index: int) -> npt.NDArray[np.uint8]:
        return np.zeros((1, 1), np.uint8)


@pytest.mark.parametrize("count", [1, 7, 500])
def test_every_pass_has_as_many_tiles_as_the_store(count: int) -> None:
    """Sums of shares are not exact in floating point."""
    random = np.random.default_rng(count)
    for seed in range(5):
        factors = random.uniform(1, 10, count)
        with Batches(_Numbers(count), count, seed, factors=factors) as batches:
            ((images, _),) = batches.epoch(1)
        found = Counter(int(image) for image in images)
        assert found.total() == count
        shares = factors * (count / factors.sum())
        assert all(int(share) <= found[index] <= int(share) + 1 for index, share in enumerate(shares))
