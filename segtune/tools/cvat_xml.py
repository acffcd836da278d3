"""Read "CVAT for images" XML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

import numpy as np

from segtune.errors import InputError, one_line, short
from segtune.tools.annotations import (
    Annotated,
    Annotations,
    Points,
    Runs,
    Shape,
    image_inside,
    outline,
    run_lengths,
    text,
)

_CORNERS = 360  # of an ellipse
_CHUNK = 2**20  # bytes
_AREAS = ("polygon", "box", "ellipse", "mask")
_NO_AREAS = ("polyline", "points", "cuboid", "skeleton")

Attributes = Mapping[str, str]


class _Reader:
    """Collects images and shapes while a file is parsed, whose size does not matter."""

    def __init__(self, path: Path, images: Path) -> None:
        self._path, self._images = path, images
        self.found = Annotations()
        self._stack: list[str] = []
        self._text = ""
        self._image: Attributes | None = None
        self._shapes: list[tuple[int, Shape]] = []

    def start(self, tag: str, attributes: Attributes) -> None:
        """Handle the begin of an element."""
        if not self._stack and tag != "annotations":
            raise InputError(f"{self._path}: is no XML of CVAT: it begins with {short(tag)}")
        if tag == "track":
            raise InputError(f"{self._path}: is 'CVAT for video'; export it as 'CVAT for images'")
        self._stack.append(tag)
        self._text = ""
        if tag == "image":
            self._image, self._shapes = dict(attributes), []
        elif self._image is not None and tag in _NO_AREAS:
            self.found.no_areas[tag] += 1
        elif self._image is not None and tag in _AREAS and "skeleton" not in self._stack:
            try:
                what = f"{self._path}: image {short(self._image.get('name'))}"
                order = int(_number(attributes, "z_order", what, "0"))
                self._shapes.append((order, _shape(tag, attributes, f"{what}: a {tag}")))
            except InputError as error:
                self.found.mistakes += error.mistakes

    def characters(self, data: str) -> None:
        """Handle text between elements; only names of labels matter, which are short."""
        if len(self._text) < 1000:
            self._text += data

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        self._stack.pop()
        if tag == "name" and self._stack[-2:] == ["labels", "label"]:
            name = text(self._text.strip(), f"{self._path}: the name of a label")
            self.found.names.setdefault(name, "")
        elif tag == "image" and self._image is not None:
            self._add_image(self._image)
            self._image = None

    def _add_image(self, image: Attributes) -> None:
        shapes = [shape for _, shape in sorted(self._shapes, key=lambda entry: entry[0])]  # stable
        try:
            file, inside = image_inside(self._images, image.get("name"), str(self._path))
            size = [int(_number(image, key, f"{self._path}: image {inside}")) for key in ("width", "height")]
        except InputError as error:
            self.found.mistakes += error.mistakes
            return
        self.found.images.append(Annotated(file, inside, tuple(shapes), str(self._path), (size[0], size[1])))
        for shape in shapes:
            self.found.names.setdefault(shape.name, "")


def read_cvat(path: Path, images: Path) -> Annotations:
    """Read the images and objects of an XML file; images lie in the folder `images`.

    Objects are drawn by their z_order, and in the order of the file where it is the same. A document type, which could
    name other files or grow without end, is refused.
    """
    reader = _Reader(path, images)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters

    def refuse(*_: object) -> None:
        raise InputError(f"{path}: an XML of CVAT has no document type and no entities")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not XML ({one_line(error)})") from None
    return reader.found


def _number(attributes: Attributes, key: str, what: str, default: str | None = None) -> float:
    value = attributes.get(key, default)
    try:
        number = float(value) if value is not None else np.nan
    except ValueError:
        number = np.nan
    if not abs(number) < 2**31:
        raise InputError(f"{what}: {key} is no number, but {short(value)}")
    return number


def _shape(tag: str, attributes: Attributes, what: str) -> Shape:
    name = text(attributes.get("label"), f"{what}: label")
    if tag == "polygon":
        pairs = [pair.split(",") for pair in attributes.get("points", "").split(";")]
        return Shape(name, ((outline(pairs, what),),))
    if tag == "mask":
        left, top, width, height = (int(_number(attributes, key, what)) for key in ("left", "top", "width", "height"))
        if width <= 0 or height <= 0:
            raise InputError(f"{what}: its box is empty")
        try:
            lengths = [int(part) for part in attributes.get("rle", "").split(",")]
        except ValueError:
            raise InputError(f"{what}: its runs are damaged") from None
        return Shape(name, runs=Runs(run_lengths(lengths, what, width * height), height, width, left, top))
    if tag == "box":
        x1, y1, x2, y2 = (_number(attributes, key, what) for key in ("xtl", "ytl", "xbr", "ybr"))
        ring = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    else:
        x, y, across, down = (_number(attributes, key, what) for key in ("cx", "cy", "rx", "ry"))
        angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        centre = np.array([x, y])
        ring = centre + np.stack([across * np.cos(angles), down * np.sin(angles)], axis=1)
    return Shape(name, ((outline(_turned(ring, centre, _number(attributes, "rotation", what, "0")), what),),))


def _turned(ring: Points, centre: Points, degrees: float) -> Points:
    """Turn points clockwise, as seen, around a centre."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return centre + (ring - centre) @ np.array([[cosine, sine], [-sine, cosine]])
