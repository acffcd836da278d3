"""The data set of a command line, looked at before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from segtune.config import DEMO, RunConfig
from segtune.data.splits import check_folders


def check_data(config: RunConfig, channels: Sequence[str]) -> None:
    """Refuse data of which a folder is missing, before seconds are spent on importing torch. The demo is made later."""
    if not _is_missing_demo(config.dataset):
        check_folders(config, channels)


def ensure_demo(dataset: str, say: Callable[[str], None]) -> None:
    """Write the demo data set where it is asked for by its own name and is not there yet."""
    if _is_missing_demo(dataset):
        from segtune.data.demo import write_demo  # and with it OpenCV and GDAL

        say(f"writing the demo data set to {DEMO}")
        write_demo(Path(DEMO))


def _is_missing_demo(dataset: str) -> bool:
    return Path(dataset) == Path(DEMO) and not Path(DEMO).exists()
