"""What processes that were killed left behind in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from segtune.files.atomic import MODEL_FILES, delete_model
from segtune.files.temporary import TEMPORARY


def clear_held(folder: Path, written: Collection[Path]) -> None:
    """Delete what processes that were killed left in a folder that this one holds the lock of.

    Their names end in a number of ours; those of earlier releases are known by what was `written`.
    """
    known = {path.name for path in written}
    for left in list(folder.iterdir()):
        found = TEMPORARY.fullmatch(left.name)
        if not found or left.is_symlink() or not (found["random"] or found["name"] in known):
            continue
        final = folder / found["name"]
        if left.is_file():
            left.unlink()
        elif found["kind"] == "tmp" and (found["random"] or _partial_model(left)):
            shutil.rmtree(left)
        elif found["kind"] == "gone" or final.exists():  # else it is what `recover_folder` brings back
            delete_model(left, final)


def _partial_model(folder: Path) -> bool:
    """Whether a folder holds nothing but what saving a model leaves when it is killed."""
    return all(name in MODEL_FILES or name.startswith(".tmp") for name in os.listdir(folder))
