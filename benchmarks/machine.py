"""The line above every figure, and the memory of a process."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from segtune.machine import versions


def machine_line(*packages: str) -> str:
    """Processor, cores, and the releases of Python, segtune and what it builds on; `packages`: of others, as given."""
    known = [f"{name} {number}" for name, number in versions().items()]
    return f"{platform.machine()}, {os.cpu_count()} cores; {', '.join([*known, *packages])}"


def largest_memory(process: int) -> float:
    """Return the MB of memory that a process had at most so far; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)
