"""The data set of a command line, checked before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segtune.config import DEMO, RunConfig
from segtune.data.splits import check_folders
from segtune.remarks import Say


def check_data(config: RunConfig, channels: Sequence[str]) -> None:
    """Raise InputError where a folder of the data is missing; the demo data set may be, since it is made later."""
    if not _is_missing_demo(config.dataset):
        check_folders(config, channels)


def ensure_demo(dataset: str, say: Say) -> None:
    """Write the demo data set if it is asked for and does not exist."""
    if _is_missing_demo(dataset):
        from segtune.data.demo import write_demo  # imports OpenCV and GDAL

        say(f"writing the demo data set to {DEMO}")
        write_demo(Path(DEMO))


def _is_missing_demo(dataset: str) -> bool:
    return Path(dataset) == Path(DEMO) and not Path(DEMO).exists()
