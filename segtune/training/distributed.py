"""The processes that train one run together, each on its share of every batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segtune.data.batches import Share
from segtune.files.folders import RunFolder
from segtune.models.batchnorm import allow_single_values

# Whoever started the processes watches over them, and ends them all when one is silent.
_PATIENCE = timedelta(days=1)
T = TypeVar("T")


@dataclass(frozen=True)
class Group(Share):
    """The processes of a run, and this one's place among them; a run of one process needs none of the calls.

    All processes call the same methods in the same order. Only those that `Share` defines do anything where there is
    one process; the others return what they were given.
    """

    itself: dist.ProcessGroup | None = None  # a group of this process alone

    @classmethod
    def join(cls, rank: int, size: int, meeting: Path, device: torch.device) -> Group:
        """Meet the other processes of this machine at a file that does not exist yet.

        They talk through NCCL where each has a GPU of its own, else through gloo.
        """
        # All processes are on this machine: nothing listens on its network.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        apart = device.type == "cuda" and torch.cuda.device_count() >= size and dist.is_nccl_available()
        store = dist.FileStore(str(meeting), size)  # type: ignore[attr-defined]
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if apart else "gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE
        )
        own, _ = dist.new_subgroups(1)
        return cls(rank, size, own)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the files of the run."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes)

    def gather(self, value: T) -> list[T]:
        """Return each process's value, a small object that can be pickled, in the order of the processes."""
        if self.size == 1:
            return [value]
        found: list[T] = [value] * self.size
        dist.all_gather_object(found, value)
        return found

    def join_tiles(self, own: Tensor, tiles: Sequence[int]) -> Tensor:
        """Return the tensors of all processes as one, in their order; gradients flow to the own part alone.

        `own` is (tiles[rank], ...): `tiles` has the number of tiles of each process.
        """
        if self.size == 1:
            return own
        # Collectives take tensors of one size.
        sent = own.new_zeros((max(tiles), *own.shape[1:]))
        sent[: len(own)] = own.detach()
        found = [torch.empty_like(sent) for _ in tiles]
        dist.all_gather(found, sent)
        parts = [part[:count] for part, count in zip(found, tiles, strict=True)]
        parts[self.rank] = own
        return torch.cat(parts)

    def synchronized(self, model: nn.Module) -> nn.Module:
        """Let the network's BatchNorm layers compute their statistics over the tiles of all processes."""
        if self.size > 1:
            # Not torch's own function, which drops the activation of timm's layers.
            model = convert_sync_batchnorm(model)
            allow_single_values(model)  # the new layers have no hooks
        return model

    def shared(self, model: nn.Module) -> nn.Module:
        """Return the network with gradients that are means over the processes; it starts with the first one's weights.

        In every step, too, all take the first one's running statistics of BatchNorm: those alone are in the state of a
        run. Weights without a gradient are looked for in every step: many encoders have some, and a frozen one has no
        other.
        """
        return DistributedDataParallel(model, find_unused_parameters=True) if self.size > 1 else model

    @contextmanager
    def alone(self, model: nn.Module) -> Iterator[None]:
        """Let BatchNorm layers see the tiles of this process alone inside the block."""
        layers = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
        for layer in layers:
            layer.process_group = self.itself
        try:
            yield
        finally:
            for layer in layers:
                layer.process_group = None

    def send_buffers(self, model: nn.Module) -> None:
        """Give the first process's running statistics of BatchNorm to the others."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def seed(self, *numbers: int) -> None:
        """Seed this process's random numbers for the next step, unless it is the first one.

        So dropout differs between processes, and only the state of the first one must be kept.
        """
        if not self.first:
            state = np.random.SeedSequence((self.rank, *numbers)).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0]) >> 1)


@dataclass(frozen=True)
class Seat:
    """The place of a process in the training of a run."""

    group: Group = field(default_factory=Group)
    scratch: RunFolder | None = None  # for the files of a process that is not the first
    micro_batch: int | None = None  # largest number of tiles at a time, if memory was too small for more


ALONE = Seat()
