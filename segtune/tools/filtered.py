"""Keep some tiles of a data set: by their pixels, by list, by folder; all files of a tile go together."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segtune.data.exclusion import add_to_list
from segtune.data.findings import in_parallel
from segtune.data.listing import SUFFIXES, changes_reading, composed, list_folder
from segtune.data.mask_values import count_labels
from segtune.data.reading import read_tile
from segtune.data.tiles import Split, Tile
from segtune.errors import InputError, counted, first_mistakes
from segtune.files.atomic import replaced_file
from segtune.remarks import Say
from segtune.tools.conditions import Condition, ConditionError, TileFacts
from segtune.tools.placing import joined_tree, place_file
from segtune.tools.tile_files import WHOLE, all_names, files_by_tile, remarks

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """Which tiles are kept: those that meet all of these."""

    condition: Condition | None
    ignore: Sequence[int]  # labels that do not count as labelled
    only: Mapping[str, set[str]] | None  # tiles by split
    without: Mapping[str, set[str]] | None
    folders: Sequence[str]  # folders in which a tile must have a file


def kept_tiles(dataset: Path, splits: Mapping[str, Split], wanted: Wanted, progress: Progress) -> dict[str, list[str]]:
    """Return the names of the tiles to keep, by split.

    Tiles are read only where there is a condition. Raises InputError where a tile cannot be read, and where a split
    keeps none.
    """
    kept = {split: _by_name(dataset, split, tiles, wanted) for split, tiles in splits.items()}
    if wanted.condition:
        total, done, mistakes = sum(map(len, kept.values())), 0, list[str]()
        for split, tiles in splits.items():
            chosen = [tile for tile in tiles if tile.name in kept[split]]
            look = partial(_holds, condition=wanted.condition, ignore=wanted.ignore)
            for tile, looking in zip(chosen, in_parallel(chosen, look), strict=True):
                try:
                    if not looking.result():
                        kept[split].remove(tile.name)
                except ConditionError:  # the same line for one tile after another
                    raise
                except InputError as error:
                    mistakes += error.mistakes
                done += 1
                progress(done, total)
        if mistakes:
            raise InputError(first_mistakes(mistakes, dataset))
    if empty := [split for split in splits if not kept[split]]:
        some = next((split for split in splits if kept[split]), None)
        hint = f"; filter {dataset / some} alone takes one split" if some else ""
        raise InputError(f"{dataset / split}: no tile is kept of {len(splits[split])}{hint}" for split in empty)
    return {split: sorted(names) for split, names in kept.items()}


def _by_name(dataset: Path, split: str, tiles: Split, wanted: Wanted) -> set[str]:
    place = _root(dataset, split)
    names = set(tiles.names)
    if wanted.only is not None:
        names &= wanted.only[split]
    if wanted.without is not None:
        names -= wanted.without[split]
    for folder in wanted.folders:
        if not (place / folder).is_dir():
            raise InputError(f"--has: {place / folder}: no such folder")
        names &= files_by_tile(place / folder, all_names(tiles)).keys()
    return names


def _holds(tile: Tile, condition: Condition, ignore: Sequence[int]) -> bool:
    facts = _facts(tile, ignore)
    try:
        return condition(facts)
    except ConditionError as error:
        raise ConditionError(f"{mistake} in {tile.image}" for mistake in error.mistakes) from None


def _facts(tile: Tile, ignore: Sequence[int]) -> TileFacts:
    _, valid, mask = read_tile(tile)
    pixels = count_labels(mask)  # those without a label are not among them
    labelled = sum(number for label, number in pixels.items() if label not in ignore)
    height, width = mask.shape
    return TileFacts(pixels, width, height, float(np.mean(valid)), labelled / mask.size)


def files_to_place(
    dataset: Path, splits: Mapping[str, Split], kept: Mapping[str, Sequence[str]], target: Path
) -> list[tuple[Path, Path]]:
    """Return all files of tiles, each with its place in the new data set `target`.

    These are, in every folder of a split, the files that have the name of a tile, whatever their extension.
    Raises InputError where other tiles would stay in the data set.
    """
    files = list[tuple[Path, Path]]()
    for split, names in kept.items():
        root, known, own = _root(dataset, split), _names_beside(splits[split]), frozenset(names)
        for folder in list_folder(root).folders:
            by_tile = files_by_tile(root / folder, known)
            held = [file for name in by_tile.keys() & own for file in by_tile[name]]
            files += [(root / folder / file, Path(split) / folder / file) for file in sorted(held)]
    _check_all_replaced(target, {target / inside for _, inside in files})
    return files


def _root(dataset: Path, split: str) -> Path:
    """Return the folder that holds the folders of a split; the tiles of a list lie beside it."""
    return dataset / split if (dataset / split).is_dir() else dataset


def _names_beside(split: Split) -> frozenset[str]:
    """Return the names of all tiles in the folders of a split; those of other lists are among them."""
    images = list_folder(Path(split.folders[0])).files
    stems = (os.path.splitext(name) for name in images)
    return all_names(split) | {composed(stem) for stem, ending in stems if ending.lower() in SUFFIXES}


def write_data_set(files: Sequence[tuple[Path, Path]], target: Path, copy: bool, progress: Progress) -> int:
    """Link or copy files, as `files_to_place` returns them, into a new data set; return their number."""
    with joined_tree(target) as place:
        for done, (source, inside) in enumerate(files, start=1):
            place_file(source, place / inside, copy)
            progress(done, len(files))
    return len(files)


def _check_all_replaced(target: Path, new: set[Path]) -> None:
    """Raise InputError where a folder holds files of tiles that the new ones do not replace: both would be one set."""
    folders = {path.parent for path in new}
    names, stems = defaultdict[Path, set[str]](set), defaultdict[Path, set[str]](set)
    for path in new:
        names[path.parent].add(path.name)
        stems[path.parent].add(path.stem)
    there = [Path(folder, name) for folder, _, names in os.walk(target) for name in names if not name.startswith(".")]
    others = {path for path in there if path.parent in folders or path.suffix.lower() in SUFFIXES} - new
    others -= {path for path in others if changes_reading(path.name, names[path.parent], stems[path.parent])}
    if others:
        raise InputError(
            f"--to: {target} holds {counted(len(others), 'file')} of tiles that are not kept now, such as {min(others)}"
            f"; delete what an earlier filter wrote, or give another folder"
        )


def write_lists(dataset: Path, kept: Mapping[str, Sequence[str]], name: str) -> list[Path]:
    """Write the names of tiles into a list file of this name in the folder of each split; return the files."""
    paths = [dataset / split / name for split in kept]
    for path, names in zip(paths, kept.values(), strict=True):
        with replaced_file(path) as temporary:
            temporary.write_text("".join(f"{tile}\n" for tile in names), encoding="utf-8")
    return paths


def exclude(
    path: Path, dataset: Path, splits: Mapping[str, Split], kept: Mapping[str, Sequence[str]], rule: str
) -> str:
    """Add the tiles that are not kept to a list of those to leave out; return a line on it."""
    whole = dataset.resolve()  # a split itself has its name from its folder
    names = {split: split or whole.name for split in splits}
    dropped = {
        f"{names[split]}/{tile}": [f"filter {rule}"]
        for split, tiles in splits.items()
        for tile in sorted(set(tiles.names).difference(kept[split]))
    }
    return add_to_list(path, dataset.parent if WHOLE in splits else dataset, dropped)


def tell(dataset: Path, splits: Mapping[str, Split], kept: Mapping[str, Sequence[str]], say: Say) -> None:
    """Say how many tiles of each split are kept, and how many a file of the data set leaves out."""
    for line in remarks(splits):
        say(line)
    for split, tiles in splits.items():
        say(f"{dataset / split}: {len(kept[split])} of {counted(len(tiles), 'tile')} kept")
