"""Tiles and splits as plain data: the files of each tile, and a digest of the files' state."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import overload

from segtune.config import RunConfig
from segtune.data.exclusion import Excluded
from segtune.data.listing import changes_reading, composed
from segtune.errors import InputError
from segtune.values import Alpha

TRAIN, VAL = "train", "val"
_STATS_AT_ONCE, _STATS_IN_TURN = 16, 2000  # network file systems answer slowly, but many requests at once


@dataclass(frozen=True)
class ReadSettings:
    """How the files of a tile are read."""

    nodata: float | None = None  # value for missing data in images and channels, besides the one that files declare
    alpha: Alpha = "auto"  # how to take the band that a file declares as alpha
    bands: int | None = None  # of an image; "auto" then takes alpha as a band where this number needs it
    order: tuple[int, ...] = ()  # the image's bands to take, numbered from 1; empty for all, as they lie


@dataclass(frozen=True)
class Tile:
    """The files of one tile."""

    name: str  # the file name without its extension, and without image_suffix; composed (NFC)
    image: Path
    mask: Path
    channels: tuple[Path, ...]


@dataclass(frozen=True)
class Layout:
    """How the files of a split lie in its folder."""

    images_dir: str = "images"
    masks_dir: str = "gt"
    image_suffix: str = ""  # composed (NFC)
    mask_suffix: str = ""
    channels: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: RunConfig, channels: Sequence[str]) -> Layout:
        """Return the layout that a run's settings describe, with these extra channels."""
        suffixes = composed(config.image_suffix), composed(config.mask_suffix)
        return cls(config.images_dir, config.masks_dir, *suffixes, tuple(channels))


@dataclass(frozen=True)
class Split(Sequence[Tile]):
    """The tiles of one split, sorted by name; plain strings keep a hundred thousand tiles cheap."""

    folders: tuple[str, ...]  # absolute: of the images, the masks, and each extra channel
    names: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]  # for each folder, the name of each tile's file in it
    left_out: int = 0  # tiles of the split that are not in this selection
    unread: tuple[str, ...] = ()  # a line per folder with files that are not read
    excluded: Excluded | None = None  # tiles that a file leaves out
    parts: tuple[Split, ...] = ()  # the splits that it was joined from, in their order

    @classmethod
    def joined(cls, splits: Mapping[str, Split]) -> Split:
        """Return the tiles of several splits as those of one; names are ``split/name``, and files have whole paths."""
        names = tuple(f"{split}/{name}" for split, tiles in splits.items() for name in tiles.names)
        parts = tuple(splits.values())
        rows = zip(*(_whole_paths(part) for part in parts), strict=True)
        files = tuple(tuple(path for row in paths for path in row) for paths in rows)
        unread = tuple(line for part in parts for line in part.unread)
        return cls(parts[0].folders, names, files, sum(part.left_out for part in parts), unread, parts=parts)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Tile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...

    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        places = zip(self.folders, self.files, strict=True)
        image, mask, *channels = (Path(folder, files[index]) for folder, files in places)
        return Tile(self.names[index], image, mask, tuple(channels))

    def identity(self) -> str:
        """Return a digest of the files' folders, names, sizes and times of change.

        Files beside them that change what is read count too, such as the mask of a GeoTIFF. Raises InputError where a
        file has vanished since it was listed.
        """
        if self.parts:
            known = repr((self.names, [part.identity() for part in self.parts]))
            return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()
        text = "\0".join((repr((self.folders, len(self))), *self.names, *(name for row in self.files for name in row)))
        digest = hashlib.blake2b(text.encode(), digest_size=16)
        with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
            for folder, own in zip(self.folders, self.files, strict=True):
                beside = _beside(folder, own)
                digest.update("\0".join(beside).encode())
                files = (*own, *beside)
                starts = range(0, len(files), _STATS_IN_TURN)
                for part in pool.map(_state, repeat(folder), (files[i : i + _STATS_IN_TURN] for i in starts)):
                    digest.update(part)
        return digest.hexdigest()

    def only(self, number: int | None) -> Split:
        """Return at most so many of the tiles: always the same ones, as far as they remain in the split."""
        if number is None or number >= len(self):
            return self

        def draw(index: int) -> bytes:
            return hashlib.blake2b(self.names[index].encode(), digest_size=8).digest()

        kept = sorted(sorted(range(len(self)), key=draw)[:number])
        files = tuple(tuple(row[i] for i in kept) for row in self.files)
        left_out = self.left_out + len(self) - number
        return replace(self, names=tuple(self.names[i] for i in kept), files=files, left_out=left_out)


def _whole_paths(tiles: Split) -> list[list[str]]:
    """Return for each folder the paths of the tiles' files."""
    places = zip(tiles.folders, tiles.files, strict=True)
    return [[os.path.join(folder, file) for file in row] for folder, row in places]


def _beside(folder: str, files: Sequence[str]) -> list[str]:
    """List the files in a folder that change what is read from these files, sorted."""
    names, stems = set(files), {os.path.splitext(file)[0] for file in files}
    try:
        found = os.listdir(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(name for name in found if changes_reading(name, names, stems))


def _state(folder: str, files: Sequence[str]) -> array[int]:
    """Return sizes and times of change of files in a folder.

    The time of the last write is not enough: files from an archive may share one time, and uncompressed masks one size.
    """
    found = array("q")
    try:
        place = os.open(folder, os.O_RDONLY)  # resolves the folder once instead of for each name
        try:
            for file in files:
                state = os.stat(file, dir_fd=place)
                found.extend((state.st_size, state.st_mtime_ns, state.st_ctime_ns))
        finally:
            os.close(place)
    except OSError as error:
        raise InputError(f"{folder}/{error.filename}: cannot be read ({error.strerror})") from None
    return found
