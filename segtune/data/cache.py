"""Decoded tiles on a local disk: written once, mapped into memory by every process that trains on them.

    CACHE_DIR/segtune-tiles/     the only folder that segtune touches in CACHE_DIR
      segtune.json               marks the folder, and says in which format it is
      KEY/info.json              what a scan of a split found; KEY stands for the files and how they are read
      KEY/resize-512/            an entry: the split's tiles as one way of fitting keeps them
        segtune.json             marks the entry
        data.bin                 pixels, part after part: of each tile its sources, then its labels
        index.npy                (tiles, parts, 5): offset, height, width, bands and type of each part
        names.npy                the tiles' names

An entry is written under a temporary name, renamed when it is complete, and never changed again: what a process has
mapped stays readable, also when the entry is deleted to make room. Folders without the mark are never read, replaced or
deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from segtune.config import RunConfig
from segtune.data.cache_entry import ENTRY_MARK, EntryWriter, delete_entry, entry_bytes, is_whole, mark_used
from segtune.data.cache_folder import MARK, MODE, find_folder, is_marked, open_store
from segtune.data.fitting import Decoded
from segtune.files.atomic import write_text
from segtune.files.locks import locked_file
from segtune.remarks import Say, unheard

FORMAT = 7  # of the files and of the findings; another number changes all keys
_IN_USE_S = 3600.0  # an entry opened within this time is not deleted to make room
_RESERVE = 0.02  # share of the disk that stays free
_INFO = "info.json"
_UNFINISHED = ".*.*"  # an entry's name, and a random part


def _digest(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


class NoRoomError(Exception):
    """The cache has no room for what is asked."""


class Cache:
    """The folder with all entries of this user."""

    def __init__(self, folder: Path, store: Path, most_bytes: float) -> None:
        self.folder, self._store, self._most_bytes = folder, store, most_bytes

    @classmethod
    def of(cls, config: RunConfig, say: Say = unheard) -> Cache | None:
        """Open the cache that a run's settings ask for; None where they ask for none, or where none is possible.

        `say` gets a line where the cache lies elsewhere than usual, or cannot be used though the settings ask for it.
        """
        if config.cache_dir == "none" or not config.cache_gb:
            return None
        folder = find_folder(config.cache_dir, say)
        if not folder:
            return None
        try:
            store = open_store(folder)
        except OSError as error:
            say(f"no cache: writing decoded tiles failed ({error.strerror or error})")
            return None
        return cls(folder, store, config.cache_gb * 1e9)

    def info(self, key: str) -> dict[str, Any] | None:
        """Return what an earlier scan of these files found; None where none was completed."""
        try:
            known = json.loads((self._store / key / _INFO).read_text(encoding="utf-8"))
            content: dict[str, Any] = known["info"]
            return content if known["digest"] == _digest(content) else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing or damaged
            return None

    def put_info(self, key: str, content: dict[str, Any]) -> None:
        """Store what a scan of these files found, if the disk has room; otherwise the next run scans them again."""
        with suppress(OSError):
            (self._store / key).mkdir(mode=MODE, exist_ok=True)
            write_text(self._store / key / _INFO, json.dumps({"digest": _digest(content), "info": content}))

    def entry(self, key: str, kept: str) -> Path | None:
        """Return the folder of an entry and mark it as used now; None where it is missing or damaged."""
        path = self._store / key / kept
        if not is_marked(path, ENTRY_MARK):
            return None
        try:
            if not is_whole(path):
                delete_entry(path)
                return None
        except OSError:  # cannot be opened now, or by this user: that is no damage
            return None
        mark_used(path)
        return path

    def writer(self, key: str, kept: str) -> EntryWriter:
        """Return a writer for this entry."""
        return EntryWriter(self._store / key / kept)

    def make_room(self, needed: float) -> None:
        """Make room for so many bytes by deleting entries unused for longest; NoRoomError where that fails."""
        self._sweep()
        used, disk = self._entries(), shutil.disk_usage(self.folder)
        total = sum(size for _, size, _ in used)
        over, short = total + needed - self._most_bytes, needed - (disk.free - _RESERVE * disk.total)
        idle = [(size, path) for last, size, path in used if last < time.time() - _IN_USE_S]
        spare = sum(size for size, _ in idle)
        # Nothing is deleted where it would not be enough.
        if spare < over:
            limit, used_now = self._most_bytes / 1e9, (total - spare) / 1e9
            raise NoRoomError(f"cache_gb allows {limit:.3g} GB, and {used_now:.3g} GB are in use")
        if spare < short:
            raise NoRoomError("the disk is short")
        lacking = max(over, short)
        for size, path in idle:
            if lacking <= 0:
                break
            delete_entry(path)
            lacking -= size

    def free(self) -> int:
        """Return the free bytes of the disk."""
        return shutil.disk_usage(self.folder).free

    @contextmanager
    def building(self, key: str, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock for building the entries of a key; while another process holds it, call `wait` repeatedly."""
        with ExitStack() as stack:
            with suppress(OSError):  # a disk without room for a lock has none for an entry
                stack.enter_context(locked_file(self._lock(key), wait))
            for left in (self._store / key).glob(_UNFINISHED):
                delete_entry(left)
            yield

    def _lock(self, key: str) -> Path:
        return self._store / f"{key}.lock"

    def _sweep(self) -> None:
        """Delete unfinished entries that killed processes left, also those of data that has changed since."""

        def at_work() -> None:
            raise BlockingIOError

        for left in self._store.glob(f"*/{_UNFINISHED}"):
            if is_marked(left, ENTRY_MARK):
                with suppress(OSError), locked_file(self._lock(left.parent.name), at_work):
                    delete_entry(left)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """List time of last use, bytes and folder of every entry, the one unused for longest first."""
        found = []
        for entry in (mark.parent for mark in self._store.glob(f"*/*/{MARK}")):
            if not entry.name.startswith(".") and is_marked(entry, ENTRY_MARK):
                with suppress(FileNotFoundError):  # another process is deleting it
                    found.append((entry.stat().st_mtime, entry_bytes(entry), entry))
        return sorted(found)


class EntryWriters:
    """Writers of a split's entries, by their keys; all given up when the disk turns out to be full."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._writers: dict[str, EntryWriter] = {}

    @property
    def keys(self) -> list[str]:
        """The entries that are written; none after the disk turned out to be full."""
        return list(self._writers)

    def open(self, stack: ExitStack, cache: Cache, key: str, kept: Iterable[str]) -> None:
        """Open a writer for each of the entries; they end with the stack."""
        try:
            for name in kept:
                self._writers[name] = stack.enter_context(cache.writer(key, name))
        except OSError as error:
            self._give_up(error)

    def add(self, decoded: Mapping[str, Decoded]) -> None:
        """Write the next tile to each entry."""
        try:
            for name, writer in self._writers.items():
                writer.add(*decoded[name])
        except OSError as error:
            self._give_up(error)

    def publish(self, names: Sequence[str]) -> dict[str, Path]:
        """Give the entries their names; return the folder of each."""
        try:
            return {name: writer.publish(names) for name, writer in self._writers.items()}
        except OSError as error:
            self._give_up(error)
            return {}

    def _give_up(self, error: OSError) -> None:
        self._say(f"no cache: writing decoded tiles failed ({error.strerror or error})")
        for writer in self._writers.values():
            writer.abandon()
        self._writers = {}
