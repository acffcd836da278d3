"""Delete what killed processes left behind in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from segtune.files.atomic import MODEL_FILES, delete_model
from segtune.files.temporary import TEMPORARY


def clear_held(folder: Path, written: Collection[Path]) -> None:
    """Delete temporary files and folders of killed processes; this process must hold the folder's lock.

    Temporary names have a random part. Those of earlier releases have none, and are recognized by the files that are
    `written` in such a folder.
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
        elif found["kind"] == "gone" or final.exists():  # else `recover_folder` restores it
            delete_model(left, final)


def _partial_model(folder: Path) -> bool:
    """Return whether a folder holds nothing but a partly saved model."""
    return all(name in MODEL_FILES or name.startswith(".tmp") for name in os.listdir(folder))
