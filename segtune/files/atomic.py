"""Replace files and model folders completely or not at all."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from segtune.files.temporary import beside

CONFIG, WEIGHTS, MANIFEST, CARD = "config.json", "model.safetensors", "run.yaml", "README.md"  # in a model folder
# The files of a model folder. Any other file there belongs to the user and is never deleted.
MODEL_FILES = (CONFIG, WEIGHTS, MANIFEST, CARD)
_SWAP_S = 0.2  # more than replacing a folder takes


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` that replaces it when the block ends without an error.

    Readers see the old file or the new one, never a part. An OSError without a file name, such as that of a full disk,
    gets the name of `path`.
    """
    temporary = beside(path, "tmp")
    try:
        # Created here, with O_EXCL: who opens it by its name cannot be led to another file by a link.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces a model folder when the block ends without an error.

    Other files of the replaced folder are kept in a folder beside it.
    """
    temporary = beside(final, "tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # Some libraries ignore the umask and let only the user read a file; the folder follows the umask.
        mode = temporary.stat().st_mode & 0o666
        for file in temporary.rglob("*"):
            if file.is_file():
                with suppress(PermissionError):  # file systems without modes
                    file.chmod(mode)
                _flush(file)
        replace_folder(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Replace the model folder `final` by `new`; keep its other files in a folder beside it.

    A folder with files cannot be replaced in one step: `final` is renamed first, and `recover_folder` renames it back
    if the process dies between the two steps.
    """
    old = beside(final, "old")
    recover_folder(final)
    if os.path.lexists(final):
        os.replace(final, old)
    os.replace(new, final)
    if os.path.lexists(old):
        delete_model(old, final)


def discard_folder(path: Path) -> None:
    """Delete a model folder, if it exists, in one step; keep its other files in a folder beside it."""
    if os.path.lexists(path):
        gone = beside(path, "gone")
        os.replace(path, gone)
        delete_model(gone, path)


def recover_folder(final: Path) -> None:
    """Restore a model folder that a killed `replace_folder` has renamed and not yet replaced."""
    if os.path.lexists(final) or not (left := _stepped_aside(final)):
        return
    time.sleep(_SWAP_S)  # the other process may be alive, between its two steps
    if not os.path.lexists(final):
        with suppress(FileNotFoundError):
            os.replace(left, final)


def _stepped_aside(final: Path) -> Path | None:
    aside = re.compile(re.escape(f".{final.name}.old") + "(?:-[0-9]+-[0-9a-f]{8})?")
    try:
        found = [path for path in final.parent.iterdir() if aside.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max((path for path in found if (path / MODEL_FILES[1]).is_file()), key=os.path.getmtime, default=None)


def delete_model(folder: Path, final: Path) -> None:
    """Delete a renamed model folder, which was `final`; keep its other files in a folder beside that."""
    if folder.is_symlink():
        folder.unlink()
        return
    if folder.is_dir():
        for name in MODEL_FILES:
            with suppress(OSError):
                (folder / name).unlink()
        others = {name for name in os.listdir(folder) if not name.startswith(".nfs")}  # deleted, and still open
        if others.issubset(MODEL_FILES):
            with suppress(OSError):
                folder.rmdir()
            return
    set_aside(folder, f"{final.name}_set_aside")


def set_aside(path: Path, name: str) -> Path:
    """Rename a file or folder to this name and the first free number; return its new path."""
    for number in count(1):
        aside = path.with_name(f"{name}_{number}")
        if not os.path.lexists(aside):
            os.replace(path, aside)
            return aside
    raise AssertionError


def _flush(path: Path) -> None:
    """Write a file from the system's cache to the disk, before it gets its final name.

    A network file system may notice only now that the disk is full, and after a power cut the file must be complete.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
