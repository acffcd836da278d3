"""Read the JSON files that labelme writes beside images."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from segtune.data.listing import SUFFIXES
from segtune.data.reading import read_header
from segtune.errors import InputError, counted, first_few, short
from segtune.tools.annotations import (
    Annotated,
    Annotations,
    NoImageError,
    Points,
    Shape,
    entries,
    image_inside,
    outline,
    read_json,
    text,
    whole,
)
from segtune.tools.coco_json import runs_of

IGNORED, BACKGROUND = "__ignore__", "_background_"  # labelme's names for what is none of the classes
_CORNERS = 360  # of a circle
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_AREAS = ("point", "points", "line", "linestrip")


def read_labelme(folder: Path, images: Path) -> Annotations:
    """Read all JSON files of a folder; images lie in the folder `images`. Class names are in alphabetical order."""
    found = Annotations()
    files = sorted(path for path in folder.glob("*.json") if path.name[0] != ".")
    names, renamed = set[str](), list[str]()
    pictures: dict[str, list[Path]] = {}
    for file in sorted(images.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            pictures.setdefault(file.stem, []).append(file)
    for path in files:
        try:
            entry = _read(path, images, pictures, found, renamed)
        except InputError as error:
            found.mistakes += error.mistakes
        else:
            found.images.append(entry)
            names |= {shape.name for shape in entry.shapes}
    if renamed:
        found.remarks.append(
            f"{counted(len(renamed), 'JSON file')} whose imagePath names no image: the image of the file's own name is "
            f"taken ({first_few(renamed)})"
        )
    if not files:
        raise InputError(f"{folder}: holds no JSON files of labelme")
    found.names = dict.fromkeys(sorted(names), "")
    return found


def _read(
    path: Path, images: Path, pictures: Mapping[str, list[Path]], found: Annotations, renamed: list[str]
) -> Annotated:
    content = read_json(path)
    name = text(content.get("imagePath"), f"{path}: imagePath")
    # It is relative to the JSON file, on any system; the image is looked up by its name alone.
    try:
        image, inside = image_inside(images, PureWindowsPath(name).name, str(path))
    except NoImageError as error:
        image = _beside(path, pictures, content, error)
        inside = PurePosixPath(image.name)
    if image.name != PureWindowsPath(name).name:
        renamed.append(image.name)
    header = read_header(image)
    shapes = []
    for number, entry in enumerate(entries(content, "shapes", path), start=1):
        shape = _shape(entry, f"{path}: shape {number}", (header.width, header.height))
        if shape:
            shapes.append(shape)
        else:
            found.no_areas[str(entry["shape_type"])] += 1
    size = None
    if content.get("imageWidth") is not None and content.get("imageHeight") is not None:
        size = (
            whole(content["imageWidth"], f"{path}: imageWidth"),
            whole(content["imageHeight"], f"{path}: imageHeight"),
        )
    return Annotated(image, inside, tuple(shapes), str(path), size)


def _beside(path: Path, pictures: Mapping[str, list[Path]], content: Mapping[str, Any], error: NoImageError) -> Path:
    """Return the image with the name of a JSON file whose imagePath names none, as after renaming."""
    beside = pictures.get(path.stem, [])
    if len(beside) == 1:
        return beside[0]
    within = "; the JSON file holds a copy as imageData" if content.get("imageData") else ""
    raise InputError(f"{error.mistakes[0]}{within}") from None


def _shape(entry: dict[str, Any], what: str, image: tuple[int, int]) -> Shape | None:
    """Return an object of an image of this width and height; None where it has no area."""
    name, kind = text(entry.get("label"), f"{what}: label"), entry.get("shape_type") or "polygon"
    if kind in _NO_AREAS:
        return None
    if kind == "polygon":
        return Shape(name, ((outline(entry.get("points"), what),),))
    if kind not in ("rectangle", "circle", "mask"):
        raise InputError(f"{what}: its type {short(kind)} is not known")
    points = outline(entry.get("points"), what, fewest=2)
    (left, top), (right, bottom) = points[:2].min(axis=0), points[:2].max(axis=0)
    if kind == "rectangle":
        return Shape(name, ((np.array([[left, top], [right, top], [right, bottom], [left, bottom]]),),))
    if kind == "circle":
        return Shape(name, ((_circle(points),),))
    if right - left >= image[0] or bottom - top >= image[1]:
        raise InputError(f"{what}: its mask is larger than the image")
    return _mask(name, entry.get("mask"), what, (int(left), int(top)), (int(right), int(bottom)))


def _circle(points: Points) -> Points:
    """Return the outline of a circle by its centre and a point on it."""
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radius = np.hypot(*(points[1] - points[0]))
    return points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _mask(name: str, value: object, what: str, first: tuple[int, int], last: tuple[int, int]) -> Shape:
    """Return an object that is stored as a PNG of its box, whose last row and column belong to it."""
    width, height = last[0] - first[0] + 1, last[1] - first[1] + 1
    try:
        data = base64.b64decode(text(value, f"{what}: mask"), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{what}: its mask is damaged") from None
    # The header is looked at first: a small file can claim billions of pixels.
    if data[:8] != _PNG or len(data) < 33 or struct.unpack(">II", data[16:24]) != (width, height):
        raise InputError(f"{what}: its mask is no PNG of {width}x{height} pixels")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None or pixels.shape != (height, width):
        raise InputError(f"{what}: its mask is damaged")
    return Shape(name, runs=runs_of(pixels > 0, *first))
