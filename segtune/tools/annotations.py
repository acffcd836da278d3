"""Annotated images as plain data, and checks of what files of annotations say: nothing in them is trusted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.data.listing import SUFFIXES
from segtune.errors import InputError, counted, first_few, first_mistakes, one_line, short

_MOST_BYTES = 2**30  # of a file of annotations
_FARTHEST = 1e6  # pixels from the image's corner
_FEWEST = 3  # points of an outline

Points = npt.NDArray[np.float64]  # (N, 2): x to the right and y down, in pixels from the image's upper left corner


@dataclass(frozen=True)
class Runs:
    """A mask in a box as lengths of runs: outside, inside, outside and so on."""

    lengths: npt.NDArray[np.int64]
    height: int
    width: int
    left: int = 0
    top: int = 0
    by_column: bool = False  # runs go down the columns, as in COCO; otherwise along the rows

    def pixels(self) -> npt.NDArray[np.bool_]:
        """Return the mask of the box, (height, width)."""
        inside = np.arange(len(self.lengths)) % 2 == 1
        flat = np.repeat(inside, self.lengths)
        return flat.reshape(self.width, self.height).T if self.by_column else flat.reshape(self.height, self.width)


@dataclass(frozen=True)
class Shape:
    """One annotated object: polygons, each an outline and its holes, or runs."""

    name: str  # of its class
    polygons: tuple[tuple[Points, ...], ...] = ()
    runs: Runs | None = None

    @property
    def area(self) -> float:
        """Its size in pixels, without regard to other objects."""
        if self.runs:
            return float(self.runs.lengths[1::2].sum())
        return sum(_area(outline) - sum(map(_area, holes)) for outline, *holes in self.polygons)

    def scaled(self, width: int, height: int) -> Shape:
        """Return polygons whose points are multiplied by a width and a height."""
        sides = np.array([width, height], np.float64)
        return Shape(self.name, tuple(tuple(ring * sides for ring in polygon) for polygon in self.polygons))


def _area(ring: Points) -> float:
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


@dataclass(frozen=True)
class Annotated:
    """An image and its objects, in the order in which they are drawn."""

    image: Path
    inside: PurePosixPath  # the image's path in its folder
    shapes: tuple[Shape, ...]
    where: str  # the file that says so, for messages
    size: tuple[int, int] | None = None  # width and height that this file claims
    split: str = ""
    relative: bool = False  # points are shares of the image's sides

    def shapes_in(self, width: int, height: int) -> tuple[Shape, ...]:
        """Return the objects in pixels of the image, which has this size."""
        return tuple(shape.scaled(width, height) for shape in self.shapes) if self.relative else self.shapes


@dataclass
class Annotations:
    """What a reader found in files of annotations."""

    images: list[Annotated] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # the file's own number of each class, by name, in their order
    no_areas: Counter[str] = field(default_factory=Counter)  # kinds of objects that have no area, such as points
    mistakes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def check(self, source: Path, skip: bool) -> None:
        """Raise InputError where there are mistakes, no images, or, unless `skip` is set, objects without an area."""
        mistakes = first_mistakes(self.mistakes, source)
        if self.no_areas and not skip:
            kinds = ", ".join(f"{number} {kind}" for kind, number in self.no_areas.most_common())
            mistakes.append(f"{source}: objects without an outline cannot be drawn: {kinds}; --skip leaves them out")
        if not mistakes and not self.images:
            mistakes.append(f"{source}: names no image")
        if not mistakes and not self.names:
            mistakes.append(f"{source}: holds no object and no class, so masks would be background alone")
        if mistakes:
            raise InputError(mistakes)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; InputError where the file is none, or too large."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InputError(f"{path}: has more than {_MOST_BYTES >> 30} GiB; split it")
        content = json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a JSON object")
    return content


def entries(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """Return the list of objects under a key; InputError where there is none."""
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InputError(f"{path}: has no list of objects {key!r}")
    return found


def whole(value: object, what: str) -> int:
    """Return a whole number of a file; InputError that says what it should be."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise InputError(f"{what} is a whole number, but got {short(value)}")
    return value


def text(value: object, what: str) -> str:
    """Return a text of a file; InputError that says what it should be."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InputError(f"{what} is a text, but got {short(value)}")
    return value


def outline(value: object, what: str, fewest: int = _FEWEST) -> Points:
    """Return points, (N, 2), from a list of pairs or of x and y in turn; InputError where it is none."""
    try:
        points = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} is no list of points") from None
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"{what} is no list of points")
    if not (np.isfinite(points).all() and (np.abs(points) <= _FARTHEST).all()):
        raise InputError(f"{what} has a point that is no number or lies more than {_FARTHEST:.0f} pixels away")
    if len(points) < fewest:
        raise InputError(f"{what} has {counted(len(points), 'point')}; at least {fewest} are needed")
    return points


def run_lengths(values: Iterable[object], what: str, pixels: int) -> npt.NDArray[np.int64]:
    """Return lengths of runs that cover so many pixels; InputError where they do not."""
    lengths = [whole(value, f"{what}: a length") for value in values]
    if min(lengths, default=0) < 0 or sum(lengths) != pixels:
        raise InputError(f"{what}: the lengths of its runs do not add up to the {pixels} pixels of its box")
    return np.array(lengths, np.int64)


class NoImageError(InputError):
    """An image that annotations name is not in the folder."""


def image_inside(folder: Path, name: object, what: str) -> tuple[Path, PurePosixPath]:
    """Return the image of this name in a folder, and its path in there; or the one directly in the folder.

    Raises InputError where the name leads out of the folder or has another format, and NoImageError where there is no
    such image.
    """
    given = text(name, f"{what}: the name of an image")
    inside = PurePosixPath(given.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or PureWindowsPath(given).drive:
        raise InputError(f"{what}: the image {short(given)} lies outside of {folder}")
    if inside.suffix.lower() not in SUFFIXES:
        raise InputError(f"{what}: the image {short(given)} has none of the formats {first_few(SUFFIXES, 9)}")
    for path in (folder / inside, folder / inside.name):
        if path.is_file():
            return path, inside
    raise NoImageError(f"{what}: {folder / inside}: no such image; --images names the folder of the images")


def flat_names(images: Iterable[Annotated], source: Path) -> list[str]:
    """Return a name for each image of a split: without folders, or joined with them where names repeat."""
    listed = [entry.inside for entry in images]
    times = Counter(inside.stem for inside in listed)
    names = [inside.stem if times[inside.stem] == 1 else "_".join(inside.with_suffix("").parts) for inside in listed]
    if twice := sorted(name for name, number in Counter(names).items() if number > 1):
        raise InputError(f"{source}: several images would be called {first_few(twice)}; rename some of them")
    return names
