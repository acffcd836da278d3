"""Checks of files and folders before they are used: names, types, permissions, sizes."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from segtune.errors import InputError, one_line

_LONGEST_NAME = 255  # bytes


def check_length(name: str, flag: str) -> None:
    """Raise InputError, naming the flag, where a name is too long for a folder."""
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise InputError(f"{flag}: the name is too long for a folder; it may have {_LONGEST_NAME} bytes")


def open_own(path: Path, flags: int) -> TextIO:
    """Open a file that segtune wrote, with the flags of `os.open`; raise InputError where something else lies there.

    A folder that came from elsewhere may hold a link in its place, which could lead to any file of the user, or a
    pipe, which would block.
    """
    try:
        number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: is a link, which is not followed; delete it") from None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise InputError(f"{path}: is no regular file; delete it")
    return os.fdopen(number, "r+" if flags & os.O_RDWR else "r", encoding="utf-8", errors="replace")


def check_writable(folder: Path, setting: str) -> None:
    """Raise InputError, naming the setting, where a folder cannot be created or written to.

    The check writes a temporary file, since permissions do not tell what a file system allows.
    """
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if there.is_symlink() and not there.exists():
            raise InputError(f"{setting}: {folder}: {there} is a link to nothing")
        if not there.is_dir():
            raise InputError(f"{setting}: {folder}: {there} is a file, not a folder")
        folder.absolute().exists()  # raises OSError for a name that is too long
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise InputError(f"{setting}: {folder}: cannot be written to ({one_line(error.strerror)})") from None


def read_own_json(file: Path, key: str, setting: str) -> dict[str, Any] | None:
    """Return the JSON object of a file that is about to be replaced; None where there is no such file.

    Raises InputError, naming the setting, where the file holds something else than an object with this key.
    """
    if not os.path.lexists(file):
        return None
    try:
        with open_own(file, os.O_RDONLY) as opened:
            content = json.load(opened)
    except (InputError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"{setting}: {file} exists, and is not a file that this command writes; give another path")
    return content


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes; files that vanish meanwhile do not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
