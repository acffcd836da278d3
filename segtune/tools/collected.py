"""Find the files of a channel that arrived later, and put them beside the tiles of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtune.data.alignment import compare, read_georeference
from segtune.data.findings import in_parallel
from segtune.data.listing import SUFFIXES, composed
from segtune.data.reading import read_header
from segtune.data.tiles import Split, Tile
from segtune.errors import InputError, counted, first_few, first_mistakes
from segtune.tools.placing import joined_tree, place_file, sidecars

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Found:
    """The files that were found for one split, and its tiles that have none."""

    split: str
    files: Mapping[str, Path]  # by the names of tiles
    missing: tuple[str, ...]


def find_files(dataset: Path, splits: Mapping[str, Split], places: Sequence[Path]) -> list[Found]:
    """Find the file of each tile in other folders and below them, by its name.

    Where such a folder has a folder of the split's name, only that is searched. Raises InputError where a tile has
    several files, and where no tile of the data set has one.
    """
    found, mistakes = [], list[str]()
    for split, tiles in splits.items():
        roots = [place / split if split and (place / split).is_dir() else place for place in places]
        names = frozenset(tiles.names)
        files: dict[str, Path] = {}
        twice = []
        for path in _images_below(roots):
            name = composed(path.stem)
            if name in names and name in files:
                twice.append(f"{files[name]} and {path}")
            files |= {name: path} if name in names else {}
        if twice:
            mistakes.append(f"{dataset / split}: several files for one tile: {first_few(twice, 2)}")
        found.append(Found(split, files, tuple(name for name in tiles.names if name not in files)))
    mistakes += _shared(found)
    if mistakes:
        raise InputError(mistakes)
    if not any(part.files for part in found):
        raise InputError(f"--from: no file in {first_few(map(str, places))} has the name of a tile of {dataset}")
    return found


def _shared(found: Iterable[Found]) -> list[str]:
    """Return a line for splits whose tiles, of the same names, would get the same files: one of them would be wrong."""
    splits: dict[Path, list[str]] = {}
    for part in found:
        for path in part.files.values():
            splits.setdefault(path, []).append(part.split)
    shared = [path for path, names in splits.items() if len(names) > 1]
    if not shared:
        return []
    both = " and ".join(splits[shared[0]])
    return [
        f"--from: {both} have tiles of the same names, and {shared[0]} would serve both; sort the files into folders "
        f"of the splits' names"
    ]


def _images_below(roots: Iterable[Path]) -> Iterable[Path]:
    """Yield the image files in folders and below them, without hidden ones."""
    for root in roots:
        for folder, below, names in os.walk(root):
            below[:] = sorted(name for name in below if name[0] != ".")
            for name in sorted(names):
                if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                    yield Path(folder, name)


def missing_lines(dataset: Path, found: Iterable[Found]) -> list[str]:
    """Return a line for each split with tiles that have no file."""
    lines = []
    for part in found:
        number, total = len(part.missing), counted(len(part.files) + len(part.missing), "tile")
        have = "has" if number == 1 else "have"
        lines += [f"{dataset / part.split}: {number} of {total} {have} no file: {first_few(part.missing)}"] * (
            number > 0
        )
    return lines


def check_fits(splits: Mapping[str, Split], found: Sequence[Found], progress: Progress) -> None:
    """Raise InputError where a file has another size than its tile's image, or lies elsewhere on the ground."""
    total, done, mistakes = sum(len(part.files) for part in found), 0, list[str]()
    for part in found:
        pairs = [
            Tile(tile.name, tile.image, part.files[tile.name], ())
            for tile in splits[part.split]
            if tile.name in part.files
        ]
        for looking in in_parallel(pairs, _check_fit):
            try:
                looking.result()
            except InputError as error:
                mistakes += error.mistakes
            done += 1
            progress(done, total)
    if mistakes:
        raise InputError(first_mistakes(mistakes, "--from"))


def _check_fit(pair: Tile) -> None:
    """Raise InputError where a file, in the place of the mask, does not fit to the image."""
    image, other = read_header(pair.image), read_header(pair.mask)
    if (image.height, image.width) != (other.height, other.width):
        sizes = f"{other.width}x{other.height} and {image.width}x{image.height}"
        raise InputError(f"{pair.mask}: its size differs from that of {pair.image} ({sizes})")
    compare(pair.image, read_georeference(pair.image), {pair.mask: read_georeference(pair.mask)})


def write_files(dataset: Path, name: str, found: Sequence[Found], copy: bool, progress: Progress) -> int:
    """Link or copy the files into the folder of this name in each split.

    Files beside them that change what is read come along. Returns the number of tiles that got a file.
    """
    total, done = sum(len(part.files) for part in found), 0
    with joined_tree(dataset) as place:
        for part in found:
            by_folder: dict[Path, list[str]] = {}
            for path in part.files.values():
                by_folder.setdefault(path.parent, []).append(path.name)
            for folder, names in by_folder.items():
                for beside in sidecars(folder, names):
                    place_file(folder / beside, place / part.split / name / beside, copy)
                for file in names:
                    place_file(folder / file, place / part.split / name / file, copy)
                    done += 1
                    progress(done, total)
    return done
