"""Plan how many trials run at a time, and each trial's share of the machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from segtune.errors import InputError, counted
from segtune.machine import available_cpus
from segtune.space.settings import SearchSettings

_CPU_TRIALS = 4  # at a time without a GPU: more of them learn less from each other, and each needs memory

Resources = Mapping[str, float]  # of a machine, under Ray's names: CPU, GPU


@dataclass(frozen=True)
class Plan:
    """Each trial's share of the resources, and the number of trials at a time."""

    cpus: int
    gpus: int
    cpus_per_trial: int
    gpus_per_trial: float
    concurrent: int
    nodes: int = 1  # machines with room for a trial

    def request(self) -> dict[str, float]:
        """Return the resources that Ray reserves for a trial."""
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}

    def __str__(self) -> str:
        share = f"{counted(self.cpus_per_trial, 'core')}"
        if self.gpus_per_trial:
            share += f" and {counted(self.gpus_per_trial, 'GPU')}"
        where = f" on {counted(self.nodes, 'node')}" if self.nodes > 1 else ""
        return f"{counted(self.concurrent, 'trial')} at a time{where}, each on {share}"


def local_resources() -> dict[str, float]:
    """Return the cores and GPUs that this process may use, under Ray's names."""
    return {"CPU": available_cpus(), "GPU": torch.cuda.device_count()}


def make_plan(search: SearchSettings, nodes: Sequence[Resources], device: str = "auto") -> Plan:
    """Divide the nodes' resources among trials; a trial runs on one node. InputError if a request cannot be met.

    If `cpus_per_trial` is not given, it is the largest number of cores with which all GPUs are in use. Without GPUs it
    maximizes the number of trials at a time, times the square root of the cores per trial: twice the cores do not
    train twice as fast, and one small node must not limit the trials on larger ones.
    """
    cpus, gpus = (int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
    wanted = search.gpus_per_trial
    if wanted is None:
        wanted = 1.0 if gpus and device != "cpu" else 0.0
    _check(search.cpus_per_trial or 1, wanted, nodes, device)
    most = min(search.trials, search.max_concurrent or search.trials)
    limit = most if wanted or search.max_concurrent else _CPU_TRIALS
    largest = int(max(node.get("CPU", 0) for node in nodes))

    def fitting(share: int) -> list[int]:
        return [min(limit, _fitting(node, share, wanted)) for node in nodes]

    def value(share: int) -> tuple[float, int]:
        concurrent = min(most, sum(fitting(share)))
        return (concurrent, share) if wanted else (concurrent * math.sqrt(share), -share)

    share = search.cpus_per_trial or max(range(1, largest + 1), key=value)
    found = fitting(share)
    return Plan(cpus, gpus, share, wanted, min(most, sum(found)), sum(map(bool, found)))


def trial_threads(given: int | None, before: int | None, cores: int) -> tuple[int, str | None]:
    """Return the torch threads of every trial, on which results depend, and a line if the number may surprise.

    It is the `given` number, else that of the trials so far (`before`), else the cores of a trial.
    """
    if given:
        return given, f"threads is {given} from here on, and was {before}" if before not in (None, given) else None
    if before is None or before == cores:
        return cores, None
    return before, (
        f"threads stays {before}, with which the trials so far were trained, though each has {cores} of the cores now; "
        f"--set threads={cores} changes it"
    )


def _fitting(node: Resources, cpus: int, gpus: float) -> int:
    """Return the number of trials with this share that fit on a node."""
    by_cpu, there = int(node.get("CPU", 0)) // cpus, int(node.get("GPU", 0))
    if not gpus:
        return by_cpu
    return min(by_cpu, there // int(gpus) if gpus > 1 else there * math.floor(1 / gpus + 1e-9))


def _check(cpus: int, gpus: float, nodes: Sequence[Resources], device: str) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise InputError(f"gpus_per_trial: above one it must be a whole number, but got {gpus:g}")
    most_cpus, most_gpus = (int(max((node.get(name, 0) for node in nodes), default=0)) for name in ("CPU", "GPU"))
    where = "here" if len(nodes) == 1 else f"on any one of {len(nodes)} nodes"
    if gpus > most_gpus:
        raise InputError(f"gpus_per_trial: {gpus:g} was asked for, but {counted(most_gpus, 'GPU')} can be used {where}")
    if device.startswith("cuda") and not gpus:
        raise InputError(f"device: {device} was asked for, but trials get no GPU (gpus_per_trial is 0)")
    if cpus > most_cpus:
        raise InputError(f"cpus_per_trial: a trial takes {counted(cpus, 'core')}, but {most_cpus} can be used {where}")
    if not any(_fitting(node, cpus, gpus) for node in nodes):
        share = f"{counted(cpus, 'core')} and {counted(gpus, 'GPU')}"
        raise InputError(f"cpus_per_trial: none of {counted(len(nodes), 'node')} has {share} for a trial")
