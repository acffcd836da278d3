"""The file of a data set that lists tiles to leave out: DATASET/exclude.txt."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segtune.data.listing import composed
from segtune.errors import InputError, counted, first_few, printable
from segtune.files.atomic import write_text

FILE = "exclude.txt"
_REASON = " # "  # before why a tile is left out


@dataclass(frozen=True)
class Excluded:
    """The tiles of one split that a file leaves out."""

    path: Path
    names: frozenset[str]  # composed (NFC)


def excluded_from(place: Path) -> Excluded | None:
    """Read which tiles of a split, a folder or list file, the file beside it leaves out; None where it names none.

    Raises InputError where the file cannot be read or a line does not name a tile.
    """
    split = place if place.name not in ("", "..") else Path(os.path.abspath(place))
    path = split.parent / FILE
    if not path.is_file():
        return None
    tiles = read_exclusion(path).get(split.stem if place.is_file() else split.name)
    return Excluded(path, frozenset(tiles)) if tiles else None


def read_exclusion(path: Path) -> dict[str, dict[str, str]]:
    """Read the tiles that a file leaves out: why, by name, by split. The reason may be empty.

    Raises InputError where it cannot be read or a line does not name a tile.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of tiles ({error})") from None
    found: dict[str, dict[str, str]] = {}
    mistakes = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        # The last mark: a name may hold one, a reason does not.
        tile, _, reason = text.rpartition(_REASON) if _REASON in text else (text, "", "")
        split, slash, name = tile.strip().partition("/")
        if not (slash and split and name) or "/" in name:
            mistakes.append(f"{path}:{number}: {text!r} is not SPLIT/NAME, such as train/tile_12")
            continue
        found.setdefault(split, {})[composed(name)] = reason.strip()
    if mistakes:
        raise InputError(mistakes)
    return found


def exclusion_text(reasons: Mapping[str, Iterable[str]]) -> str:
    """Return the content of a file that leaves out these tiles, named SPLIT/NAME, with why."""
    head = "# Tiles that segtune leaves out, one a line: SPLIT/NAME # reason. Delete a line to use its tile again.\n"
    rows = (
        f"{tile}{_REASON}{printable('; '.join(dict.fromkeys(why))).replace(_REASON, ' ')}\n"
        for tile, why in sorted(reasons.items())
    )
    return head + "".join(rows)


def add_to_list(path: Path, dataset: Path, reasons: Mapping[str, Iterable[str]]) -> str:
    """Add tiles, named SPLIT/NAME, to a list of those to leave out, with why; return a line on it.

    Lines that are there stay. Raises InputError where the file is no such list.
    """
    known = read_exclusion(path) if path.exists() else {}
    listed = {f"{split}/{name}" for split, names in known.items() for name in names}
    new = {tile: why for tile, why in reasons.items() if tile not in listed}
    if not new:
        return f"{path}: no tile to add"
    before = path.read_text(encoding="utf-8-sig").rstrip("\n") + "\n" if path.exists() else ""
    write_text(path, before + exclusion_text(new))
    own = path.resolve() == (dataset / FILE).resolve()
    use = "training leaves them out" if own else f"move it to {dataset / FILE} to leave them out"
    return f"{path}: {counted(len(new), 'tile')} added; look at the list: {use}"


def check_present(excluded: Excluded, place: Path, names: Iterable[str]) -> None:
    """Raise InputError where a file leaves out tiles that a split does not have: names may be misspelt."""
    absent = sorted(excluded.names.difference(names))
    if absent:
        are = "is" if len(absent) == 1 else "are"
        raise InputError(
            f"{excluded.path}: {len(absent)} of its tiles {are} not in {place}: {first_few(absent)}; correct or delete "
            f"these lines"
        )


def check_splits(dataset: Path) -> None:
    """Raise InputError where a data set's file names splits, folders or list files, that the data set does not have."""
    path = dataset / FILE
    listed = read_exclusion(path) if path.is_file() else {}
    there = {entry.name if entry.is_dir() else entry.stem for entry in dataset.iterdir()} if listed else set()
    lines = [f"{split}/{name}" for split in listed.keys() - there for name in listed[split]]
    if lines:
        are = "is" if len(lines) == 1 else "are"
        raise InputError(
            f"{path}: {len(lines)} of its tiles {are} in no split of {dataset}: {first_few(sorted(lines))}; correct or "
            f"delete these lines"
        )


def exclusion_lines(found: Iterable[Excluded | None]) -> list[str]:
    """Return a line per file that says how many tiles it leaves out: ``12 tiles are left out (data/exclude.txt)``."""
    numbers = Counter[Path]()
    for excluded in found:
        if excluded:
            numbers[excluded.path] += len(excluded.names)
    return [
        f"{counted(number, 'tile')} {'is' if number == 1 else 'are'} left out ({path})"
        for path, number in numbers.items()
    ]
