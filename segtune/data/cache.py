"""Decoded tiles on a local disk: written once, mapped into memory by every process that trains on them.

    CACHE_DIR/segtune-tiles/     ours, whatever else lies in CACHE_DIR
      segtune.json               marks the folder, and says in which format it is
      KEY/info.json              what reading a split's files showed; KEY stands for the files and how they are read
      KEY/resize-512/            an entry: the split's tiles as one way of fitting keeps them
        segtune.json             marks the entry
        data.bin                 pixels, part after part: of each tile its sources, then its labels
        index.npy                (tiles, parts, 5): offset, height, width, bands and type of each part
        names.npy                the tiles' names

An entry is written under another name, renamed when it is whole, and never changed again: what a process has mapped
stays as it is, also when the entry is deleted to make room. Nothing is read, replaced or deleted that has no mark.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.checks import open_own
from segtune.files.locks import locked_file

FORMAT = 7  # of the files, and of what is read from the tiles; another number makes other keys
_STORE = "segtune-tiles"
_MARK = "segtune.json"
_STORE_MARK, _ENTRY_MARK = ({"segtune": what, "format": 1} for what in ("cache of decoded tiles", "decoded tiles"))
_MODE = 0o775  # of folders, less the umask: nobody at all may put other pixels into them
_MOST_NAMES = 100  # tried for a default folder that is ours alone
_TYPES = ("uint8", "uint16", "int16", "float32", "int32", "int64")
_ALIGNMENT = 64  # bytes; parts begin where any type may
_IN_USE_S = 3600.0  # an entry opened within this time is not deleted to make room
_RESERVE = 0.02  # share of the disk that stays free
_INFO, _DATA, _INDEX, _NAMES = "info.json", "data.bin", "index.npy", "names.npy"
_UNFINISHED = ".*.*"  # an entry's name, and a random part

Say = Callable[[str], None]


class Entry:
    """A split's decoded tiles, opened lazily in each process: pickled or forked, it maps the files anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bytes_]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map would copy all its bytes.
        return {"path": self.path, "_open": None}

    def __len__(self) -> int:
        return len(self._mapped()[1])

    def name(self, index: int) -> str:
        """A tile's name."""
        return bytes(self._mapped()[2][index]).decode()

    def part(self, index: int, part: int) -> npt.NDArray[Any]:
        """Return a source, (h, w, bands), or, as the last part, the labels, (h, w); read-only."""
        data, rows, _ = self._mapped()
        offset, height, width, bands, kind = (int(value) for value in rows[index, part])
        dtype = np.dtype(_TYPES[kind])
        size = height * width * max(bands, 1) * dtype.itemsize
        shape = (height, width, bands) if bands else (height, width)
        return data[offset : offset + size].view(dtype).reshape(shape)

    def _mapped(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bytes_]]:
        if self._open is None:
            # Plain arrays over the maps: numpy's memmap class costs more than the reading.
            data = np.asarray(np.memmap(self.path / _DATA, np.uint8, "r"))
            rows = np.asarray(np.load(self.path / _INDEX, mmap_mode="r"))
            names = np.asarray(np.load(self.path / _NAMES, mmap_mode="r"))
            self._open = data, rows, names
        return self._open


class EntryWriter:
    """Writes one entry; it appears under its name when `publish` returns, or not at all."""

    def __init__(self, path: Path) -> None:
        _check_free(path)
        self._path = path
        path.parent.mkdir(mode=_MODE, exist_ok=True)
        self._temporary = _marked_folder(path, _ENTRY_MARK)
        self._data: IO[bytes] = (self._temporary / _DATA).open("xb")
        self._offset = 0
        self._rows, self._tiles = array("q"), 0

    def add(self, sources: Sequence[npt.NDArray[Any]], mask: npt.NDArray[np.integer]) -> None:
        """Write the next tile."""
        for part in (*sources, mask):
            gap = -self._offset % _ALIGNMENT
            self._data.write(bytes(gap))
            self._data.write(np.ascontiguousarray(part).data)
            bands = part.shape[2] if part.ndim == 3 else 0
            self._rows.extend((self._offset + gap, *part.shape[:2], bands, _TYPES.index(part.dtype.name)))
            self._offset += gap + part.nbytes
        self._tiles += 1

    def publish(self, names: Sequence[str]) -> Path:
        """Finish the files and give the entry its name."""
        index = np.frombuffer(self._rows, np.int64).reshape(self._tiles, -1, 5)
        for place, content in ((_INDEX, index), (_NAMES, np.array([name.encode() for name in names]))):
            with (self._temporary / place).open("xb") as file:
                np.save(file, content)
                _to_disk(file)
        _to_disk(self._data)
        self._data.close()
        try:
            os.rename(self._temporary, self._path)
        except OSError:
            _check_free(self._path)
            if not self._path.is_dir():  # else another process was faster, with the same content
                raise
        return self._path

    def abandon(self) -> None:
        """Delete what was written, unless it was published."""
        with suppress(OSError):  # on a full disk, closing fails as the writing before it did
            self._data.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> EntryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


def _marked_folder(path: Path, mark: dict[str, Any]) -> Path:
    """Make a folder beside a path, under a name that nothing has, with a mark in it."""
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    folder.mkdir(mode=_MODE)
    try:
        with (folder / _MARK).open("xb") as file:
            file.write(json.dumps(mark).encode())
            _to_disk(file)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _is_marked(folder: Path, mark: dict[str, Any]) -> bool:
    """Whether a folder is ours: a folder itself, and no link to one, with our mark in it."""
    if folder.is_symlink():
        return False
    try:
        with open_own(folder / _MARK, os.O_RDONLY) as file:
            return bool(json.load(file) == mark)
    except (InputError, OSError, ValueError, RecursionError):
        return False


def _check_free(path: Path) -> None:
    """OSError where something that is no entry has an entry's name."""
    if os.path.lexists(path) and not _is_marked(path, _ENTRY_MARK):
        raise FileExistsError(errno.EEXIST, f"{path} is in the way, and is no entry of the cache; move it away")


def _delete_entry(folder: Path) -> None:
    """Delete an entry, or what there is of one; nothing that has not its mark, and nothing else in its folder."""
    if _is_marked(folder, _ENTRY_MARK):
        for name in (_INDEX, _DATA, _NAMES, _MARK):  # without the first one, it is no entry any more
            with suppress(OSError):
                (folder / name).unlink()
        with suppress(OSError):
            folder.rmdir()


def _digest(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _to_disk(file: IO[bytes]) -> None:
    # A name after a power cut must stand for all of the content.
    file.flush()
    os.fsync(file.fileno())


class Cache:
    """The folder with all entries of this user."""

    def __init__(self, folder: Path, store: Path, most_bytes: float) -> None:
        self.folder, self._store, self._most_bytes = folder, store, most_bytes

    @classmethod
    def of(cls, config: RunConfig, say: Say | None = None) -> Cache | None:
        """The cache that a run's settings ask for; None where they ask for none, or where there can be none.

        `say` gets a line where it lies elsewhere than usual, or where there is none against the settings.
        """
        if config.cache_dir == "none" or not config.cache_gb:
            return None
        say = say or (lambda line: None)
        given = config.cache_dir or os.environ.get("SEGTUNE_CACHE_DIR")
        folder = _given_folder(Path(given).absolute()) if given else _private_folder(say)
        if not folder:
            return None
        try:
            store = _store(folder)
        except OSError as error:
            say(f"no cache: writing decoded tiles failed ({error.strerror or error})")
            return None
        return cls(folder, store, config.cache_gb * 1e9)

    def info(self, key: str) -> dict[str, Any] | None:
        """What reading these files showed before; None where they have not been read, or not to the end."""
        try:
            known = json.loads((self._store / key / _INFO).read_text(encoding="utf-8"))
            content: dict[str, Any] = known["info"]
            return content if known["digest"] == _digest(content) else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):  # none, or damaged
            return None

    def put_info(self, key: str, content: dict[str, Any]) -> None:
        """Keep what reading these files showed, where the disk has room for it; without it, they are read again."""
        with suppress(OSError):
            (self._store / key).mkdir(mode=_MODE, exist_ok=True)
            write_text(self._store / key / _INFO, json.dumps({"digest": _digest(content), "info": content}))

    def entry(self, key: str, kept: str) -> Path | None:
        """The folder of an entry that is there and whole, marked as used now."""
        path = self._store / key / kept
        if not _is_marked(path, _ENTRY_MARK):
            return None
        try:
            rows, names = (np.load(path / name, mmap_mode="r") for name in (_INDEX, _NAMES))
            *_, (offset, height, width, _, kind) = rows[-1].tolist()
            whole = offset + height * width * np.dtype(_TYPES[kind]).itemsize  # labels are the last part
            if len(names) != len(rows) or (path / _DATA).stat().st_size != whole:
                raise ValueError("cut short")
        except (FileNotFoundError, ValueError, EOFError, IndexError, TypeError):  # whatever a damaged file leads to
            _delete_entry(path)
            return None
        except OSError:  # not to be opened now, or by us: that is no damage
            return None
        mark_used(path)
        return path

    def writer(self, key: str, kept: str) -> EntryWriter:
        """A writer of this entry."""
        return EntryWriter(self._store / key / kept)

    def room(self, needed: float) -> str:
        """Make room for so many bytes, deleting entries unused longest; why there is none, or an empty string."""
        self._sweep()
        used, disk = self._entries(), shutil.disk_usage(self.folder)
        total = sum(size for _, size, _ in used)
        over, short = total + needed - self._most_bytes, needed - (disk.free - _RESERVE * disk.total)
        idle = [(size, path) for last, size, path in used if last < time.time() - _IN_USE_S]
        spare = sum(size for size, _ in idle)
        # Where there will not be room all the same, nothing is deleted.
        if spare < over:
            return f"cache_gb allows {self._most_bytes / 1e9:.3g} GB, and {(total - spare) / 1e9:.3g} GB are in use"
        if spare < short:
            return "the disk is short"
        lacking = max(over, short)
        for size, path in idle:
            if lacking <= 0:
                break
            _delete_entry(path)
            lacking -= size
        return ""

    def free(self) -> int:
        """Free bytes of the disk."""
        return shutil.disk_usage(self.folder).free

    @contextmanager
    def building(self, key: str, wait: Callable[[], None]) -> Iterator[None]:
        """Have the right to build what belongs to a key; while another process has it, `wait` is called repeatedly."""
        with ExitStack() as stack:
            with suppress(OSError):  # a disk without room for a lock will have none for an entry
                stack.enter_context(locked_file(self._lock(key), wait))
            for left in (self._store / key).glob(_UNFINISHED):
                _delete_entry(left)
            yield

    def _lock(self, key: str) -> Path:
        return self._store / f"{key}.lock"

    def _sweep(self) -> None:
        """Delete what builders that were killed left, also for files that have changed since."""

        def at_work() -> None:
            raise BlockingIOError

        for left in self._store.glob(f"*/{_UNFINISHED}"):
            if _is_marked(left, _ENTRY_MARK):
                with suppress(OSError), locked_file(self._lock(left.parent.name), at_work):
                    _delete_entry(left)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """Time of last use, bytes and folder of every entry, the one unused longest first."""
        found = []
        for entry in (mark.parent for mark in self._store.glob(f"*/*/{_MARK}")):
            if not entry.name.startswith(".") and _is_marked(entry, _ENTRY_MARK):
                with suppress(FileNotFoundError):  # another process deletes it at this moment
                    size = sum((entry / name).stat().st_size for name in (_DATA, _INDEX, _NAMES))
                    found.append((entry.stat().st_mtime, size, entry))
        return sorted(found)


def mark_used(path: Path) -> None:
    """Note that an entry is in use, so that others that need room do not delete it."""
    with suppress(OSError):  # it may belong to somebody else, or be gone, which whoever opens it finds out
        os.utime(path)


def default_folder() -> Path:
    """$SEGTUNE_CACHE_DIR, or a folder of this user's on a disk of this machine."""
    given = os.environ.get("SEGTUNE_CACHE_DIR")
    return Path(given) if given else next(_places()) / _own_name()


def _places() -> Iterator[Path]:
    """Where a default folder may lie, the best place first.

    Not the home folder, which is on a network where there are many machines, and not /tmp, which is memory on some.
    """
    places = (os.environ.get("SLURM_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", tempfile.gettempdir())
    return (Path(place).absolute() for place in places if place and os.access(place, os.W_OK))


def _own_name(number: int = 1) -> str:
    return f"segtune-cache-{os.getuid()}" + (f"-{number}" if number > 1 else "")


def _given_folder(folder: Path) -> Path:
    """A folder that the user named; InputError where it cannot be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cache_dir: {folder} cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cache_dir: {folder} cannot be written to; name another folder, or none for no cache")
    return folder


def _private_folder(say: Say) -> Path | None:
    """The default folder: a name that is ours alone, where all users may make folders; None where there is none."""
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
            if made:  # a file system without modes
                path.rmdir()
                break
    say("no cache: found no folder for decoded tiles that is closed to other users; name one with cache_dir")
    return None


def _private(path: Path) -> bool:
    """Whether this is a folder, and no link, that belongs to us and is closed to all others."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _store(folder: Path) -> Path:
    """The folder in it that is ours, made where there is none; InputError where it is not to be trusted."""
    store = folder / _STORE
    if not os.path.lexists(store):
        new = _marked_folder(store, _STORE_MARK)
        try:
            os.rename(new, store)
        except OSError:  # another process was faster
            shutil.rmtree(new, ignore_errors=True)
    if not _is_marked(store, _STORE_MARK):
        raise InputError(f"cache_dir: {store} is not a cache as segtune makes it; name another folder, or move it away")
    found = store.stat()
    others = found.st_uid not in (os.geteuid(), 0) and folder.stat().st_mode & stat.S_IWOTH
    if others or found.st_mode & stat.S_IWOTH:
        raise InputError(f"cache_dir: other users could change pixels in {store}; name another folder")
    return store
