"""Finding the file of a search space."""

from __future__ import annotations

import os.path
from pathlib import Path

from segtune.errors import InputError, nearest


def find_space(name: str, folder: Path) -> Path:
    """Return the file that `--space` names: a path, or a file in `folder`, with or without ``.yaml``.

    Raises InputError, with the nearest name, if there is none.
    """
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if os.path.exists(path) and not path.is_dir():
            return path
    shipped = sorted(path.stem for path in folder.glob("*.yaml"))
    raise InputError(
        f"no search space {name!r}: there is no such file, and segtune has {', '.join(shipped) or 'none'}"
        f"{nearest(Path(name).stem, shipped)}"
    )
