"""Outlines of predicted objects, found block of rows by block of rows, and written as a GeoPackage."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio import features

from segtune.data.georeference import Place, Points
from segtune.data.labels import BACKGROUND, Indices, Labels
from segtune.errors import InputError
from segtune.evaluation.predict import probabilities
from segtune.evaluation.scene_output import Rows
from segtune.evaluation.scene_source import SceneSource
from segtune.files import temporary

_AT_ONCE = 5000  # objects that are written together
_FIELDS = ("class", "name", "area", "pixels", "probability")


def check_packages() -> None:
    """Raise InputError where the packages for outlines are not installed."""
    try:
        import pyogrio  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise InputError(f"--polygons: needs {error.name}; pip install 'segtune[polygons]' brings it") from None


def place_remark(source: SceneSource) -> str | None:
    """Return a line about a scene whose outlines are in pixels; None where their place is known."""
    if source.place.located(source.height):
        return None
    return (
        f"warning: the place of {source.name} is not known by a transform or by ground control points, so outlines are "
        f"in pixels, without a coordinate system"
    )


@dataclass
class _Object:
    """A part of an object, or all of it: connected pixels of one class that share sides."""

    index: int  # of the class
    pixels: int
    probability: float  # sum over its pixels
    parts: list[Any] = field(default_factory=list)  # polygons in pixels, (column, row)
    into: _Object | None = None  # the object that it was found to be part of

    def whole(self) -> _Object:
        found = self
        while found.into:
            found = found.into
        return found

    def join(self, other: _Object) -> None:
        """Take another object in, unless it is the same."""
        if other is not self:
            self.pixels += other.pixels
            self.probability += other.probability
            self.parts += other.parts
            other.into, other.parts = self, []


@dataclass(frozen=True)
class Outline:
    """An object's outline and what is known of it."""

    polygon: Any  # of shapely, in pixels: (column, row)
    index: int  # of the class
    pixels: int
    probability: float  # mean of its class over its pixels


class Outlines:
    """Objects of a scene whose rows come block by block.

    Only what touches the last row is kept: memory depends on the width of the scene, and on the outlines of objects
    that are not finished yet.
    """

    def __init__(self, width: int) -> None:
        self._top = 0
        self._edge = np.zeros(width, np.int32)  # numbers in `_open` of the objects in the last row; 0 for none
        self._edge_index = np.zeros(width, np.uint8)
        self._open: dict[int, _Object] = {}

    def add(self, indices: Indices, probability: npt.NDArray[np.float32]) -> Iterator[Outline]:
        """Take the next rows, (H, W): indices, with 0 where there is no object, and the probabilities of these classes.

        Yields the objects that end in them.
        """
        parts = _components(indices)
        found = self._found(parts, indices, probability)
        same = (self._edge > 0) & (parts[0] > 0) & (self._edge_index == indices[0])
        for above, below in np.unique(np.stack([self._edge[same], parts[0][same]], axis=1), axis=0).tolist():
            found[below].whole().join(self._open[above].whole())
        ended = [*self._open.values(), *found.values()]
        self._edge, self._edge_index = parts[-1].copy(), indices[-1].copy()
        self._top += len(indices)
        self._open = {number: found[number].whole() for number in np.unique(self._edge).tolist() if number}
        yield from _outlines(ended, list(self._open.values()))

    def close(self) -> Iterator[Outline]:
        """Yield the objects that reach the last row."""
        yield from _outlines(list(self._open.values()), [])
        self._open = {}

    def _found(
        self, parts: npt.NDArray[np.int32], indices: Indices, probability: npt.NDArray[np.float32]
    ) -> dict[int, _Object]:
        """Return the objects in some rows, by the number of their component."""
        from shapely.geometry import shape

        pixels = np.bincount(parts.ravel())
        sums = np.bincount(parts.ravel(), weights=probability.ravel())
        index_of = np.zeros(len(pixels), np.uint8)
        index_of[parts] = indices
        found = {
            number: _Object(int(index_of[number]), int(pixels[number]), float(sums[number]))
            for number in range(1, len(pixels))
        }
        place = Affine.translation(0, self._top)
        for outline, number in features.shapes(parts, mask=parts > 0, connectivity=4, transform=place):
            found[int(number)].parts.append(shape(outline))
        return found


def _components(indices: Indices) -> npt.NDArray[np.int32]:
    """Number the connected pixels of each class, (H, W), from 1 on; 0 is background."""
    numbers, count = np.zeros(indices.shape, np.int32), 0
    for index in np.unique(indices[indices != BACKGROUND]).tolist():
        more, own = cv2.connectedComponents((indices == index).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        numbers = np.where(own > 0, own + count, numbers)
        count += more - 1
    return numbers


def _outlines(objects: Sequence[_Object], still_open: Sequence[_Object]) -> Iterator[Outline]:
    """Yield the outlines of objects that are whole, and not open; each once."""
    from shapely import union_all

    left = {id(thing) for thing in still_open}
    for thing in objects:
        if thing.into or id(thing) in left:
            continue
        left.add(id(thing))
        polygon = thing.parts[0] if len(thing.parts) == 1 else union_all(thing.parts).simplify(0)
        yield Outline(polygon, thing.index, thing.pixels, thing.probability / thing.pixels)


class PolygonFile:
    """A GeoPackage that gets outlines.

    Parameters
    ----------
    path: of a file that does not exist yet.
    labels: of the classes.
    place: the scene's; outlines are in its map units. Where they are not known, outlines are in pixels, with rows
        downwards, and the file has no coordinate system.
    size: height and width of the scene in pixels.
    simplify: metres by which outlines may be simplified, or pixels where the scene's resolution is not known.
    """

    def __init__(self, path: Path, labels: Labels, place: Place, size: tuple[int, int], simplify: float | None) -> None:
        self._path, self._labels, self._place, self._height = path, labels, place, size[0]
        self._resolution = place.resolution(*size)
        self._tolerance = simplify or 0
        self._sides = np.array(place.pixel_sides(*size) or (1.0, 1.0))  # of a pixel, in the unit of the tolerance
        self._crs = place.crs.to_wkt() if place.crs and place.located(self._height) else None
        self.written = 0
        self._write([])

    def write(self, outlines: Iterable[Outline]) -> None:
        """Write outlines, some thousand at a time."""
        iterator = iter(outlines)
        while some := list(islice(iterator, _AT_ONCE)):
            self._write(some)

    def _write(self, outlines: Sequence[Outline]) -> None:
        import pyogrio
        from shapely import simplify, to_wkb, transform

        polygons = np.array([outline.polygon for outline in outlines], object)
        areas = self._areas(outlines)
        if self._tolerance and len(polygons):
            on_ground = transform(polygons, lambda points: points * self._sides)
            polygons = transform(simplify(on_ground, self._tolerance), lambda points: points / self._sides)
        if len(polygons):
            polygons = transform(polygons, self._on_map)
        labels = [self._labels.classes[outline.index - 1] for outline in outlines]
        values = [
            np.array(labels, np.int64),
            np.array([self._labels.text(label) for label in labels], object),
            areas,
            np.array([outline.pixels for outline in outlines], np.int64),
            np.array([outline.probability for outline in outlines], np.float64),
        ]
        unit = "square metres on the ground" if self._resolution else "pixels, since the place is not known"
        kind = {"layer": "objects", "driver": "GPKG", "geometry_type": "Polygon", "crs": self._crs}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")  # a scene may have none
            if self._path.exists():
                pyogrio.raw.write(self._path, to_wkb(polygons), values, list(_FIELDS), append=True, **kind)
            else:
                about = f"outlines of predicted objects; area is in {unit}"
                pyogrio.raw.write(self._path, to_wkb(polygons), values, list(_FIELDS), DESCRIPTION=about, **kind)
        self.written += len(outlines)

    def _on_map(self, points: Points) -> Points:
        """Return the coordinates, (N, 2), of points in pixels."""
        found = self._place.on_map(points)
        return points * (1, -1) if found is None else found

    def _areas(self, outlines: Sequence[Outline]) -> npt.NDArray[np.float64]:
        """Return the areas of objects: square metres where they are known, otherwise pixels."""
        from shapely import centroid, get_coordinates

        pixels = np.array([outline.pixels for outline in outlines], np.float64)
        if not self._resolution or not outlines:
            return pixels
        middles = get_coordinates(centroid([outline.polygon for outline in outlines]))
        each = self._place.pixel_areas(middles, self._height)
        return pixels * (np.nan if each is None else each)


class PolygonWriter:
    """Finds the objects in the rows of a scene and writes them to a GeoPackage as they end."""

    def __init__(self, file: PolygonFile, labels: Labels, width: int) -> None:
        self._file, self._labels, self._outlines = file, labels, Outlines(width)

    @property
    def written(self) -> int:
        """The number of objects that were written."""
        return self._file.written

    def write(self, rows: Rows) -> None:
        """Take the next rows of the scene."""
        found = probabilities(rows.logits, self._labels).numpy()
        output = np.clip(rows.indices.astype(np.int64) - self._labels.first, 0, None)
        own = np.take_along_axis(found, output[None], axis=0)[0]
        self._file.write(self._outlines.add(np.where(rows.valid, rows.indices, np.uint8(BACKGROUND)), own))

    def close(self) -> None:
        """Write the objects that reach the last row."""
        self._file.write(self._outlines.close())


@contextmanager
def polygon_writer(path: Path, source: SceneSource, labels: Labels, simplify: float | None) -> Iterator[PolygonWriter]:
    """Open a GeoPackage for the objects of a scene; it gets its name when the block ends without an error."""
    with temporary.workplace(path) as work:
        file = PolygonFile(work / "objects.gpkg", labels, source.place, (source.height, source.width), simplify)
        yield PolygonWriter(file, labels, source.width)
        os.replace(work / "objects.gpkg", path)
