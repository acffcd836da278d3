"""The files of scenes that are cut into tiles: images, extra channels and masks, found by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtune.data.listing import SCENE_SUFFIXES, composed, first_file, list_folder, places_beside, read_list
from segtune.errors import InputError, first_few

VECTORS = (".gpkg", ".geojson", ".json", ".shp")
IMAGES, MASKS = "images", "gt"  # folders of tiles
# Rasters that are found by their names; of a file that is named itself, the content decides.
_RASTERS = (*SCENE_SUFFIXES, ".jp2", ".img", ".asc", ".hgt", ".dt2", ".ntf")
_LIST = ".txt"


@dataclass(frozen=True)
class Scene:
    """The files of a scene."""

    name: str
    image: tuple[Path, ...]  # one file, or several whose bands follow each other
    channels: tuple[tuple[str, Path], ...] = ()  # the extra channels: name and file
    mask: Path | None = None  # a raster, or a file of outlines

    @property
    def outlined(self) -> bool:
        """Whether the mask is a file of outlines."""
        return self.mask is not None and self.mask.suffix.lower() in VECTORS


def find_scenes(given: Sequence[Path], channels: Mapping[str, str], mask: str | None) -> list[Scene]:
    """Find the files of scenes.

    Parameters
    ----------
    given: images; lists (.txt) of the files whose bands make up an image; folders of images.
    channels: by name, where the extra channels lie: a file, a folder with files of the scenes' names, or the name of
        a folder beside the images' folder or in it. NAME_CHANNEL.tif beside an image is found by that name, too.
    mask: where the masks lie, likewise.

    Raises InputError with what is missing, and where two scenes have one name.
    """
    mistakes: list[str] = []
    found: list[Scene] = []
    for place in given:
        own, wrong = _found(_images(place), channels, mask)
        used = {file.resolve() for scene in own for file in (*dict(scene.channels).values(), scene.mask) if file}
        # In a folder, NAME_nir.tif may lie beside NAME.tif: it is no scene, and has no channel of its own.
        beside = used if place.is_dir() else set()
        found += [scene for scene in own if scene.image[0].resolve() not in beside]
        mistakes += [line for path, lines in wrong.items() if path.resolve() not in beside for line in lines]
    twice = [name for name, number in Counter(scene.name for scene in found).items() if number > 1]
    if twice:
        mistakes.append(f"two scenes have the same name, which names their tiles: {first_few(twice)}; rename one")
    if mistakes:
        raise InputError(mistakes)
    return found


def _found(
    images: Sequence[Path], channels: Mapping[str, str], mask: str | None
) -> tuple[list[Scene], dict[Path, list[str]]]:
    """Return the scenes of some images, and the mistakes in others, by image."""
    found: list[Scene] = []
    mistakes: dict[Path, list[str]] = {}
    for path in images:
        try:
            extra = tuple(
                (name, _partner(path, name, where, _RASTERS, "--channels")) for name, where in channels.items()
            )
            own = _partner(path, "", mask, (*_RASTERS, *VECTORS), "--mask") if mask else None
            found.append(Scene(composed(path.stem), _files(path), extra, own))
        except InputError as error:
            mistakes[path] = error.mistakes
    return found, mistakes


def _images(place: Path) -> list[Path]:
    """Return a file itself, or the images in a folder."""
    if not place.is_dir():
        if not place.is_file():
            raise InputError(f"{place}: no such file or folder")
        if place.suffix.lower() in VECTORS:
            raise InputError(f"{place}: holds outlines, and a scene is an image; --mask takes outlines")
        return [place]
    names = [name for name in list_folder(place).files if Path(name).suffix.lower() in _RASTERS]
    if not names:
        raise InputError(f"{place}: no images ({' '.join(_RASTERS)})")
    return [place / name for name in names]


def _files(path: Path) -> tuple[Path, ...]:
    """Return the files of a scene's image: the file itself, or those that a list names, relative to the list."""
    if path.suffix.lower() != _LIST:
        return (path,)
    files = tuple(path.parent / line for line in read_list(path))
    absent = [str(file) for file in files if not file.is_file()]
    if absent:
        raise InputError(f"{path}: names files that do not exist: {first_few(absent, 3)}")
    return files


def _partner(image: Path, channel: str, where: str, suffixes: Sequence[str], flag: str) -> Path:
    """Return the file of a scene's channel or mask; raise InputError where there is none, or more than one."""
    place = Path(where)
    if place.is_file():
        return place
    if place.is_dir():
        wanted = [place / image.stem]
    elif place.name == where:
        wanted = places_beside(image, where)
    else:
        raise InputError(f"{flag}: {where}: no such file or folder")
    if found := first_file(wanted, suffixes, f"meant by {flag}"):
        return found
    what = f"its channel {channel}" if channel else "its mask"
    raise InputError(f"{image}: {what} is missing ({flag}): none of {first_few((f'{name}.*' for name in wanted), 3)}")
