"""Stores -> batches, in an order and with augmentations that (seed, epoch) decide alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import TracebackType

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segtune.data.augment import Augmentation
from segtune.data.store import TileStore

# Images: (B, H, W, bands), uint8 or float32, as they lie in memory; seen as (B, bands, H, W) that is
# channels_last. Targets: a uint8 (H, W) tensor each, since masks in evaluation keep their own sizes.
Batch = tuple[Tensor, list[Tensor]]
_Item = tuple[Tensor, Tensor]


class _Tiles(Dataset[_Item]):
    """Samples by (epoch, index): workers that live for a whole run learn the epoch from the index."""

    def __init__(self, store: TileStore, augmentation: Augmentation | None, seed: int) -> None:
        self._store, self._augmentation, self._seed = store, augmentation, seed

    def __getitem__(self, key: tuple[int, int]) -> _Item:
        epoch, index = key
        image, target = self._store.image(index), self._store.target(index)
        if self._augmentation:
            image, target = self._augmentation(image, target, self._seed, epoch, index)
        return torch.from_numpy(image.copy()), torch.from_numpy(target.copy())


class _EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index); shuffled by (seed, epoch) where asked."""

    def __init__(self, count: int, batch_size: int, seed: int | None) -> None:
        self.epoch = 0
        self._count, self._batch_size, self._seed = count, batch_size, seed

    def __len__(self) -> int:
        return -(-self._count // self._batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = list(range(self._count))
        if self._seed is not None:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
            order = torch.randperm(self._count, generator=generator).tolist()
        for start in range(0, self._count, self._batch_size):
            yield [(self.epoch, index) for index in order[start : start + self._batch_size]]


class Batches:
    """Batches of one store; close it, or use it in a `with`, so that no loader process outlives it.

    Parameters
    ----------
    store: the tiles.
    batch_size: tiles per batch; the last one may be smaller, down to one tile.
    seed: shuffles (and seeds augmentation); None keeps the store's order.
    augmentation: changes each sample; None leaves them as they are.
    workers: loader processes; 0 loads in this process.
    pin_memory: page-locked batches, for a faster way to a GPU.
    """

    def __init__(
        self,
        store: TileStore,
        batch_size: int,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._sampler = _EpochSampler(len(store), batch_size, seed)
        self._loader: DataLoader[_Item] | None = DataLoader(
            _Tiles(store, augmentation, seed or 0),
            batch_sampler=self._sampler,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            # A loader draws a number for each pass: from a generator of its own, not from the one that
            # dropout draws from.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._sampler)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass."""
        if self._loader is None:
            raise RuntimeError("the batches are closed")
        self._sampler.epoch = number
        return iter(self._loader)

    def close(self) -> None:
        """End the loader processes."""
        # They end with the loader's own iterator, of which there is no public handle.
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()
        self._loader = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _collate(items: list[_Item]) -> Batch:
    return torch.stack([image for image, _ in items]), [target for _, target in items]


def _start_worker(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the training process ends its loaders by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Loader processes are the parallelism; OpenCV's own threads on top only fight over the same cores.
    cv2.setNumThreads(0)
