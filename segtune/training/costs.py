"""Measure what the model of a run costs: the time of a forward pass, and the memory of the GPU."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress

import torch
from torch import Tensor

from segtune.errors import DeviceMemoryError
from segtune.evaluation.predictor import Predictor
from segtune.torch_errors import faults_named
from segtune.training.run import Run

_WARM, _TIMED = 2, 9  # forward passes before and while the clock runs
_MOST_S = 0.5  # no further pass begins after that long


def measure_costs(run: Run) -> None:
    """Note the costs in the progress of a run whose first epoch was evaluated, and write them to run.yaml.

    The latency is the median time of a warm forward pass of one image of the network's size, in milliseconds, on the
    device and with the precision of the run. Other trials on the device make it longer, so that a median is taken. The
    memory is the largest that tensors took at once so far, in gigabytes; there is none on a CPU. Where memory is not
    enough for the pass, there is no latency yet: an epoch that worked is not lost for it.
    """
    if run.device.type == "cuda":
        run.progress.gpu_memory = torch.cuda.max_memory_allocated(run.device) / 1e9
    size = run.config.image_size
    assert size
    shape = (1, size, size, len(run.manifest.bands))
    image = torch.zeros(shape, dtype=torch.uint8 if run.manifest.uint8 else torch.float32)
    predictor = Predictor(run.state.measured, run.manifest, run.device)
    with suppress(DeviceMemoryError), faults_named():
        run.progress.latency = 1e3 * statistics.median(_passes(predictor, image, run.device)[_WARM:])
    run.write_manifest()


def _passes(predictor: Predictor, image: Tensor, device: torch.device) -> list[float]:
    """Return the seconds of each forward pass."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _WARM + _TIMED and (len(times) <= _WARM or time.perf_counter() - begun < _MOST_S):
        start = time.perf_counter()
        predictor.logits(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return times
