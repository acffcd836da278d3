"""Pairing: image, mask and extra channels of each tile of a split, by file name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segtune.data.exclusion import check_present, excluded_from
from segtune.data.listing import SUFFIXES, Listing, composed, list_folder, read_list
from segtune.data.tiles import Layout, Split
from segtune.errors import InputError, first_few

_NOT_CHANNELS = 2  # the first folders of a split, images and masks
_READ = " ".join(SUFFIXES)
_EXTENSIONS = frozenset(suffix[1:] for suffix in SUFFIXES)


def split_folders(place: Path, layout: Layout) -> list[Path]:
    """Return the folders of images, masks and each channel of a split; InputError where one is missing."""
    if not place.exists():
        raise InputError(f"{place}: no such folder; a data set has train/ and val/")
    root = place if place.is_dir() else place.parent
    folders = [root / layout.images_dir, root / layout.masks_dir, *(root / name for name in layout.channels)]
    there = [name for name in layout.channels if (root / name).is_dir()]
    fewer = f"; channels asks for it (without it: --set channels={','.join(there) or 'none'})"
    missing = [
        f"{folder}: no such folder{fewer if position >= _NOT_CHANNELS else ''}"
        for position, folder in enumerate(folders)
        if not folder.is_dir()
    ]
    if missing:
        raise InputError(missing)
    return folders


@dataclass(frozen=True)
class Unpaired:
    """Files of one folder that have no partner in another one."""

    what: str  # the mistake, for people
    names: tuple[str, ...]  # of the tiles


def find_tiles(place: Path, layout: Layout) -> Split:
    """Find the tiles of one split, a folder or a list file; InputError where a file has no partner.

    A list file names one tile per line, with or without extension; its tiles lie beside it, in the layout's folders.
    Tiles that an exclude.txt beside the split leaves out are not looked at.
    """
    tiles, unpaired = find_pairs(place, layout)
    if unpaired:
        raise InputError(found.what for found in unpaired)
    return tiles


def find_pairs(place: Path, layout: Layout) -> tuple[Split, list[Unpaired]]:
    """Find the tiles of one split whose files all have partners, and the files that have none.

    Raises InputError where folders are missing, or where names do not tell which files belong together.
    """
    folders = split_folders(place, layout)
    listed = None if place.is_dir() else _listed(place, layout.image_suffix)
    listings = {folder: list_folder(folder) for folder in folders}
    files = [_by_name(listings[folder], *ends) for folder, ends in zip(folders, _endings(layout), strict=True)]
    # Folders in a split's own folder are channels and the like, not unread images.
    own = place if listed is None else place.parent
    what = {folder: listing.unread(below=folder != own) for folder, listing in listings.items()}
    unread = tuple(
        f"{folder}: not read: {text} (only {_READ} directly in it are)" for folder, text in what.items() if text
    )
    if listed is not None:
        files = [_only_listed(place, listed, folder, found) for folder, found in zip(folders, files, strict=True)]
    if excluded := excluded_from(place):
        check_present(excluded, place, {name for found in files for name in found})
        files = [{name: file for name, file in found.items() if name not in excluded.names} for found in files]
        if not files[0]:
            raise InputError(f"{excluded.path}: leaves out all tiles of {place}")
    images = files[0]
    if not images:
        ending = f"*{layout.image_suffix}" if layout.image_suffix else ""
        held = f"; it holds {what[folders[0]]}" if what[folders[0]] else ""
        raise InputError(f"{folders[0]}: no images {ending}({_READ}){held}")
    unpaired = []
    for name, folder, found in zip(("", *layout.channels), folders[1:], files[1:], strict=True):
        unpaired += _unpaired(folders[0], images, folder, found, what[folder], _without(name, layout.channels))
    unpaired += _unpaired(folders[1], files[1], folders[0], images, what[folders[0]])
    names = tuple(sorted(set(images).intersection(*files[1:])))
    rows = tuple(tuple(map(found.__getitem__, names)) for found in files)
    own_folders = tuple(str(folder.absolute()) for folder in folders)
    return Split(own_folders, names, rows, unread=unread, excluded=excluded), unpaired


def _listed(path: Path, suffix: str) -> frozenset[str]:
    """Read the names of tiles from a list file."""
    names = []
    for line in read_list(path):
        name = PurePosixPath(composed(line)).name
        stem, dot, ending = name.rpartition(".")
        name = stem if dot and f".{ending.lower()}" in SUFFIXES else name
        names.append(name.removesuffix(suffix) if suffix else name)
    return frozenset(names)


def _only_listed(listing: Path, names: frozenset[str], folder: Path, files: dict[str, str]) -> dict[str, str]:
    absent = sorted(names - files.keys())
    if absent:
        are = "is" if len(absent) == 1 else "are"
        raise InputError(f"{listing}: {len(absent)} of its tiles {are} not in {folder}: {first_few(absent)}")
    return {name: file for name, file in files.items() if name in names}


def _endings(layout: Layout) -> list[tuple[str, str, bool]]:
    """Return for each folder: the ending of names, an ending that excludes them, and whether the ending is optional."""
    image, mask = layout.image_suffix, layout.mask_suffix
    together = layout.images_dir == layout.masks_dir
    # Where images and masks share a folder, an empty ending means: without the other's ending.
    not_image = mask if together and not image.endswith(mask) else ""
    not_mask = image if together and not mask.endswith(image) else ""
    return [(image, not_image, False), (mask, not_mask, False), *((image, "", True) for _ in layout.channels)]


def _by_name(listing: Listing, ending: str, other: str, optional: bool) -> dict[str, str]:
    """Return the file names of a folder by the names of tiles."""
    files: dict[str, str] = {}
    twice = []
    for file in listing.files:
        stem, dot, extension = composed(file).rpartition(".")
        if not dot or extension.lower() not in _EXTENSIONS or (other and stem.endswith(other)):
            continue
        if ending and stem.endswith(ending):
            stem = stem[: -len(ending)]
        elif ending and not optional:
            continue
        if stem in files:
            twice.append(f"{files[stem]} and {file}")
        files[stem] = file
    if twice:
        raise InputError(f"{listing.folder}: the same name with two extensions: {first_few(twice)}")
    return files


def _without(channel: str, channels: Sequence[str]) -> str:
    """Return how a channel is left out, whose files are not all there."""
    others = ",".join(name for name in channels if name != channel) or "none"
    return f" (without this channel: --set channels={others})" if channel else ""


def _unpaired(
    folder: Path, files: dict[str, str], other: Path, partners: dict[str, str], unread: str | None, more: str = ""
) -> list[Unpaired]:
    alone = {name: file for name, file in files.items() if name not in partners}
    if not alone:
        return []
    hint = f"; not read in {other}: {unread}" if unread else ""
    have = "has" if len(alone) == 1 else "have"
    shown = first_few(alone.values())
    what = f"{folder}: {len(alone)} of {len(files)} files {have} no partner in {other}: {shown}{hint}{more}"
    return [Unpaired(what, tuple(alone))]
