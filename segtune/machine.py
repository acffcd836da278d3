"""What this process may use of the machine, and what it runs on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

_PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "albumentations", "ray", "optuna")


def available_cpus() -> int:
    """Cores that this process may use: its CPU affinity and a batch system's share, not the machine's."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    allotted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(cores, int(allotted))) if allotted.isdigit() else cores


def versions() -> dict[str, str]:
    """Versions of Python, segtune and the libraries that a result depends on."""
    found = {"python": platform.python_version(), "segtune": version("segtune")}
    return found | {name: version(name) for name in _PACKAGES}
