"""Batches of tiles: their order and augmentation depend on seed and epoch only."""

from __future__ import annotations

import signal
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segtune.data.augment import Augment
from segtune.data.distances import DistanceMaps
from segtune.data.fitting import Fit
from segtune.data.labels import Indices
from segtune.data.mix import Mix
from segtune.data.store import Array, TileStore
from segtune.errors import InputError
from segtune.machine import HANGUP
from segtune.torch_errors import loader_died, loader_error

_Factors = npt.NDArray[np.float64]
_TIMED = 32  # tiles, at most, whose loading is timed
# Each kind of draw of a sample has a number of its own, after those of augmentation.
_CROP, _MIX = 2, 3
_OTHER = 2**32  # added to the number of a sample for the draws of the tile that is mixed into it

# Images: (B, H, W, bands), uint8 or float32; permuted to (B, bands, H, W), they are channels_last in memory. Whole
# tiles of several sizes, for sliding windows, are a list of (H, W, bands). Targets: (B, H, W), uint8, or a list as
# well, since masks in evaluation keep their own sizes. Distance maps follow where the loss needs them.
Batch = tuple[Tensor | list[Tensor], ...]
_Item = tuple[Tensor, ...]
_Key = tuple[int, int, int]  # epoch, position in the store, a number that differs when the epoch draws the tile again


@dataclass(frozen=True)
class DrawnTiles:
    """The tiles of a store as training sees them: cropped, augmented and mixed at random, as far as these are set."""

    store: TileStore
    seed: int
    augmentation: Augment | None = None
    crop: Fit | None = None
    mix: Mix | None = None

    def draw(self, index: int, epoch: int, number: int) -> tuple[Array, Indices]:
        """Return image, (H, W, bands), and target, (H, W), of a tile; the caller may change them.

        `index` is the tile's position in the store. Its random draws depend on the seed, the epoch and `number`.
        """
        image, target = self._augmented(index, epoch, number)
        if self.mix:
            random = np.random.default_rng((self.seed, epoch, number, _MIX))
            if random.random() < self.mix.probability:
                partner = self.mix.partner(len(self.store), index, random)
                other = self._augmented(partner, epoch, number + _OTHER)
                self.mix(image, target, *other, random)
        return image, target

    def _augmented(self, index: int, epoch: int, number: int) -> tuple[Array, Indices]:
        image, target = self.store.image(index), self.store.target(index)
        if self.crop:
            image, target = self.crop.crop(image, target, np.random.default_rng((self.seed, epoch, number, _CROP)))
        image, target = image.copy(), target.copy()  # arrays of a store may be read-only
        if self.augmentation:
            image, target = self.augmentation(image, target, self.seed, epoch, number)
        return np.ascontiguousarray(image), np.ascontiguousarray(target)


class _Tiles(Dataset[_Item | InputError]):
    """Samples by (epoch, index, turn). Loader processes live for a whole run and learn the epoch from the key.

    A tile that cannot be read is returned as its error: raised in a loader process, it would arrive inside a traceback.
    """

    def __init__(self, drawn: DrawnTiles, maps: DistanceMaps | None) -> None:
        self._drawn, self._maps = drawn, maps

    def __len__(self) -> int:
        return len(self._drawn.store)

    def __getitem__(self, key: _Key) -> _Item | InputError:
        epoch, index, turn = key
        try:
            image, target = self._drawn.draw(index, epoch, number=index + turn * len(self))
        except InputError as error:
            return error
        # Not kept in the cache: augmentation moves the borders that the maps measure from.
        maps = [self._maps(target)] if self._maps else []
        return tuple(map(torch.from_numpy, (image, target, *maps)))


@dataclass(frozen=True)
class Share:
    """The place of one process among several that load parts of the same batches."""

    rank: int = 0
    size: int = 1

    def divides(self, tiles: int) -> bool:
        """Return whether a batch is divided; each process loads all of one with fewer tiles than processes."""
        return 1 < self.size <= tiles

    def counts(self, tiles: int) -> list[int]:
        """Return the number of tiles that each process gets of a batch that is divided."""
        return [tiles // self.size + (rank < tiles % self.size) for rank in range(self.size)]

    def of(self, batch: list[_Key]) -> list[_Key]:
        """Return the part of a batch that this process loads."""
        if not self.divides(len(batch)):
            return batch
        counts = self.counts(len(batch))
        begin = sum(counts[: self.rank])
        return batch[begin : begin + counts[self.rank]]


class _EpochSampler(Sampler[list[_Key]]):
    """Batches of keys, shuffled if there is a seed.

    Shuffled tiles form an endless sequence of permutations, and an epoch is its next part: every tile is drawn equally
    often, whatever the length of an epoch. With `factors`, each part of the sequence that is as long as the store has
    tiles in proportion to them, and some tiles not at all.

    Processes that share an epoch divide each of its batches; without a seed, they take whole batches in turn.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int | None,
        samples: int | None,
        factors: _Factors | None,
        share: Share,
    ) -> None:
        self.epoch, self.first_batch = 0, 0
        self._count, self.batch_size, self._seed = count, batch_size, seed
        self._samples, self.share = samples or count, share
        self._copies = None if factors is None else torch.from_numpy(factors * (count / factors.sum()))

    def __len__(self) -> int:
        return -(-self._samples // self.batch_size)

    def __iter__(self) -> Iterator[list[_Key]]:
        first = (self.epoch - 1) * self._samples
        begin = first + self.first_batch * self.batch_size
        order, turn = self._order(begin // self._count), begin // self._count
        for number, start in enumerate(range(begin, first + self._samples, self.batch_size)):
            if self._seed is None and number % self.share.size != self.share.rank:
                continue
            batch = []
            for position in range(start, min(start + self.batch_size, first + self._samples)):
                if position // self._count != turn:
                    turn = position // self._count
                    order = self._order(turn)
                # Epochs that are one whole permutation have the keys (epoch, index, 0).
                again = turn - first // self._count if self._copies is None else position - first
                batch.append((self.epoch, int(order[position % self._count]), again))
            yield batch if self._seed is None else self.share.of(batch)

    def tiles(self, number: int) -> int:
        """Return the number of tiles of the batch at this position of an epoch, for all processes together."""
        return min(self.batch_size, self._samples - number * self.batch_size)

    def _order(self, turn: int) -> Tensor:
        if self._seed is None:
            return torch.arange(self._count)
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + turn + 1)
        order = torch.randperm(self._count, generator=generator)
        if self._copies is None:
            return order
        # Systematic sampling: of 2.3 copies of a tile there are 2 or 3, and all copies are as many as the tiles.
        start = torch.rand((), dtype=torch.float64, generator=generator)
        ends = self._copies[order].cumsum(0) + start
        ends[-1] = self._count + start
        drawn = order.repeat_interleave(ends.floor().long().diff(prepend=torch.zeros(1, dtype=torch.long)))
        return drawn[torch.randperm(self._count, generator=generator)]


class Batches:
    """Batches of one store; close it, or use it in a `with` block, to end its loader processes.

    Parameters
    ----------
    store: the tiles.
    batch_size: tiles per batch; the last one may be smaller, down to one tile.
    seed: shuffles (and seeds augmentation); None keeps the store's order.
    augmentation: changes each sample; None leaves them as they are.
    crop: takes a random square of each sample; None leaves it whole.
    mix: puts parts of another tile into some samples; None into none.
    samples: tiles per epoch; None for all.
    workers: loader processes; 0 loads in this process.
    pin_memory: page-locked batches, for a faster way to a GPU.
    maps: computes the distance maps of each target; None for none.
    factors: how often each tile is drawn, in proportion to the others; None for equally often. It needs a seed.
    share: which part this process gets: of each batch with a seed, or else of the batches.
    """

    def __init__(
        self,
        store: TileStore,
        batch_size: int,
        seed: int | None = None,
        augmentation: Augment | None = None,
        crop: Fit | None = None,
        mix: Mix | None = None,
        samples: int | None = None,
        workers: int = 0,
        pin_memory: bool = False,
        maps: DistanceMaps | None = None,
        factors: _Factors | None = None,
        share: Share = Share(),
    ) -> None:
        self._sampler = _EpochSampler(len(store), batch_size, seed, samples, factors, share)
        self._tiles = _Tiles(DrawnTiles(store, seed or 0, augmentation, crop, mix), maps)
        self._pin_memory = pin_memory
        self._loader: DataLoader[_Item | InputError] | None = self._make_loader(workers)
        self._begun: tuple[int, Iterator[Batch | InputError]] | None = None  # the number of a pass, and its batches

    def _make_loader(self, workers: int) -> DataLoader[_Item | InputError]:
        with _unwarned():
            return DataLoader(
                self._tiles,
                batch_sampler=self._sampler,
                num_workers=workers,
                collate_fn=_collate,
                worker_init_fn=_start_worker,
                persistent_workers=workers > 0,
                pin_memory=self._pin_memory,
                # A loader draws a number for each pass: not from the generator that dropout uses.
                generator=torch.Generator(),
            )

    def use_workers(self, number: int) -> None:
        """Set the number of loader processes; call it before the first pass."""
        self._loader = self._make_loader(number)

    def tile_seconds(self, limit: float = 0.3) -> float:
        """Return the seconds that this process takes to load and augment a tile, the mean of a few.

        It takes about `limit` seconds. Samples are drawn from (seed, epoch, sample), so later ones stay the same.
        """
        keys = [(0, index % len(self._tiles), 0) for index in range(1 + _TIMED)]
        self._tiles[keys[0]]  # the first one opens files and warms libraries up
        taken: list[float] = []
        for key in keys[1:]:
            started = time.perf_counter()
            self._tiles[key]
            taken.append(time.perf_counter() - started)
            if sum(taken) > limit:
                break
        return statistics.fmean(taken)

    def __len__(self) -> int:
        return len(self._sampler)

    @property
    def batch_size(self) -> int:
        """The number of tiles per batch; a change takes effect with the next pass."""
        return self._sampler.batch_size

    @batch_size.setter
    def batch_size(self, number: int) -> None:
        self._sampler.batch_size = number

    def tiles(self, number: int) -> int:
        """Return the number of tiles of a batch, by its position in the pass: of all processes that share it."""
        return self._sampler.tiles(number)

    def first_tile(self, number: int) -> int:
        """Return the position, in the store, of the first tile of a batch that this process gets without a seed."""
        share = self._sampler.share
        return (number * share.size + share.rank) * self.batch_size

    def epoch(self, number: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one pass, starting with the one at this position.

        Raises InputError where a tile cannot be read, and LoaderError where a loader process died.
        """
        begun, self._begun = self._begun, None
        if begun and begun[0] == number and not first_batch:
            return _sound(begun[1])
        return _sound(self._begin(number, first_batch))

    def begin(self, number: int) -> None:
        """Let the loader processes prepare the first batches of the next pass, while this process does other work."""
        if self._loader is not None and self._loader.num_workers:
            self._begun = number, self._begin(number, 0)

    def _begin(self, number: int, first_batch: int) -> Iterator[Batch | InputError]:
        if self._loader is None:
            raise RuntimeError("the batches are closed")
        self._sampler.epoch, self._sampler.first_batch = number, first_batch
        with _unwarned():
            return iter(self._loader)

    def close(self) -> None:
        """Stop the loader processes."""
        # They end with the loader's iterator, for which there is no public method.
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()
        self._loader = self._begun = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _unwarned() -> Iterator[None]:
    """Suppress torch's warning that there are more loader processes than cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")
        yield


def _sound(batches: Iterator[Batch | InputError]) -> Iterator[Batch]:
    while True:
        try:
            batch = next(batches, None)
        except RuntimeError as error:
            if loader_died(error):
                raise loader_error(error) from None
            raise
        if batch is None:
            return
        if isinstance(batch, InputError):
            raise batch
        yield batch


def _collate(items: list[_Item | InputError]) -> Batch | InputError:
    sound = [item for item in items if not isinstance(item, InputError)]
    if len(sound) < len(items):
        return next(item for item in items if isinstance(item, InputError))
    return tuple(_stacked(parts) for parts in zip(*sound, strict=True))


def _stacked(parts: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Return one tensor where all parts have the same size, so that it is pinned as a whole, or else a list."""
    return torch.stack(list(parts)) if len({part.shape for part in parts}) == 1 else list(parts)


def _start_worker(_: int) -> None:
    # Ctrl-C and a closed terminal reach all of its processes, and SIGTERM of a batch system all processes of the job.
    # The training process ends its loaders by itself once it has saved its state.
    for number in (signal.SIGINT, signal.SIGTERM, HANGUP):
        signal.signal(number, signal.SIG_IGN)
    # Loader processes are parallel already: OpenCV's threads would compete for the same cores.
    cv2.setNumThreads(0)
