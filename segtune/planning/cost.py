"""Measure the cost of a run: a few training steps and evaluation batches on its own data; nothing is kept."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.tiles import TRAIN, VAL
from segtune.errors import DeviceMemoryError
from segtune.files.folders import RunFolder
from segtune.models.device import resolve_device
from segtune.training.train import train

# Training steps after the first one, which waits for the loaders and for the GPU's initialization. With a GPU, the
# loaders have some batches ready: only later steps show how fast they are.
_STEPS = {"cpu": 3, "cuda": 16}
_BATCHES = 2  # of evaluation; the second is measured, if there is one


@dataclass(frozen=True)
class Cost:
    """The measured cost of a run."""

    step_seconds: float  # of a training step, loading included
    batch_seconds: float  # of a batch of evaluation
    epoch_seconds: float  # of an epoch with its evaluation, extrapolated
    peak_bytes: int | None  # of GPU memory; None without a GPU


def probe(config: RunConfig, info: DataInfo, threads: int | None = None) -> Cost:
    """Measure a few steps of a run with random initial weights; delete what it writes.

    `train` itself is measured, and ended in its first evaluation. The figures are those of a process that has the
    device and the cores to itself. Raises InputError, NonFiniteLossError or DeviceMemoryError where the run cannot be
    trained.
    """
    device = resolve_device(config.device)
    steps = _STEPS[device.type]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watch = _Watch()
    try:
        with tempfile.TemporaryDirectory(prefix="segtune-probe-") as folder:
            run = train(
                _shortened(config, steps + 1),
                info,
                RunFolder(Path(folder)),
                threads,
                on_batch=watch.step,
                stop=watch,
                cores=threads,
            )
            with closing(run):
                next(run, None)
    except _EnoughError:
        pass
    except torch.OutOfMemoryError:
        raise DeviceMemoryError("does not fit into the memory of the GPU") from None
    step, batch = watch.seconds()
    tiles = config.samples_per_epoch or info.counts[TRAIN]
    total = step * math.ceil(tiles / config.batch_size) + batch * _batches(config, info)
    return Cost(step, batch, total, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None)


def _shortened(config: RunConfig, steps: int) -> RunConfig:
    """Return the same run with one short epoch; the cost of a step stays the same."""
    changed: dict[str, object] = {"samples_per_epoch": config.batch_size * steps, "encoder_weights": "none"}
    changed |= {"epochs": 1, "warmup_epochs": 0, "freeze_encoder_epochs": 0, "adv_freq": 1, "worst": 0}
    return config.model_copy(update=changed)


def _batches(config: RunConfig, info: DataInfo) -> float:
    """Return the mean number of evaluation batches per epoch; added sets are evaluated in some epochs only."""
    return sum(
        math.ceil(count / config.batch_size) / (1 if split == VAL else config.adv_freq)
        for split, count in info.counts.items()
        if split != TRAIN
    )


class _EnoughError(Exception):
    """Ends the run: the measurement is complete."""


class _Watch:
    """Records when training steps and evaluation batches end, and ends the run after a few of them."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._batches: list[float] = []
        self._training = True

    def step(self, done: int, total: int, loss: Tensor) -> None:
        """Record a training step, when the device has finished it."""
        loss.item()
        self._steps.append(time.perf_counter())
        self._training = True

    def __call__(self) -> bool:
        """Record an evaluation batch; `train` calls this after every batch, and those of evaluation follow no step."""
        if not self._training:
            self._batches.append(time.perf_counter())
        self._training = False
        if len(self._batches) == _BATCHES:
            raise _EnoughError
        return False

    def seconds(self) -> tuple[float, float]:
        """Return the seconds of a training step (mean of the later half) and of an evaluation batch."""
        steps = [end - start for start, end in zip(self._steps, self._steps[1:], strict=False)]
        before, last = [*self._steps, *self._batches][-2:]
        return statistics.fmean(steps[len(steps) // 2 :]), last - before
