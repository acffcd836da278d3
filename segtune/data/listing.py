"""What lies in a folder of images or masks: the files that are read, and the number of others by kind."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtune.errors import InputError, counted, first_few

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
SCENE_SUFFIXES = (*SUFFIXES, ".vrt")
# Files beside an image change what GDAL reads from it. Masks and metadata have the image's whole name before these:
MASKS, FACTS = (".msk", ".MSK"), ".aux.xml"
# Files with its place on the ground have the image's name without extension before these: world files (others end in
# "w", such as .tfw), MapInfo tables, and rational polynomials.
_WORLDS, _RPCS = (".wld", ".tab", ".RPB"), ("_RPC.TXT", "_rpc.txt")
_ANY_WORLD = ("w", *map(str.lower, _WORLDS))
# Other files that programs write beside images, or people beside data: they are not reported as unread.
_BESIDE = frozenset(
    {
        *("xml", "msk", "ovr", "rrd", "tfw", "tifw", "tfwx", "wld", "pgw", "pngw", "jgw", "jpgw", "bpw", "bmpw", "prj"),
        *("json", "geojson", "csv", "txt", "md", "yaml", "yml", "html", "pdf", "log", "db", "ini", "py", "sh"),
        *("rpb", "rpc", "imd", "md5", "sha256"),
    }
)


@dataclass(frozen=True)
class Listing:
    """The files and subfolders of a folder, without hidden ones."""

    folder: Path
    files: tuple[str, ...]  # sorted
    folders: tuple[str, ...]
    broken: tuple[str, ...]  # links without a target

    def unread(self, below: bool) -> str | None:
        """Describe what is not read, `below` also in subfolders; None where everything is."""
        kinds = Counter(os.path.splitext(name)[1].lower() for name in self.files)
        others = {kind: number for kind, number in kinds.items() if kind not in SUFFIXES and kind[1:] not in _BESIDE}
        said = [f"{number} {kind or 'without an extension'}" for kind, number in sorted(others.items())]
        if self.broken:
            said.append(f"{counted(len(self.broken), 'broken link')} ({first_few(self.broken, 2)})")
        deeper = {name: _images_below(self.folder / name) for name in self.folders} if below else {}
        if number := sum(deeper.values()):
            said.append(
                f"{counted(number, 'image')} in subfolders ({first_few((name for name in deeper if deeper[name]), 2)})"
            )
        return ", ".join(said) or None


def place_files(name: str) -> list[str]:
    """Return the names of files beside an image in which GDAL looks for the place of the image on the ground."""
    stem, extension = os.path.splitext(name)
    own = (f".{extension[1:2]}{extension[-1:]}w", f"{extension}w") if extension else ()
    return [stem + ending for ending in (*own, *_WORLDS, *_RPCS)]


def files_beside(name: str) -> list[str]:
    """Return the names of all files beside an image that change what GDAL reads from it."""
    return [name + FACTS, *(name + ending for ending in MASKS), *place_files(name)]


def changes_reading(name: str, images: Collection[str], stems: Collection[str]) -> bool:
    """Return whether a file beside images changes what is read from one of them; `stems` lack the extensions."""
    stem, ending = os.path.splitext(name)
    whole = next((name.removesuffix(end) for end in (*MASKS, FACTS) if name.endswith(end)), None)
    world = ending.lower().endswith(_ANY_WORLD)
    polynomials = name.lower().endswith(_RPCS)
    return whole in images or (world and stem in stems) or (polynomials and name[: -len(_RPCS[0])] in stems)


def list_folder(folder: Path) -> Listing:
    """List a folder; InputError where it cannot be read, or where names are not UTF-8."""
    files, folders, broken = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                if entry.is_file():
                    files.append(entry.name)
                elif entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_symlink():
                    broken.append(entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    _check_text(folder, files)
    return Listing(folder, tuple(sorted(files)), tuple(sorted(folders)), tuple(sorted(broken)))


def _check_text(folder: Path, names: Iterable[str]) -> None:
    names = sorted(names)
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        odd = first_few(ascii(name) for name in names if not name.isprintable())
        raise InputError(f"{folder}: names of files that are not UTF-8: {odd}") from None


def _images_below(folder: Path) -> int:
    """Count the image files in a folder and below it."""
    return sum(
        os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != "."
        for _, _, names in os.walk(folder)
        for name in names
    )


def read_list(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list ({error})") from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise InputError(f"{path}: the list is empty")
    return found


def shortest_ends(paths: Sequence[Path], joint: str = "/") -> list[str]:
    """Return the shortest ends of absolute paths that differ from each other; whole paths where two are the same."""
    for parts in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        ends = [joint.join(path.parts[-parts:]) for path in paths]
        if len(set(ends)) == len(ends):
            break
    return ends


def composed(name: str) -> str:
    """Return a name in composed form (NFC): archives from macOS write some letters as two characters."""
    return unicodedata.normalize("NFC", name)


def channel_beside(image: Path, channel: str) -> Path | None:
    """Find the file of a scene's extra channel by the name of the image; None where there is none.

    It is CHANNEL/NAME.tif beside the image's folder or in it, or NAME_CHANNEL.tif beside the image. Raises InputError
    where two files differ in the extension alone.
    """
    return first_file(places_beside(image, channel), SCENE_SUFFIXES, f"the channel {channel}")


def places_beside(image: Path, name: str) -> list[Path]:
    """Return where a scene's layer of this name may lie, such as a channel: paths without extension."""
    folders = (image.parent.parent / name, image.parent / name)
    return [*(folder / image.stem for folder in folders), image.with_name(f"{image.stem}_{name}")]


def first_file(places: Iterable[Path], suffixes: Iterable[str], what: str) -> Path | None:
    """Return the file at the first of some paths without extension that has one; None where none has.

    Raises InputError where two files differ in the extension alone; `what` says what both could be.
    """
    for place in places:
        found = [path for suffix in suffixes if (path := place.with_name(place.name + suffix)).is_file()]
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1].name} could both be {what}; remove one of them")
        if found:
            return found[0]
    return None


def channels_beside(image: Path, channels: Iterable[str]) -> list[Path]:
    """Return the files of a scene's extra channels that lie beside its image."""
    found = [channel_beside(image, channel) for channel in channels]
    return [path for path in found if path is not None]
