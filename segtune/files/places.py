"""Folders of this machine that libraries need, found by trying: for sockets, and for what they keep."""

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
# What multiprocessing appends to the folder for temporary files: of the sockets over which loader processes hand
# their batches.
_LISTENER = "/pymp-xxxxxxxx/listener-xxxxxxxx"
# Where libraries keep what they download: a variable of theirs, and their folder's name in the user's cache.
_CACHES = {"HF_HOME": "huggingface", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}


def socket_folder(prefix: str, below: str) -> Path:
    """Make a folder of this user's alone in which a socket may lie as deep as `below`, a path such as Ray makes them.

    TMPDIR is taken where it can be; the name of a socket must not be longer than some hundred bytes, and a batch system
    may give more. InputError where no folder can be had.
    """
    tried = []
    for place in _temporary_folders():
        if not re.fullmatch(r"[\w./+@=-]+", place, re.ASCII):  # Ray makes a line of words from it
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
    """Have this process make its temporary files where a socket's name is not too long.

    Loader processes wait for ever for one that cannot be made.
    """
    usual = tempfile.gettempdir()
    if _no_socket(Path(usual), _LISTENER):
        folder = next((place for place in _temporary_folders() if not _no_socket(Path(place), _LISTENER)), usual)
        tempfile.tempdir = folder


def place_caches() -> None:
    """Give libraries another folder for their caches where the home folder cannot take them, before they are imported.

    A cache that is there stays, though it may be read-only: it may hold the weights that a run starts from.
    """
    if not os.path.isabs(os.path.expanduser("~")):  # a user whom the system does not know, as in containers
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
    """A folder of this user's alone: always the same, or a new one where somebody else has its name."""
    parent, name = Path(tempfile.gettempdir()), f"segtune-home-{os.getuid()}"
    folder = parent / name
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))


def abandoned(prefix: str) -> Iterator[Path]:
    """Folders of this user's that `socket_folder` made, now or earlier."""
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
