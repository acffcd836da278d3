"""Files and models' folders that get their place whole or not at all."""

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

WEIGHTS = "model.safetensors"  # in a model's folder
# What a folder with a model holds. Whatever else lies there was put there by somebody, and is never deleted.
MODEL_FILES = ("config.json", "model.safetensors", "run.yaml", "README.md")
_SWAP_S = 0.2  # seconds in which a folder is replaced by far


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it. An OSError that names no file, such as that of a full
    disk, gets the name of `path`.
    """
    temporary = beside(path, "tmp")
    try:
        # Made here, and new: whatever opens it by its name writes to no other file.
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
    """Write a text file, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of a model's folder when the block ends without an error.

    What the folder held besides a model is set aside.
    """
    temporary = beside(final, "tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # Some libraries give a file to its user alone, whatever the umask, which the folder itself follows.
        mode = temporary.stat().st_mode & 0o666
        for file in temporary.rglob("*"):
            if file.is_file():
                with suppress(PermissionError):  # of a file system without modes
                    file.chmod(mode)
                _flush(file)
        replace_folder(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Give a model's folder the place of another beside it; what that one held besides a model is set aside.

    That cannot be done in one step while the other holds files: it steps aside first, and `recover_folder` brings it
    back should the process die between the two steps.
    """
    old = beside(final, "old")
    recover_folder(final)
    if os.path.lexists(final):
        os.replace(final, old)
    os.replace(new, final)
    if os.path.lexists(old):
        delete_model(old, final)


def discard_folder(path: Path) -> None:
    """Delete a model's folder where it is there, whole at once; what it held besides a model is set aside."""
    if os.path.lexists(path):
        gone = beside(path, "gone")
        os.replace(path, gone)
        delete_model(gone, path)


def recover_folder(final: Path) -> None:
    """Bring back a model's folder that stepped aside in a `replace_folder` which was killed."""
    if os.path.lexists(final) or not (left := _stepped_aside(final)):
        return
    time.sleep(_SWAP_S)  # it may be alive, and between its two steps
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
    """Delete a model's files and their folder, which was `final`; what else it holds is set aside beside that."""
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
    """Give a file or folder a name that nothing has yet: this one, and a number."""
    for number in count(1):
        aside = path.with_name(f"{name}_{number}")
        if not os.path.lexists(aside):
            os.replace(path, aside)
            return aside
    raise AssertionError


def _flush(path: Path) -> None:
    """Have a file on the disk, before its name stands for it: a network file system may find out only now that the
    disk is full, and after a power cut the name must not stand for less."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
