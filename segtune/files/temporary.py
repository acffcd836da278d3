"""Temporary files and folders beside their final place; their names tell which process made them."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segtune.errors import InputError
from segtune.files.checks import open_own

# tmp: written beside its final place; old: moved aside for it; gone: about to be deleted.
# Names of earlier releases have no random part.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old|gone)-(?P<process>[0-9]+)(?P<random>-[0-9a-f]{8})?")
_LONGEST_PART = 200  # bytes of the final name that a temporary name repeats; file systems allow 255 in all
_WORK = "segtune.json"  # marks a temporary folder as segtune's, and names its process
_STALE_S = 86400.0  # age from which a temporary folder of another machine counts as abandoned


def beside(path: Path, kind: str) -> Path:
    """Return a new temporary path beside a path; later processes recognize it."""
    return path.with_name(f".{_part(path)}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _part(path: Path) -> str:
    return os.fsdecode(os.fsencode(path.name)[:_LONGEST_PART])


@contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `final`, in which that is prepared; delete it when the block ends.

    Temporary folders for `final` that killed processes left behind are deleted too, and so are parent folders that
    were created for it and stay empty.
    """
    made = [parent for parent in final.parents if not parent.exists()]
    work = beside(final, "tmp")
    work.mkdir(parents=True)
    try:
        (work / _WORK).write_text(json.dumps({"process": os.getpid(), "host": platform.node()}), encoding="utf-8")
        for left in list(final.parent.iterdir()):
            found = TEMPORARY.fullmatch(left.name)
            if found and found["name"] == _part(final) and _abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for parent in made:  # the innermost first
            if not any(parent.iterdir()):
                parent.rmdir()


@contextmanager
def joined_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder; move its files into the folder `final` when the block ends without an error."""
    with workplace(final) as work:
        files = work / "files"
        files.mkdir()
        yield files
        final.mkdir(exist_ok=True)
        for file in files.iterdir():
            os.replace(file, final / file.name)


def _abandoned(work: Path) -> bool:
    """Return whether a folder is a workplace whose process has ended."""
    try:
        with open_own(work / _WORK, os.O_RDONLY) as file:
            of = json.load(file)
            process, host = int(of["process"]), of["host"]
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return False  # not segtune's, or created at this moment
    return age > _STALE_S if host != platform.node() else not _alive(process)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True
