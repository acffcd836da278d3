"""One entry of the cache: a split's decoded tiles, written once and mapped into memory by every process."""

from __future__ import annotations

import errno
import os
import shutil
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from segtune.data.cache_folder import MARK, MODE, is_marked, marked_folder, to_disk

ENTRY_MARK = {"segtune": "decoded tiles", "format": 1}
_TYPES = ("uint8", "uint16", "int16", "float32", "int32", "int64")
_ALIGNMENT = 64  # bytes; parts begin where any type may
_DATA, _INDEX, _NAMES = "data.bin", "index.npy", "names.npy"


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
        """Return the name of a tile."""
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
        path.parent.mkdir(mode=MODE, exist_ok=True)
        self._temporary = marked_folder(path, ENTRY_MARK)
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
                to_disk(file)
        to_disk(self._data)
        self._data.close()
        try:
            os.rename(self._temporary, self._path)
        except OSError:
            _check_free(self._path)
            if not self._path.is_dir():  # otherwise another process was faster, with the same content
                raise
        return self._path

    def abandon(self) -> None:
        """Delete what was written, unless it was published."""
        with suppress(OSError):  # on a full disk, closing fails just as writing did
            self._data.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> EntryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


def _check_free(path: Path) -> None:
    """Raise OSError where something else lies in the place of an entry."""
    if os.path.lexists(path) and not is_marked(path, ENTRY_MARK):
        raise FileExistsError(errno.EEXIST, f"{path} is in the way and is not an entry of the cache; move it away")


def is_whole(path: Path) -> bool:
    """Return whether the files of an entry are complete by its index; OSError where they cannot be opened now."""
    try:
        rows, names = (np.load(path / name, mmap_mode="r") for name in (_INDEX, _NAMES))
        *_, (offset, height, width, _, kind) = rows[-1].tolist()
        size = offset + height * width * np.dtype(_TYPES[kind]).itemsize  # labels are the last part
        return len(names) == len(rows) and (path / _DATA).stat().st_size == size
    except (FileNotFoundError, ValueError, EOFError, IndexError, TypeError):  # what damaged files lead to
        return False


def entry_bytes(path: Path) -> int:
    """Return the size of an entry in bytes."""
    return sum((path / name).stat().st_size for name in (_DATA, _INDEX, _NAMES))


def delete_entry(folder: Path) -> None:
    """Delete the files of an entry, complete or not; a folder without the mark and all other files stay."""
    if is_marked(folder, ENTRY_MARK):
        for name in (_INDEX, _DATA, _NAMES, MARK):  # without the first one, it is not an entry any more
            with suppress(OSError):
                (folder / name).unlink()
        with suppress(OSError):
            folder.rmdir()


def mark_used(path: Path) -> None:
    """Note that an entry is in use, so that processes that need room do not delete it."""
    with suppress(OSError):  # it may belong to another user, or be gone, which opening it will show
        os.utime(path)
