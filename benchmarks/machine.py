"""The line above every figure: what it was measured on."""

from __future__ import annotations

import os
import platform

from segtune.machine import versions


def machine_line(*packages: str) -> str:
    """Processor, cores, and the releases of Python, segtune and what it builds on; `packages`: of others, as given."""
    known = [f"{name} {number}" for name, number in versions().items()]
    return f"{platform.machine()}, {os.cpu_count()} cores; {', '.join([*known, *packages])}"
