"""A split's folder, or a list of names -> its tiles: image, mask and extra channels paired by file name."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, repeat
from pathlib import Path, PurePosixPath
from typing import TypeVar, overload

from segtune.config import DEMO, RunConfig
from segtune.data.listing import SIDECARS, SUFFIXES, Listing, list_folder
from segtune.errors import InputError, first_few

Found = TypeVar("Found")
TRAIN, VAL = "train", "val"
ADDED = "add_val/"  # before the names of added validation sets
_NOT_CHANNELS = 2  # folders of a split that are none of a channel: images and masks
_READ = " ".join(SUFFIXES)
_EXTENSIONS = frozenset(suffix[1:] for suffix in SUFFIXES)
# What the names of files end in that say where a picture lies: after its name without the extension.
_WORLD_FILES = ("w", ".wld", ".tab", ".rpb")
_RPC_FILE = "_rpc.txt"
_STATS_AT_ONCE, _STATS_IN_TURN = 16, 2000  # a network's file system answers each one late, but many at once


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
    image_suffix: str = ""  # composed (NFC), as the next one
    mask_suffix: str = ""
    channels: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: RunConfig, channels: Sequence[str]) -> Layout:
        """The layout that a run's settings describe, with these extra channels."""
        suffixes = _composed(config.image_suffix), _composed(config.mask_suffix)
        return cls(config.images_dir, config.masks_dir, *suffixes, tuple(channels))


@dataclass(frozen=True)
class Split(Sequence[Tile]):
    """The tiles of one split, sorted by name. Plain strings: a hundred thousand tiles are listed in a moment."""

    folders: tuple[str, ...]  # absolute: of the images, the masks, and each extra channel
    names: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]  # for each folder, the name of each tile's file in it
    left_out: int = 0  # tiles of the split that are none of these
    unread: tuple[str, ...] = ()  # for each folder in which something is not read: what, in words

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
        """A digest of the files' folders, names, sizes and times of change: another one where any of them changed.

        Files beside them count that change what is read from them, such as the mask of a GeoTIFF.

        Raises InputError where a file has gone since it was listed.
        """
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
        """At most so many of the tiles: always the same ones, but for those that join or leave the split."""
        if number is None or number >= len(self):
            return self

        def draw(index: int) -> bytes:
            return hashlib.blake2b(self.names[index].encode(), digest_size=8).digest()

        kept = sorted(sorted(range(len(self)), key=draw)[:number])
        files = tuple(tuple(row[i] for i in kept) for row in self.files)
        left_out = self.left_out + len(self) - number
        return replace(self, names=tuple(self.names[i] for i in kept), files=files, left_out=left_out)


def split_places(config: RunConfig) -> dict[str, Path]:
    """The folder or list file of train, val and each of the added validation sets, there or not, by name.

    Raises InputError where there is no telling.
    """
    places = {TRAIN: _own_split(config.dataset, TRAIN)}
    if not config.use_only_add_val:
        places[VAL] = Path(config.val_dir) if config.val_dir else _own_split(config.dataset, VAL)
    return places | _added(config.add_val_dirs)


def absolute_places(add_val_dirs: Sequence[str]) -> list[str]:
    """The same sets, as they are found from any working folder: in place of a file that names folders, those.

    InputError where such a file cannot be read.
    """
    found: list[str] = []
    for item in add_val_dirs:
        places = _places_of(item)
        if any(place.is_file() for place in places):
            places = [Path(item)]  # a list of tiles that stood for itself would be taken for one of folders
        found += [str(place.absolute()) for place in places]
    return found


def check_folders(config: RunConfig, channels: Sequence[str]) -> None:
    """Refuse data of which a folder is missing, with all that is wrong with it; else its tiles are not looked at."""
    layout = Layout.of(config, channels)
    try:
        _each_split(config, lambda name, place: split_folders(place, layout))
    except InputError:
        find_data_set(config, channels)
        raise


def find_data_set(config: RunConfig, channels: Sequence[str]) -> dict[str, Split]:
    """The tiles of train, val and the added validation sets; raise InputError with what is wrong with any of them."""
    layout = Layout.of(config, channels)

    def tiles(name: str, place: Path) -> Split:
        samples = None if name == TRAIN else config.val_samples
        return find_tiles(place, layout).only(config.limit_tiles).only(samples)

    return _each_split(config, tiles)


def _each_split(config: RunConfig, look: Callable[[str, Path], Found]) -> dict[str, Found]:
    """What `look` finds of each split; InputError with the mistakes of all of them."""
    found: dict[str, Found] = {}
    mistakes: list[str] = []
    for name, place in split_places(config).items():
        if not place.exists() and (name.startswith(ADDED) or (name == VAL and config.val_dir)):
            setting = "val_dir" if name == VAL else "add_val_dirs"
            mistakes.append(f"{setting}: {place}: no such folder, or list of tiles")
            continue
        try:
            found[name] = look(name, place)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return found


def check_split(place: Path, layout: Layout) -> None:
    """Refuse what is no split of tiles for a model; InputError that says which folder may be meant."""
    near = (place / VAL, place / "test", place / TRAIN, place.parent, place.parent / VAL, place.parent.parent)
    meant = next((folder for folder in near if (folder / layout.images_dir).is_dir()), None)
    hint = f"; did you mean {meant}?" if meant else ""
    if place.is_file() and place.suffix.lower() in SUFFIXES:
        raise InputError(f"{place}: is one image, and a split's folder is needed, such as DATASET/val{hint}")
    if not place.exists():
        raise InputError(f"{place}: no such folder; a split's folder is needed, such as DATASET/val{hint}")
    if place.is_dir() and not (place / layout.images_dir).is_dir():
        raise InputError(f"{place}: is no split, for it has no folder {layout.images_dir}{hint}")
    root = place if place.is_dir() else place.parent
    lacking = [root / name for name in layout.channels if not (root / name).is_dir()]
    if lacking:
        raise InputError(f"{folder}: no such folder, and the model was trained with this channel" for folder in lacking)
    split_folders(place, layout)


def split_folders(place: Path, layout: Layout) -> list[Path]:
    """The folders of a split, or of the tiles that a list file names: images, masks, each channel; all must exist."""
    if not place.exists():
        outer = place.absolute().parent.parents[:2]  # where a split, or its images, were given for the data set
        around = [folder for folder in outer if (folder / TRAIN / layout.images_dir).is_dir()]
        meant = f"; did you mean -d {around[0]}?" if around else ""
        raise InputError(f"{place}: no such folder; a data set has train/ and val/{meant}")
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


def find_tiles(place: Path, layout: Layout) -> Split:
    """The tiles of one split, a folder or a list file; raise InputError where a file has no partner.

    A list file names a tile a line, with or without an extension; its tiles lie beside it, in the layout's folders.
    """
    folders = split_folders(place, layout)
    listed = None if place.is_dir() else _listed(place, layout.image_suffix)
    listings = {folder: list_folder(folder) for folder in folders}
    files = [_by_name(listings[folder], *ends) for folder, ends in zip(folders, _endings(layout), strict=True)]
    # In a split's own folder, other folders are other things.
    own = place if listed is None else place.parent
    what = {folder: listing.unread(below=folder != own) for folder, listing in listings.items()}
    unread = tuple(f"{folder}: not read: {text} (only {_READ} are)" for folder, text in what.items() if text)
    if listed is not None:
        files = [_only_listed(place, listed, folder, found) for folder, found in zip(folders, files, strict=True)]
    images = files[0]
    if not images:
        ending = f"*{layout.image_suffix}" if layout.image_suffix else ""
        held = f"; it holds {what[folders[0]]}" if what[folders[0]] else ""
        raise InputError(f"{folders[0]}: no images {ending}({_READ}){held}")
    mistakes = []
    for folder, found in zip(folders[1:], files[1:], strict=True):
        mistakes += _unpaired(folders[0], images, folder, found, what[folder])
    mistakes += _unpaired(folders[1], files[1], folders[0], images, what[folders[0]])
    if mistakes:
        raise InputError(mistakes)
    names = tuple(sorted(images))
    rows = tuple(tuple(map(found.__getitem__, names)) for found in files)
    return Split(tuple(str(folder.absolute()) for folder in folders), names, rows, unread=unread)


def _beside(folder: str, files: Sequence[str]) -> list[str]:
    """Names of what stands beside files in their folder and changes what is read from them, sorted."""
    names, stems = set(files), {os.path.splitext(file)[0] for file in files}
    try:
        found = os.listdir(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    kept = []
    for name in found:
        stem, ending = os.path.splitext(name)
        whole = next((name.removesuffix(end) for end in SIDECARS if name.endswith(end)), "")
        world = stem in stems and ending.lower().endswith(_WORLD_FILES)
        rpc = name.lower().endswith(_RPC_FILE) and name[: -len(_RPC_FILE)] in stems
        if whole in names or world or rpc:
            kept.append(name)
    return sorted(kept)


def _state(folder: str, files: Sequence[str]) -> array[int]:
    """Sizes and times of change of files in a folder.

    The time of the last write alone would not do: archives give all their files one time, and masks that are not
    compressed all have one size.
    """
    found = array("q")
    try:
        place = os.open(folder, os.O_RDONLY)  # looks up each name in the folder, not the folder each time
        try:
            for file in files:
                state = os.stat(file, dir_fd=place)
                found.extend((state.st_size, state.st_mtime_ns, state.st_ctime_ns))
        finally:
            os.close(place)
    except OSError as error:
        raise InputError(f"{folder}/{error.filename}: cannot be read ({error.strerror})") from None
    return found


def _own_split(dataset: str, split: str) -> Path:
    """DATASET/train, or DATASET/train.txt."""
    if not dataset:
        raise InputError(f"dataset: is missing; -d FOLDER says where the data lies (-d {DEMO} makes a set for a try)")
    root = Path(dataset)
    if not root.is_dir():
        raise InputError(f"{root}: no such data set folder (dataset, -d)")
    folder, listing = root / split, root / f"{split}.txt"
    if folder.is_dir() and listing.is_file():
        raise InputError(f"{listing}: stands beside {folder}, and either could say what the tiles are; remove one")
    return listing if listing.is_file() else folder


def _added(given: Sequence[str]) -> dict[str, Path]:
    """The added validation sets by name: as much of the end of each one's path as tells it from the others."""
    places = [place for item in given for place in _places_of(item)]
    whole = [Path(os.path.abspath(place)) for place in places]  # without ".."
    seen: set[Path] = set()
    for place in places:
        if place.resolve() in seen:
            raise InputError(f"add_val_dirs: {place} stands there twice")
        seen.add(place.resolve())
    for parts in count(1):
        names = [ADDED + "/".join(path.parts[-parts:]) for path in whole]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, places, strict=True))


def _places_of(item: str) -> list[Path]:
    """A folder itself, or those that a file names, one a line: as seen from here, or else from the file."""
    listing = Path(item)
    if not listing.is_file():
        return [listing]
    places = [Path(line) for line in _lines(listing)]
    return [place if place.exists() else listing.parent / place for place in places]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list ({error})") from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise InputError(f"{path}: the list is empty")
    return found


def _listed(path: Path, suffix: str) -> frozenset[str]:
    """The names of tiles in a list file."""
    names = []
    for line in _lines(path):
        name = PurePosixPath(_composed(line)).name
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
    """For each folder: what names end in, what they must not end in, and whether they may lack the ending."""
    image, mask = layout.image_suffix, layout.mask_suffix
    together = layout.images_dir == layout.masks_dir
    # In one folder, names without an ending are those that do not have the other's.
    not_image = mask if together and not image.endswith(mask) else ""
    not_mask = image if together and not mask.endswith(image) else ""
    return [(image, not_image, False), (mask, not_mask, False), *((image, "", True) for _ in layout.channels)]


def _by_name(listing: Listing, ending: str, other: str, optional: bool) -> dict[str, str]:
    """File names in a folder by the tile's name."""
    files: dict[str, str] = {}
    twice = []
    for file in listing.files:
        stem, dot, extension = _composed(file).rpartition(".")
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


def _composed(name: str) -> str:
    """A name as most systems write it: archives from macOS write some letters as two, and look the same."""
    return unicodedata.normalize("NFC", name)


def _unpaired(folder: Path, files: dict[str, str], other: Path, partners: dict[str, str], unread: str) -> list[str]:
    alone = [file for name, file in files.items() if name not in partners]
    if not alone:
        return []
    hint = f"; not read in {other}: {unread}" if unread else ""
    have = "has" if len(alone) == 1 else "have"
    return [f"{folder}: {len(alone)} of {len(files)} files {have} no partner in {other}: {first_few(alone)}{hint}"]
