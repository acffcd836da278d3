"""Loader processes: how many a run needs, and whether its device waits for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from segtune.data.batches import Batches

# No step is shorter: on a GPU, Python needs so long to launch that of a small network (benchmarks/README.md, gpu.py).
_SHORTEST_STEP_S = 0.02
# Pixels per second that a training takes at most: twice what a Unet with resnet34 took on an H100, and several times
# what small networks take on a core.
_GPU_PIXELS, _CORE_PIXELS = 250e6, 1e6
_WAITING, _WAITING_S = 0.1, 0.25  # share of the time, and seconds, below which nobody needs to hear of it


@dataclass(frozen=True)
class Waiting:
    """The time that training waited for tiles in an epoch, and what would be better."""

    share: float  # of the time of training
    gpu: bool  # a GPU waited, else the CPU
    workers: int  # loader processes
    better: int  # loader processes that the cores allow and that would wait less; the same number: there are none
    left: float  # share of the time that would still be spent waiting with `better`
    spare: int  # cores besides those that training itself takes


def spare_cores(device: torch.device, cores: int, threads: int) -> int:
    """Return the cores of a run that its training leaves to loaders; with a GPU, training takes one, and leaves one."""
    return max(1, cores - 1) if device.type == "cuda" else max(0, cores - threads)


def choose_workers(batches: Batches, side: int, decoded: bool, device: torch.device, cores: int, threads: int) -> int:
    """Return the number of loader processes with which training hardly waits for tiles.

    They prepare a batch in the time of the shortest step that is possible, if there are so many spare cores. On a CPU
    without spare cores they would only compete with training; but reading files waits for the disk, too.

    Parameters
    ----------
    batches: the batches to load, of which a few tiles are timed.
    side: of the network's input, in pixels.
    decoded: tiles need no decoding.
    cores, threads: cores of this run, and torch's threads.
    """
    spare = spare_cores(device, cores, threads)
    if not spare:
        return 0 if decoded else 1
    rate = _GPU_PIXELS if device.type == "cuda" else _CORE_PIXELS * threads
    step = max(_SHORTEST_STEP_S, batches.batch_size * side**2 / rate)
    return min(spare, math.ceil(batches.tile_seconds() * batches.batch_size / step))


def find_waiting(seconds: float, waited: float, workers: int, spare: int, gpu: bool) -> Waiting | None:
    """Return how training waited for tiles in an epoch; None where it hardly did, or where the CPU has no spare cores.

    While training waits, all loader processes work. So they take `seconds` times `workers` for the tiles of an epoch,
    and without waiting, the epoch would take `seconds - waited`.
    """
    if waited < max(_WAITING_S, _WAITING * seconds) or not (gpu or spare > workers):
        return None
    work = seconds * workers if workers else waited
    rest = max(seconds - waited, 1e-3)
    needed = max(math.ceil(work / rest), workers + 1)
    better = max(min(needed, spare), workers)
    left = 0.0 if better >= needed else max(0.0, 1 - rest * better / work)
    return Waiting(waited / seconds, gpu, workers, better, left, spare)
