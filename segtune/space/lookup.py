"""Where the file of a search space is."""

from __future__ import annotations

import os.path
from pathlib import Path

from segtune.errors import InputError, nearest


def find_space(name: str, folder: Path) -> Path:
    """The file that `--space` means: a path, else a file in `folder`, with or without ``.yaml``."""
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if os.path.exists(path) and not path.is_dir():
            return path
    shipped = sorted(path.stem for path in folder.glob("*.yaml"))
    raise InputError(
        f"no search space {name!r}: it is no file, and the shipped ones are {', '.join(shipped) or 'missing'}"
        f"{nearest(Path(name).stem, shipped)}"
    )
