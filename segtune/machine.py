"""What this process may use of the machine, and what it runs on."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType

HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # a terminal that is closed; POSIX only
_PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "albumentations", "ray", "optuna")


def available_cpus() -> int:
    """Cores that this process may use: its CPU affinity and a batch system's share, not the machine's."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    allotted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(cores, int(allotted))) if allotted.isdigit() else cores


def free_memory() -> int | None:
    """Bytes of memory that this process may still take: of the machine, and of its container; None where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, StopIteration):  # not Linux
        return None
    for line in groups:
        _, kinds, place = line.split(":", 2)
        if kinds in ("", "memory"):
            free = min([free, *_left_in_groups(kinds, place)])
    return free


def _left_in_groups(kind: str, place: str) -> Iterator[int]:
    """Bytes left under the limit of a control group, version 2 or 1, and of those around it."""
    root = Path("/sys/fs/cgroup", kind)
    most, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kind else ("memory.max", "memory.current")
    group = root / place.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            return
        with suppress(OSError, ValueError, StopIteration):  # no such file, or "max"
            limit, taken = (int((folder / name).read_text(encoding="ascii")) for name in (most, used))
            # What was read from files and may be dropped counts as taken.
            rows = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            yield limit - taken + next(int(row.split()[1]) for row in rows if row.startswith("inactive_file "))


def ending_signals() -> list[int]:
    """SIGTERM, and SIGHUP unless it is ignored, as under `nohup`: a process then outlives its terminal."""
    hangs_up = signal.getsignal(HANGUP) is not signal.SIG_IGN
    return [signal.SIGTERM, HANGUP] if hangs_up else [signal.SIGTERM]


@contextmanager
def signals_noted(on_signal: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGHUP be noted in the list, so that what runs can end in order.

    A second Ctrl-C ends it at once. `on_signal` is called for each, too. To be used in the main thread.
    """
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if on_signal:
            on_signal()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *ending_signals())}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def versions() -> dict[str, str]:
    """Versions of Python, segtune and the libraries that a result depends on."""
    found = {"python": platform.python_version(), "segtune": version("segtune")}
    return found | {name: version(name) for name in _PACKAGES}
