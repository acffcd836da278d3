"""The folder that holds the cache: where it lies, and the marks by which segtune knows its own folders."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from segtune.errors import InputError
from segtune.files.checks import open_own
from segtune.remarks import Say

_STORE = "segtune-tiles"
MARK = "segtune.json"
_STORE_MARK = {"segtune": "cache of decoded tiles", "format": 1}
MODE = 0o775  # of folders, before the umask: other users must not be able to change pixels
_MOST_NAMES = 100  # tried for a folder that is closed to other users


def marked_folder(path: Path, mark: dict[str, Any]) -> Path:
    """Make a folder with a mark beside a path, under a new temporary name; return it."""
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    folder.mkdir(mode=MODE)
    try:
        with (folder / MARK).open("xb") as file:
            file.write(json.dumps(mark).encode())
            to_disk(file)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def is_marked(folder: Path, mark: dict[str, Any]) -> bool:
    """Return whether a folder holds this mark; a link to a folder does not count."""
    if folder.is_symlink():
        return False
    try:
        with open_own(folder / MARK, os.O_RDONLY) as file:
            return bool(json.load(file) == mark)
    except (InputError, OSError, ValueError, RecursionError):
        return False


def to_disk(file: IO[bytes]) -> None:
    # After a power cut, the name must stand for the whole content.
    file.flush()
    os.fsync(file.fileno())


def find_folder(cache_dir: str | None, say: Say) -> Path | None:
    """Return the folder that settings or environment name, or else a private one; None where none is possible."""
    given = cache_dir or os.environ.get("SEGTUNE_CACHE_DIR")
    return _given_folder(Path(given).absolute()) if given else _private_folder(say)


def _places() -> Iterator[Path]:
    """Return the places where a default folder may lie, the best one first.

    The home folder is often on a network file system, and /tmp is in memory on some machines: neither comes first.
    """
    places = (os.environ.get("SLURM_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", tempfile.gettempdir())
    return (Path(place).absolute() for place in places if place and os.access(place, os.W_OK))


def _own_name(number: int = 1) -> str:
    return f"segtune-cache-{os.getuid()}" + (f"-{number}" if number > 1 else "")


def _given_folder(folder: Path) -> Path:
    """Make the folder that the user named; InputError where that fails or it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cache_dir: {folder} cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cache_dir: {folder} cannot be written to; name another folder, or none for no cache")
    return folder


def _private_folder(say: Say) -> Path | None:
    """Find or make a folder that is closed to other users; None where no place allows it."""
    for place in _places():
        for number in range(1, _MOST_NAMES):
            path = place / _own_name(number)
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                made = False
            except OSError:
                break
            else:
                made = True
            if _private(path):
                if number > 1:
                    taken = place / _own_name()
                    say(f"{taken} is not closed to other users, who could change pixels in it; using {path} instead")
                return path
            if made:  # a file system without permissions
                path.rmdir()
                break
    say("no cache: found no folder for decoded tiles that is closed to other users; name one with cache_dir")
    return None


def _private(path: Path) -> bool:
    """Return whether this is a folder, not a link, that belongs to this user and is closed to all others."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def open_store(folder: Path) -> Path:
    """Open or make the cache's own folder inside this one; InputError where other users could change it."""
    store = folder / _STORE
    if not os.path.lexists(store):
        new = marked_folder(store, _STORE_MARK)
        try:
            os.rename(new, store)
        except OSError:  # another process was faster
            shutil.rmtree(new, ignore_errors=True)
    if not is_marked(store, _STORE_MARK):
        raise InputError(f"cache_dir: {store} is not a cache that segtune made; name another folder, or move it away")
    found = store.stat()
    others = found.st_uid not in (os.geteuid(), 0) and folder.stat().st_mode & stat.S_IWOTH
    if others or found.st_mode & stat.S_IWOTH:
        raise InputError(f"cache_dir: other users could change pixels in {store}; name another folder")
    return store
