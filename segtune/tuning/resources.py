"""How many trials run at a time, and on what share of the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from segtune.errors import InputError
from segtune.machine import available_cpus
from segtune.space import SearchSettings

_CPU_TRIALS = 4  # at a time without a GPU: more learn less from each other, and each takes memory


@dataclass(frozen=True)
class Plan:
    """Each trial's share, and how many trials fit at a time."""

    cpus: int
    gpus: int
    cpus_per_trial: int
    gpus_per_trial: float
    concurrent: int

    def request(self) -> dict[str, float]:
        """What Ray reserves for a trial."""
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}

    def __str__(self) -> str:
        share = f"{_count(self.cpus_per_trial, 'core')}"
        if self.gpus_per_trial:
            share += f" and {_count(self.gpus_per_trial, 'GPU')}"
        return f"{_count(self.concurrent, 'trial')} at a time, each on {share}"


def local_resources() -> dict[str, float]:
    """Cores and GPUs that this process may use, in Ray's terms."""
    return {"CPU": available_cpus(), "GPU": torch.cuda.device_count()}


def make_plan(search: SearchSettings, resources: Mapping[str, float], device: str = "auto") -> Plan:
    """Share the resources (Ray's CPU and GPU counts) among trials; InputError for what can never be met."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    wanted = search.gpus_per_trial
    if wanted is None:
        wanted = 1.0 if gpus and device != "cpu" else 0.0
    _check_gpus(wanted, gpus, device)
    most = min(search.trials, search.max_concurrent or search.trials)
    if wanted:
        by_gpu = gpus * math.floor(1 / wanted + 1e-9) if wanted <= 1 else gpus // int(wanted)
        most = min(most, by_gpu)
    elif not search.max_concurrent:
        most = min(most, _CPU_TRIALS)
    share = search.cpus_per_trial or max(1, cpus // most)
    if share > cpus:
        raise InputError(f"cpus_per_trial: {share} cores were asked for, but {cpus} can be used here")
    return Plan(cpus, gpus, share, wanted, min(most, cpus // share))


def _check_gpus(wanted: float, gpus: int, device: str) -> None:
    if wanted > 1 and wanted != int(wanted):
        raise InputError(f"gpus_per_trial: above one it must be a whole number, but got {wanted:g}")
    if wanted > gpus:
        raise InputError(f"gpus_per_trial: {wanted:g} was asked for, but {_count(gpus, 'GPU')} can be used here")
    if device.startswith("cuda") and not wanted:
        raise InputError(f"device: {device} was asked for, but trials get no GPU (gpus_per_trial is 0)")


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number <= 1 and number > 0 else 's'}"
