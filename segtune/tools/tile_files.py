"""The splits of a data set, and all files of its tiles: in every folder, with the files beside them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from segtune.data.exclusion import check_splits, exclusion_lines
from segtune.data.listing import composed, list_folder, read_list
from segtune.data.pairs import find_tiles
from segtune.data.splits import TEST
from segtune.data.tiles import TRAIN, VAL, Layout, Split
from segtune.errors import InputError, counted, first_few, with_all_mistakes

_POLYNOMIALS = ("_RPC.TXT", "_rpc.txt")
SPLITS = (TRAIN, VAL, TEST)
WHOLE = ""  # the name of the only split of a folder that is one itself


def find_splits(dataset: Path, layout: Layout) -> dict[str, Split]:
    """Return the splits of a data set by their names, or a folder that is a split itself by an empty name.

    Raises InputError where there is none, and with the mistakes of all splits.
    """
    if not dataset.is_dir():
        raise InputError(f"{dataset}: no such data set folder")
    if (dataset / layout.images_dir).is_dir():
        names = [WHOLE]
    else:
        names = [name for name in list_folder(dataset).folders if (dataset / name / layout.images_dir).is_dir()]
    if not names:
        raise InputError(
            f"{dataset}: holds no split: neither {layout.images_dir} nor a folder with {layout.images_dir}, such as "
            f"train/{layout.images_dir}; --images-dir names another folder"
        )
    if names != [WHOLE]:
        check_splits(dataset)
    return with_all_mistakes({name: dataset / name for name in names}, lambda _, place: find_tiles(place, layout))


def listed_splits(dataset: Path, layout: Layout) -> dict[str, Split]:
    """Return the splits that lists beside the tiles define, such as train.txt; none where a folder has no such lists.

    Raises InputError with the mistakes of all lists.
    """
    lists = [path for name in SPLITS if (path := dataset / f"{name}.txt").is_file()]
    if not lists or not (dataset / layout.images_dir).is_dir():
        return {}
    check_splits(dataset)
    if both := [path for path in lists if (dataset / path.stem).is_dir()]:
        folder = dataset / both[0].stem
        raise InputError(f"{both[0]}: lies beside {folder}, and both could define the tiles; remove one")
    return with_all_mistakes({path.stem: path for path in lists}, lambda _, place: find_tiles(place, layout))


def remarks(splits: Mapping[str, Split]) -> list[str]:
    """Return lines on files of the splits that are not read, and on tiles that a file of the data set leaves out."""
    unread = dict.fromkeys(line for tiles in splits.values() for line in tiles.unread)
    return [*(f"warning: {line}" for line in unread), *exclusion_lines(tiles.excluded for tiles in splits.values())]


def all_names(split: Split) -> frozenset[str]:
    """Return the names of a split's tiles, with those that a file of the data set leaves out."""
    return frozenset(split.names) | (split.excluded.names if split.excluded else frozenset())


def files_by_tile(folder: Path, names: Collection[str]) -> dict[str, list[str]]:
    """Return the files of a folder by the tiles that they belong to: NAME with any extensions, a.tif, a.tfw, a.tif.msk.

    `names` are those of all tiles of the split, as of `all_names`: a file of the tile a.b is none of the tile a.
    """
    names = frozenset(names)
    found: dict[str, list[str]] = {}
    for file in list_folder(folder).files:
        stem = next((file.removesuffix(end) for end in _POLYNOMIALS if file.endswith(end)), os.path.splitext(file)[0])
        while composed(stem) not in names and "." in stem:
            stem = stem.rpartition(".")[0]
        if (name := composed(stem)) in names:
            found.setdefault(name, []).append(file)
    return found


def listed_tiles(path: Path, flag: str, splits: dict[str, Split]) -> dict[str, set[str]]:
    """Return the tiles that a list names, by split.

    A line is a name with or without extension; ``train/`` before it means that split alone, and what stands after
    a blank and # is a comment. Raises InputError, naming the flag, for names that no split has.
    """
    tiles: dict[str, set[str]] = {split: set() for split in splits}
    known = {split: frozenset(found.names) for split, found in splits.items()}
    absent = []
    for line in read_list(path):
        name = PurePosixPath(composed(line.split(" #")[0].strip()))
        meant = [name.parts[-2]] if len(name.parts) > 1 and name.parts[-2] in splits else list(splits)
        held = [(split, spelt) for split in meant for spelt in (name.name, name.stem) if spelt in known[split]]
        for split, spelt in held:
            tiles[split].add(spelt)
        absent += [] if held else [str(name)]
    if absent:
        raise InputError(f"{flag}: {path}: {counted(len(absent), 'name')} of no tile: {first_few(absent)}")
    return tiles
