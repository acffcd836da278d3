"""The fast part of a check, before any tile is decoded: headers, sizes, places on the ground, and equal files."""

from __future__ import annotations

import hashlib
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from segtune.config import RunConfig
from segtune.data.diagnosis import Finding
from segtune.data.footprints import footprint_of
from segtune.data.leaks import Trace, find_leaks
from segtune.data.likeness import Likeness
from segtune.data.raster import opened
from segtune.data.reading import check_sizes
from segtune.data.threads import reading_threads
from segtune.data.tiles import Tile
from segtune.errors import InputError
from segtune.machine import available_cpus

_PART = 16_384  # bytes at the beginning, in the middle and at the end of a file that are compared first


def fast_findings(splits: Mapping[str, Sequence[Tile]], dealt: Collection[str] = ()) -> list[Finding]:
    """Find what the headers of all tiles tell: files that cannot be read, sizes that differ, and leaks between splits.

    Leaks are equal files and places that meet. The text of an error is that of the scan of the tiles, which would find
    it, too. What the splits `dealt` share is no leak: their tiles are dealt to folds together.
    """
    traces, names, errors, paths = list[Trace](), list[str](), list[Finding](), list[Path]()
    for split, tiles in splits.items():
        with reading_threads(available_cpus()) as pool:
            for tile, found in zip(tiles, pool.map(_header, tiles), strict=True):
                if isinstance(found, InputError):
                    named = (f"{split}/{tile.name}",)
                    do = "replace the file, or leave the tile out"
                    errors.append(Finding("error", "unreadable", found.mistakes[0], do, named, (), named))
                else:
                    traces.append(found)
                    names.append(split)
                    paths.append(tile.image)
    digests = _equal_files(paths, names)
    known = [Trace(t.name, digests.get(path), t.footprint) for t, path in zip(traces, paths, strict=True)]
    of_tile = {f"{split}/{trace.name}": split for split, trace in zip(names, traces, strict=True)}
    return errors + [found for found in find_leaks(known, names) if _across(found, of_tile, dealt)]


def shared_lines(findings: Iterable[Finding], sizes: Mapping[str, int]) -> list[str]:
    """Return a line for each kind of leaks: which splits share tiles, and how many of the later one's tiles.

    `sizes` has the number of tiles of each split.
    """
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.kind].append(finding)
    lines = []
    for found in kinds.values():
        heads = [found[0].what.partition(": ")[0], *(" and ".join(_splits(finding, sizes)) for finding in found[1:])]
        parts = []
        for head, finding in zip(heads, found, strict=True):
            other = _splits(finding, sizes)[1]
            later = len({tile for _, tile in finding.pairs})
            parts.append(f"{head}: {later} of the {sizes[other]} {other} tiles")
        lines.append(f"{', '.join(parts)}; scores {'may be' if found[0].kind == 'neighbours' else 'are'} too good")
    return lines


def check_command(config: RunConfig) -> str:
    """Return the command that shows all leaks of a run's data."""
    places = [("val_dir", config.val_dir), ("add_val_dirs", ", ".join(config.add_val_dirs))]
    given = [f"{name}={f'[{value}]' if name == 'add_val_dirs' else value}" for name, value in places if value]
    return shlex.join(["python", "-m", "segtune.tools", "check", config.dataset, *(["--set", *given] if given else [])])


def _splits(finding: Finding, known: Iterable[str]) -> tuple[str, str]:
    """Return the splits of a finding's pairs; names of both splits and tiles may have slashes."""
    longest_first = sorted(known, key=len, reverse=True)
    one, other = (next(name for name in longest_first if tile.startswith(f"{name}/")) for tile in finding.pairs[0])
    return one, other


def _across(finding: Finding, of_tile: Mapping[str, str], dealt: Collection[str]) -> bool:
    one, other = (of_tile[name] for name in finding.pairs[0])
    return one != other and not (one in dealt and other in dealt)


def _header(tile: Tile) -> Trace | InputError:
    """Read the headers of a tile's files; return its first mistake, as a scan does."""
    try:
        with opened(tile.image, "an image", place=True) as raster:
            size, trace = raster.size, Trace(tile.name, None, footprint_of(raster))
        for path, what in (*((channel, "an image") for channel in tile.channels), (tile.mask, "a mask")):
            with opened(path, what) as raster:
                bands = raster.bands - bool(raster.alpha)
                if path != tile.mask and bands != 1:
                    raise InputError(f"{path}: an extra channel has one band, but this has {bands}")
                check_sizes(tile.image, size, path, raster.size)
        return trace
    except InputError as error:
        return error


def _equal_files(paths: Iterable[Path], splits: Iterable[str]) -> dict[Path, Likeness]:
    """Return a digest of each file that may equal one of another split."""
    groups: dict[object, list[tuple[Path, str]]] = {None: list(zip(paths, splits, strict=True))}
    for key in (lambda path: path.stat().st_size, lambda path: _digest(path, False), lambda path: _digest(path, True)):
        groups = _parted(groups, key)
    return {
        path: Likeness(digest, 0, None)
        for digest, group in groups.items()
        for path, _ in group
        if isinstance(digest, bytes)
    }


def _parted(
    groups: Mapping[object, list[tuple[Path, str]]], key: Callable[[Path], object]
) -> dict[object, list[tuple[Path, str]]]:
    """Part groups of files by a property; keep the groups that hold files of several splits."""
    parts: dict[object, list[tuple[Path, str]]] = defaultdict(list)
    for group in groups.values():
        for path, split in group:
            try:
                parts[key(path)].append((path, split))
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return {value: group for value, group in parts.items() if len({split for _, split in group}) > 1}


def _digest(path: Path, whole: bool) -> bytes:
    with path.open("rb") as file:
        if whole:
            return hashlib.file_digest(file, "sha256").digest()
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        for start in (0, size // 2, max(0, size - _PART)):
            file.seek(start)
            digest.update(file.read(_PART))
        return digest.digest()
