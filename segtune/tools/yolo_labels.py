"""Read Ultralytics' segment labels: data.yaml, and a text file for each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from segtune.data.listing import SUFFIXES, read_list
from segtune.errors import InputError, counted, one_line, short
from segtune.files.yamlfile import read_yaml
from segtune.tools.annotations import Annotated, Annotations, Shape, outline, text, whole

SPLITS = ("train", "val", "test")
_MOST_BYTES = 64 * 2**20  # of the labels of an image
_BOX = 5  # numbers of a line that is a box
_OUTSIDE = 0.1  # of the image's sides, by which points may lie outside


def read_yolo(path: Path) -> Annotations:
    """Read the splits of a data.yaml, all below its folder.

    Parts of its paths that lead out of this folder, such as that of the machine where it was written, are left out. An
    image without a file of labels holds no object.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or "names" not in content:
        raise InputError(f"{path}: is no data.yaml of Ultralytics: it has no names")
    found = Annotations()
    names = _names(content["names"], path)
    found.names = {name: str(number) for number, name in names.items()}
    root = path.parent / _within(content.get("path") or "")
    root = root if root.is_dir() else path.parent
    without = 0
    for split in SPLITS:
        given = content.get(split)
        for entry in given if isinstance(given, list) else [given] if given else []:
            for image in _images(root / _within(text(entry, f"{path}: {split}")), path, split):
                labels = _labels_of(image)
                without += not labels.is_file()
                try:
                    shapes = _shapes(labels, names, found) if labels.is_file() else []
                except InputError as error:
                    found.mistakes += error.mistakes
                    continue
                inside = PurePosixPath(image.relative_to(root).as_posix())
                found.images.append(Annotated(image, inside, tuple(shapes), str(labels), split=split, relative=True))
    if without:
        found.remarks.append(f"{counted(without, 'image')} without a file of labels: all background")
    return found


def _names(given: object, path: Path) -> dict[int, str]:
    """Return the names of classes by their numbers, in their order."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(given, list):
        pairs = list(enumerate(given))
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    if not pairs:
        raise InputError(f"{path}: names is a list, or numbers with names, but got {short(given)}")
    named = {whole(number, f"{path}: names"): text(name, f"{path}: names") for number, name in pairs}
    if len(set(named.values())) < len(named):
        raise InputError(f"{path}: names has a name twice")
    return dict(sorted(named.items()))


def _within(given: object) -> PurePosixPath:
    """Return the part of a path that does not lead out of a folder: nothing of an absolute one."""
    name = str(given)
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return PurePosixPath()
    return PurePosixPath(*(part for part in PurePosixPath(name.replace("\\", "/")).parts if part != ".."))


def _images(place: Path, path: Path, split: str) -> list[Path]:
    """Return the images of a folder and below it, or those that a list names."""
    if place.is_file():
        listed = [place.parent / _within(line) for line in read_list(place)]
        if absent := next((image for image in listed if not image.is_file()), None):
            raise InputError(f"{place}: {absent}: no such image; lists name images below their folder")
        return listed
    if not place.is_dir():
        raise InputError(f"{path}: {split}: {place}: no such folder below that of data.yaml")
    return sorted(
        file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()
    )


def _labels_of(image: Path) -> Path:
    """Return the file of an image's labels: `labels` takes the place of the last folder `images`."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _shapes(labels: Path, names: Mapping[int, str], found: Annotations) -> list[Shape]:
    """Read the outlines of an image, whose sides are 1."""
    try:
        if labels.stat().st_size > _MOST_BYTES:
            raise InputError(f"{labels}: is larger than any file of labels")
        lines = labels.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{labels}: cannot be read as labels ({one_line(error)})") from None
    shapes = []
    for number, line in enumerate(lines, start=1):
        words, what = line.split(), f"{labels}:{number}"
        if not words:
            continue
        if not words[0].isdecimal() or len(words[0]) > 9 or int(words[0]) not in names:
            raise InputError(f"{what}: there is no class {short(words[0])} in data.yaml")
        if len(words) == _BOX:
            found.no_areas["box alone"] += 1
            continue
        ring = outline(words[1:], what)
        if (ring < -_OUTSIDE).any() or (ring > 1 + _OUTSIDE).any():
            raise InputError(f"{what}: points are shares of the image's sides, from 0 to 1")
        shapes.append(Shape(names[int(words[0])], ((ring,),)))
    return shapes
