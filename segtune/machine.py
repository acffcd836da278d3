"""The cores and memory that this process may use, its signals, and the versions of its libraries."""

from __future__ import annotations

import functools
import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType

HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # sent when the terminal is closed; POSIX only
_PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "albumentations", "ray", "optuna")


def available_cpus() -> int:
    """Return the number of cores that CPU affinity, a batch system and a container let this process use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    allotted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    shares = [cores, *([int(allotted)] if allotted.isdigit() else []), *map(int, cpu_quotas())]
    return max(1, min(shares))


def cpu_quotas(process: Path = Path("/proc/self")) -> list[float]:
    """Return the CPU limits, in cores, of a process's control groups, as set by ``docker run --cpus``."""
    try:
        groups = [line.split(":", 2)[1:] for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:  # no Linux
        return []
    found: list[float] = []
    for _, _, _, root, place, *_, kind, _, options in mounts:
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        own = next((path for names, path in groups if (names == "") == (kind == "cgroup2") and _has_cpu(names)), root)
        inside = os.path.relpath(own, root) if Path(own).is_relative_to(root) else "."
        folder = Path(place, inside)
        found += [share for group in (folder, *folder.parents) if (share := _quota(group)) is not None]
    return found


def _has_cpu(controllers: str) -> bool:
    return controllers == "" or "cpu" in controllers.split(",")


def _quota(group: Path) -> float | None:
    """Return the number of cores that a control group may use; None if it has no limit."""
    try:
        if (group / "cpu.max").is_file():  # version 2
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except OSError:
        return None
    return int(limit) / int(period) if limit not in ("max", "-1") else None


def free_memory() -> int | None:
    """Return the bytes of memory left for this process, on the machine and in its container; None if unknown."""
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
    """Yield the bytes left under the limits of a control group (version 1 or 2) and of its parents."""
    root = Path("/sys/fs/cgroup", kind)
    most, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kind else ("memory.max", "memory.current")
    group = root / place.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            return
        with suppress(OSError, ValueError, StopIteration):  # no such file, or "max"
            limit, taken = (int((folder / name).read_text(encoding="ascii")) for name in (most, used))
            # File contents that the kernel may drop count as used memory: add them again.
            rows = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            yield limit - taken + next(int(row.split()[1]) for row in rows if row.startswith("inactive_file "))


def ending_signals() -> list[int]:
    """Return SIGTERM, and SIGHUP unless it is ignored: under `nohup` a process outlives its terminal."""
    hangs_up = signal.getsignal(HANGUP) is not signal.SIG_IGN
    return [signal.SIGTERM, HANGUP] if hangs_up else [signal.SIGTERM]


@contextmanager
def signals_noted(on_signal: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Record SIGINT, SIGTERM and SIGHUP in the list that is yielded, so that the program can end in order.

    A second Ctrl-C interrupts at once. `on_signal` is called for every signal. Use it in the main thread.
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
    """Return the versions of Python, segtune and the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in ("segtune", *_PACKAGES)}


@functools.cache  # a model's run.yaml is written after every epoch
def _version(name: str) -> str:
    return version(name)
