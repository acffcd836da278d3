"""Folders of this machine that libraries need: for sockets and for caches."""

from __future__ import annotations

import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from segtune.errors import InputError, one_line

_TMPDIRS = ("RAY_TMPDIR", "TMPDIR", "TEMP", "TMP")
_COMMON = ("/tmp", "/var/tmp", "/dev/shm")
# The path of a socket over which loader processes pass batches, below the folder for temporary files.
_LISTENER = "/pymp-xxxxxxxx/listener-xxxxxxxx"
# Caches of libraries: the environment variable, and the name of the folder in the user's cache.
_CACHES = {"HF_HOME": "huggingface", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}


def socket_folder(prefix: str, below: str) -> Path:
    """Create a folder that only this user can enter, in which a socket may have the relative path `below`.

    TMPDIR is preferred. The path of a socket may have about a hundred bytes, and the TMPDIR of a batch system can be
    longer. Raises InputError where no folder is suitable.
    """
    tried = []
    for place in _temporary_folders():
        if not re.fullmatch(r"[\w./+@=-]+", place, re.ASCII):  # Ray splits its command line at spaces
            tried.append(f"{place} (spaces or special characters)")
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        except OSError as error:
            tried.append(f"{place} ({one_line(error.strerror)})")
            continue
        if problem := _no_socket(folder, below):
            tried.append(f"{place} ({problem})")
            folder.rmdir()
        else:
            return folder
    raise InputError(f"TMPDIR: found no folder for sockets; tried {', '.join(tried)}; it must be short and writable")


def shorten_sockets() -> None:
    """Let this process create temporary files where the path of a socket is short enough.

    Loader processes would wait forever for a socket that cannot be created.
    """
    usual = tempfile.gettempdir()
    if _no_socket(Path(usual), _LISTENER):
        folder = next((place for place in _temporary_folders() if not _no_socket(Path(place), _LISTENER)), usual)
        tempfile.tempdir = folder


def place_caches() -> None:
    """Give libraries another folder for their caches where the home folder is not writable; call it before imports.

    An existing cache stays in use even if it is read-only, since it may hold pretrained weights.
    """
    if not os.path.isabs(os.path.expanduser("~")):  # a user without an entry in /etc/passwd, as in containers
        os.environ["HOME"] = str(_own_folder())
    usual = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    missing = {variable: name for variable, name in _CACHES.items() if not (usual / name).is_dir()}
    if missing and not _can_be_made(usual):
        other = _own_folder()
        for variable, name in missing.items():
            os.environ.setdefault(variable, str(other / name))


def _can_be_made(folder: Path) -> bool:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError:
        return False
    return True


def _own_folder() -> Path:
    """Return a folder that only this user can enter: the same each time, or a new one if another user owns it."""
    parent, name = Path(tempfile.gettempdir()), f"segtune-home-{os.getuid()}"
    folder = parent / name
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))


def abandoned(prefix: str) -> Iterator[Path]:
    """Yield the folders of this user that `socket_folder` created, now or earlier."""
    for place in _temporary_folders():
        for folder in Path(place).glob(f"{prefix}????????"):
            with suppress(OSError):
                if not folder.is_symlink() and folder.is_dir() and folder.stat().st_uid == os.getuid():
                    yield folder


def _temporary_folders() -> list[str]:
    given = [os.path.abspath(place) for place in map(os.environ.get, _TMPDIRS) if place]
    return list(dict.fromkeys([*given, *_COMMON]))


def _no_socket(folder: Path, below: str) -> str | None:
    """Return why a socket with so long a name cannot be made; None where it can."""
    path = f"{folder}/{str(os.getpid()).ljust(len(below) - 1, 's')}"
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.bind(path)
        except OSError as error:
            return one_line(error.strerror or error)
    os.unlink(path)
    return None
