"""Outlines of objects as masks: labelled polygons in a scene's pixels, which are burnt part by part.

They are written to a GeoPackage, whose index finds those of a part, so memory depends neither on the number of outlines
nor on the size of the scene.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio import features
from rasterio._err import CPLE_BaseError  # errors of PROJ that rasterio does not wrap
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform as reproject
from rasterio.warp import transform_bounds

from segtune.data.alignment import Georeference
from segtune.data.raster import Span
from segtune.errors import InputError, counted, first_few, nearest_or_all, one_line

LARGEST_LABEL = 2**31 - 1
_AT_ONCE = 20_000  # outlines
_PIECES = 200  # of an edge as long as the scene: its ends alone would not tell how it runs in another system
_TURN = 360.0  # degrees of longitude
_MOST_VALUES = 12  # that a message lists
_GPKG = (b"GPKG", b"GP10", b"GP11", b"GP12")  # the application's mark in a GeoPackage, at byte 68
_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Labelling:
    """Which outlines get which label."""

    layer: str | None = None  # of the file
    attribute: str | None = None  # whose value decides; None gives all outlines the label 1
    labels: Mapping[str, int] | None = None  # by the value as text; None takes whole numbers as they are


@dataclass(frozen=True)
class Outlines:
    """Labelled polygons in a scene's pixels."""

    path: Path  # a GeoPackage
    dtype: str  # of the mask: the smallest that holds the labels
    number: int


def check_packages() -> None:
    """Raise InputError where the packages for outlines are not installed."""
    try:
        import pyogrio  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise InputError(f"--mask: outlines need {error.name}; pip install 'segtune[polygons]' brings it") from None


def labels_of(path: Path, how: Labelling) -> tuple[str, dict[str, int]]:
    """Return a file's layer and the labels that its outlines get, by the attribute's value as text.

    Raises InputError where the file, the layer or the attribute cannot be read, or where values are no labels.
    """
    _check_format(path)
    layer = _layer(path, how.layer)
    if how.attribute is None:
        return layer, {"": 1}
    values = _values(path, layer, how.attribute)
    if how.labels is not None:
        if not values & how.labels.keys():
            held = first_few(sorted(values), _MOST_VALUES) or "nothing"
            raise InputError(f"--labels: {path}: {how.attribute} has none of these values; it holds {held}")
        return layer, dict(how.labels)
    odd = sorted(value for value in values if not value.isdecimal() or int(value) > LARGEST_LABEL)
    if odd:
        example = " ".join(f"{value}:{number}" for number, value in enumerate(sorted(values)[:_MOST_VALUES], start=1))
        raise InputError(
            f"--attribute: {path}: {how.attribute} holds {first_few(odd, 3)}, which is no label; --labels says which "
            f"label each value gets: --labels {example}"
        )
    return layer, {value: int(value) for value in values}


def dtype_of(labels: Sequence[int]) -> str:
    """Return the smallest type of pixels that holds labels."""
    return next(name for name in ("uint8", "uint16", "int32") if max(labels, default=0) <= np.iinfo(name).max)


def prepare(
    path: Path, layer: str, attribute: str | None, labels: Mapping[str, int], scene: Georeference, to: Outlines
) -> tuple[Outlines, list[str]]:
    """Write the outlines that lie in a scene to the GeoPackage `to`, in pixels and labelled.

    Returns it with their number, and a line for each kind of outlines that is left out.
    """
    left_out: Counter[str] = Counter()
    number = 0
    _write(to.path, [], [], [])
    for geometry, values, crs in _read(path, layer, attribute, scene):
        polygons, reasons = _in_pixels(geometry, crs, scene)
        names = [_text(value) for value in values] if values is not None else [""] * len(polygons)
        kept = []
        for place, name in enumerate(names):
            unlisted = f"{attribute} is {name or 'empty'}" if name not in labels else ""
            if reason := reasons[place] or unlisted:
                left_out[reason] += 1
            else:
                kept.append(place)
        moved, places = _turned(polygons[kept], scene)
        _write(to.path, moved, [labels[names[kept[place]]] for place in places], number + places)
        number += len(kept)
    lines = [f"{path}: left out: {counted(count, 'outline')}: {reason}" for reason, count in left_out.most_common()]
    return Outlines(to.path, to.dtype, number), lines


def burnt(outlines: Outlines, span: Span, background: int) -> npt.NDArray[Any]:
    """Return the labels, (H, W), of some rows and columns; a later outline of the file covers an earlier one."""
    import pyogrio
    from shapely import from_wkb

    (top, bottom), (left, right) = span
    _, _, geometry, (labels, order) = pyogrio.raw.read(outlines.path, bbox=(left, top, right, bottom))
    shape = (bottom - top, right - left)
    if not len(labels):
        return np.full(shape, background, outlines.dtype)
    polygons, ranks = from_wkb(geometry), np.argsort(order, kind="stable")
    pairs = [(polygons[rank], int(labels[rank])) for rank in ranks]
    place = Affine.translation(left, top)
    return features.rasterize(pairs, shape, fill=background, transform=place, dtype=outlines.dtype)


def _check_format(path: Path) -> None:
    """Raise InputError unless the content of a file is that of a GeoPackage, a GeoJSON or a Shapefile.

    GDAL knows formats that name other files and servers.
    """
    with path.open("rb") as file:
        head = file.read(512)
    kind = path.suffix.lower()
    sound = {
        ".gpkg": head.startswith(b"SQLite format 3\0") and head[68:72] in _GPKG,
        ".shp": head.startswith(b"\0\0\x27\x0a"),
    }.get(kind, head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{")
    if not sound:
        raise InputError(f"{path}: cannot be read as outlines: its content is no GeoPackage, GeoJSON or Shapefile")


def _layer(path: Path, wanted: str | None) -> str:
    import pyogrio

    try:
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
    except (pyogrio.errors.DataSourceError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as outlines ({one_line(error)})") from None
    if wanted is None:
        if len(names) != 1:
            raise InputError(f"{path}: has {counted(len(names), 'layer')}; --layer takes one of {first_few(names)}")
        return names[0]
    if wanted not in names:
        raise InputError(f"--layer: {path}: has no layer {wanted!r}{nearest_or_all(wanted, names)}")
    return wanted


def _values(path: Path, layer: str, attribute: str) -> set[str]:
    """Return all values of an attribute as text, without empty ones."""
    import pyogrio

    fields = list(pyogrio.read_info(path, layer=layer)["fields"])
    if attribute not in fields:
        raise InputError(f"--attribute: {path}: has no attribute {attribute!r}{nearest_or_all(attribute, fields)}")
    _, _, _, (values,) = pyogrio.raw.read(path, layer=layer, columns=[attribute], read_geometry=False)
    return {text for text in map(_text, np.unique(values[[value is not None for value in values]])) if text}


def _text(value: Any) -> str:
    """Return an attribute's value as it is typed after --labels: whole numbers without a point, nothing as empty."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and value == int(value) else str(value)


def _read(
    path: Path, layer: str, attribute: str | None, scene: Georeference
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None, CRS]]:
    """Yield the outlines that may lie in a scene, some thousand at a time: WKB, values, coordinate system."""
    import pyogrio

    wkt = pyogrio.read_info(path, layer=layer)["crs"]
    if not wkt or "Undefined" in wkt:
        raise InputError(f"{path}: has no coordinate system, so where its outlines lie is not known; write it with one")
    try:
        crs = CRS.from_user_input(wkt)
        left, bottom, right, top = _bounds(scene, crs)
    except (RasterioError, CPLE_BaseError) as error:
        raise InputError(f"{path}: its coordinate system does not reach the scene ({one_line(error)})") from None
    columns, start = [attribute] if attribute else [], 0
    # Outlines beyond the meridian of 180 degrees count on from the other side.
    around = _TURN if crs.is_geographic and right - left > _TURN - 1e-9 else _across(crs, left, right)
    box = (left - around, bottom, right + around, top)
    places = [(left + turn, bottom, right + turn, top) for turn in (-around, 0, around)]
    while True:
        _, _, geometry, values = pyogrio.raw.read(
            path, layer=layer, columns=columns, force_2d=True, bbox=box, skip_features=start, max_features=_AT_ONCE
        )
        near = _meeting(geometry, places) if around else np.ones(len(geometry), bool)
        if near.any():
            yield geometry[near], values[0][near] if columns else None, crs
        if len(geometry) < _AT_ONCE:
            return
        start += _AT_ONCE


def _bounds(scene: Georeference, crs: CRS) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a scene in a system; right is above 180 degrees where it lies across."""
    bounds = array_bounds(scene.height, scene.width, scene.transform)
    left, bottom, right, top = transform_bounds(scene.crs, crs, *bounds) if crs != scene.crs else bounds
    return left, bottom, right + _TURN if left > right else right, top


def _across(crs: CRS, left: float, right: float) -> float:
    """Return a whole turn, in degrees, where a scene lies across the meridian of 180 degrees; else 0."""
    return _TURN if crs.is_geographic and (left < -_TURN / 2 or right > _TURN / 2) else 0.0


def _meeting(geometry: npt.NDArray[Any], places: Sequence[tuple[float, float, float, float]]) -> npt.NDArray[np.bool_]:
    """Return which outlines, as WKB, meet one of some boxes; those without a geometry count as if they did."""
    from shapely import box, from_wkb, intersects, is_empty, is_missing, union_all

    found = from_wkb(geometry, on_invalid="ignore")
    near: npt.NDArray[np.bool_] = intersects(found, union_all([box(*place) for place in places]))
    return near | is_missing(found) | is_empty(found)


def _in_pixels(geometry: npt.NDArray[Any], crs: CRS, scene: Georeference) -> tuple[npt.NDArray[Any], list[str]]:
    """Return polygons in pixels, (column, row), and why each cannot be used; empty where it can."""
    from shapely import from_wkb, get_coordinates, segmentize, transform

    found = from_wkb(geometry, on_invalid="ignore")
    reasons = [
        "they have no geometry"
        if one is None or one.is_empty
        else ""
        if one.geom_type in _AREAS
        else f"they are no areas ({one.geom_type})"
        for one in found
    ]
    found[[bool(reason) for reason in reasons]] = None
    if crs != scene.crs:
        left, bottom, right, top = _bounds(scene, crs)
        found = segmentize(found, max(right - left, top - bottom, 1e-9 * _PIECES) / _PIECES)

        def to_scene(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            try:
                return np.stack(reproject(crs, scene.crs, *points.T), axis=1)
            except (RasterioError, CPLE_BaseError):
                return np.full(points.shape, np.inf)

        found = transform(found, to_scene)

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        placed = np.stack(~scene.transform @ tuple(points.T), axis=1)
        placed[~np.isfinite(placed).all(axis=1)] = np.inf  # a ring that begins with NaN would not be closed: NaN != NaN
        return placed

    with np.errstate(invalid="ignore"):
        found = _joined(found, scene, crs != scene.crs)
        placed = transform(found, to_pixels)
    for place, polygon in enumerate(placed):
        if not reasons[place] and not np.isfinite(get_coordinates(polygon)).all():
            reasons[place] = "they lie outside of the reach of the scene's coordinate system"
    return placed, reasons


def _joined(found: npt.NDArray[Any], scene: Georeference, reprojected: bool) -> npt.NDArray[Any]:
    """Return areas in a scene's system, where edges that jump between -180 and 180 degrees take the short way.

    Reprojecting makes such edges, and files may hold them. A scene of half a turn or more takes the edges of a file as
    they are written, because an edge of 200 degrees may be meant there.
    """
    from shapely import bounds

    if not scene.crs or not scene.crs.is_geographic:
        return found
    west, _, east, _ = _bounds(scene, scene.crs)
    if not reprojected and (not _across(scene.crs, west, east) or east - west >= _TURN / 2):
        return found
    limits = bounds(found)
    joined = found.copy()
    for place in np.flatnonzero(limits[:, 2] - limits[:, 0] > _TURN / 2):
        joined[place] = _joined_area(found[place], whole_turns=not reprojected)
    return joined


def _joined_area(area: Any, whole_turns: bool) -> Any:
    """Return an area whose rings have no jumps; infinite where a ring runs around a pole.

    `whole_turns` leaves polygons that are as wide as the globe as they are.
    """
    from shapely import MultiPolygon, Polygon, get_coordinates, get_parts, transform

    parts = []
    for part in get_parts(area):
        west, _, east, _ = part.bounds
        if whole_turns and east - west >= _TURN:
            parts.append(part)
            continue
        rings = [get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
        for ring in rings:
            ring[:, 0] = np.unwrap(ring[:, 0], period=_TURN)
            if not abs(ring[-1, 0] - ring[0, 0]) < 1e-6:
                return transform(area, lambda points: np.full(points.shape, np.inf))
            ring[-1, 0] = ring[0, 0]
            # a hole lies in its shell
            ring[:, 0] += _TURN * np.ceil((rings[0][:, 0].min() - ring[:, 0].min()) / _TURN - 1e-9)
        parts.append(Polygon(rings[0], rings[1:]))
    return MultiPolygon(parts)


def _turned(polygons: npt.NDArray[Any], scene: Georeference) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Return the polygons, in pixels, that meet a scene as they are or a turn to the west or east, and their places.

    Only whole polygons are moved: those with some moved corners would be torn. The second array says from which
    polygon each one is. Scenes that are not in degrees of longitude get all polygons as they are.
    """
    from shapely import bounds, transform

    if not scene.crs or not scene.crs.is_geographic:
        return polygons, np.arange(len(polygons))
    step = np.array(~scene.transform @ (_TURN, 0.0)) - np.array(~scene.transform @ (0.0, 0.0))
    limits, size = bounds(polygons), (scene.width, scene.height)
    moved, places = [], []
    for turns in (-1, 0, 1):
        low, high = limits[:, :2] + turns * step, limits[:, 2:] + turns * step
        meeting = np.flatnonzero(((low < size) & (high > 0)).all(axis=1))
        moved.append(transform(polygons[meeting], lambda points, by=turns * step: points + by))
        places.append(meeting)
    return np.concatenate(moved), np.concatenate(places)


def _write(
    path: Path,
    polygons: Sequence[Any] | npt.NDArray[Any],
    labels: Sequence[int],
    order: Sequence[int] | npt.NDArray[np.intp],
) -> None:
    import pyogrio
    from shapely import to_wkb

    values = [np.array(labels, np.int64), np.array(order, np.int64)]
    kind = {"layer": "outlines", "driver": "GPKG", "geometry_type": "MultiPolygon", "promote_to_multi": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # they are in pixels
        wkb = to_wkb(np.array(polygons, object))
        pyogrio.raw.write(path, wkb, values, ["label", "number"], append=path.exists(), crs=None, **kind)
