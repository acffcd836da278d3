"""Where the splits of a data set lie: train, val and the added validation sets, and the tiles of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from segtune.config import DEMO, RunConfig
from segtune.data.exclusion import check_splits
from segtune.data.listing import SUFFIXES, read_list, shortest_ends
from segtune.data.pairs import find_tiles, split_folders
from segtune.data.tiles import TRAIN, VAL, Layout, Split
from segtune.errors import InputError, with_all_mistakes

Found = TypeVar("Found")
TEST = "test"
ADDED = "add_val/"  # before the names of added validation sets


def split_places(config: RunConfig) -> dict[str, Path]:
    """Return the folder or list file of train, val and each added validation set by name; they need not exist.

    Raises InputError where there is no telling.
    """
    places = {TRAIN: _own_split(config.dataset, TRAIN)}
    if not config.use_only_add_val:
        places[VAL] = Path(config.val_dir) if config.val_dir else _own_split(config.dataset, VAL)
    return places | _added(config.add_val_dirs)


def test_place(config: RunConfig) -> Path | None:
    """Return the folder or list file of the data set's test tiles; None where there are none."""
    place = _own_split(config.dataset, TEST)
    return place if place.exists() else None


def places_with_test(config: RunConfig) -> dict[str, Path]:
    """Return the places of `split_places`, and that of the test tiles if there are any."""
    test = test_place(config)
    return split_places(config) | ({TEST: test} if test else {})


def absolute_places(add_val_dirs: Sequence[str]) -> list[str]:
    """Return absolute paths of added validation sets; a file that names folders is replaced by these folders.

    InputError where such a file cannot be read.
    """
    found: list[str] = []
    for item in add_val_dirs:
        places = _places_of(item)
        if any(place.is_file() for place in places):
            places = [Path(item)]  # a list of tiles that stood for itself would be read as a list of folders
        found += [str(place.absolute()) for place in places]
    return found


def check_folders(config: RunConfig, channels: Sequence[str]) -> None:
    """Raise InputError where a folder is missing, with all other mistakes; otherwise tiles are not looked at."""
    layout = Layout.of(config, channels)
    try:
        _each_split(config, lambda name, place: split_folders(place, layout))
    except InputError:
        find_data_set(config, channels)
        raise


def find_data_set(config: RunConfig, channels: Sequence[str]) -> dict[str, Split]:
    """Find the tiles of train, val and the added validation sets; InputError with the mistakes of all of them."""
    layout = Layout.of(config, channels)

    def tiles(name: str, place: Path) -> Split:
        samples = None if name == TRAIN else config.val_samples
        return find_tiles(place, layout).only(config.limit_tiles).only(samples)

    return _each_split(config, tiles)


def _each_split(config: RunConfig, look: Callable[[str, Path], Found]) -> dict[str, Found]:
    """Return what `look` finds for each split; InputError with the mistakes of all of them."""

    def named(name: str, place: Path) -> Found:
        if not place.exists() and (name.startswith(ADDED) or (name == VAL and config.val_dir)):
            setting = "val_dir" if name == VAL else "add_val_dirs"
            raise InputError(f"{setting}: {place}: no such folder, or list of tiles")
        return look(name, place)

    _check_data_set(config)
    return with_all_mistakes(split_places(config), named)


def _check_data_set(config: RunConfig) -> None:
    """Raise InputError where a folder inside a data set was given for it, or tiles of no split are to be left out."""
    own = [_own_split(config.dataset, split) for split in (TRAIN, VAL)]
    around = Path(config.dataset).absolute().parents[:2]
    meant = [folder for folder in around if (folder / TRAIN / config.images_dir).is_dir()]
    if meant and not any(place.exists() for place in own):
        raise InputError(f"{config.dataset}: has neither train/ nor val/; did you mean -d {meant[0]}?")
    check_splits(Path(config.dataset))


def check_split(place: Path, layout: Layout) -> None:
    """Raise InputError where a place is not a split that a model can be measured on, with the folder likely meant."""
    near = (place / VAL, place / "test", place / TRAIN, place.parent, place.parent / VAL, place.parent.parent)
    meant = next((folder for folder in near if (folder / layout.images_dir).is_dir()), None)
    hint = f"; did you mean {meant}?" if meant else ""
    if place.is_file() and place.suffix.lower() in SUFFIXES:
        raise InputError(f"{place}: is a single image; the folder of a split is needed, such as DATASET/val{hint}")
    if not place.exists():
        raise InputError(f"{place}: no such folder; the folder of a split is needed, such as DATASET/val{hint}")
    if place.is_dir() and not (place / layout.images_dir).is_dir():
        raise InputError(f"{place}: is not a split: it has no folder {layout.images_dir}{hint}")
    root = place if place.is_dir() else place.parent
    lacking = [root / name for name in layout.channels if not (root / name).is_dir()]
    if lacking:
        raise InputError(
            f"{folder}: no such folder, and the model was trained with this channel; if the images hold it, --bands "
            f"says in which of their bands"
            for folder in lacking
        )
    split_folders(place, layout)


def _own_split(dataset: str, split: str) -> Path:
    """Return DATASET/train, or DATASET/train.txt where that exists."""
    if not dataset:
        raise InputError(f"dataset: is missing; -d FOLDER says where the data lies (-d {DEMO} makes a demo data set)")
    root = Path(dataset)
    if not root.is_dir():
        raise InputError(f"{root}: no such data set folder (dataset, -d)")
    folder, listing = root / split, root / f"{split}.txt"
    if folder.is_dir() and listing.is_file():
        raise InputError(f"{listing}: lies beside {folder}, and both could define the tiles; remove one")
    return listing if listing.is_file() else folder


def _added(given: Sequence[str]) -> dict[str, Path]:
    """Return the added validation sets by name: the shortest ends of their paths that differ from each other."""
    places = [place for item in given for place in _places_of(item)]
    whole = [Path(os.path.abspath(place)) for place in places]  # without ".."
    seen: set[Path] = set()
    for place in places:
        if place.resolve() in seen:
            raise InputError(f"add_val_dirs: {place} is listed twice")
        seen.add(place.resolve())
    return {ADDED + end: place for end, place in zip(shortest_ends(whole), places, strict=True)}


def _places_of(item: str) -> list[Path]:
    """Return a folder itself, or those that a file lists, relative to the working folder or else to the file."""
    listing = Path(item)
    if not listing.is_file():
        return [listing]
    places = [Path(line) for line in read_list(listing)]
    return [place if place.exists() else listing.parent / place for place in places]
