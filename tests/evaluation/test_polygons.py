"""Outlines of objects, found block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine
from rasterio import features
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from segtune.data.georeference import Place
from segtune.data.labels import Labels
from segtune.evaluation.polygons import Outline, Outlines, PolygonFile

pyogrio = pytest.importorskip("pyogrio")
shapely = pytest.importorskip("shapely")

LABELS = Labels((5, 300), (), True, 0, ("house", "road"))
UTM = Place(CRS.from_epsg(32632), Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000), (), None)


def blobs(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(seed).random((height, width, 2), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.where(smooth[..., 0] > 0.52, 1, np.where(smooth[..., 1] > 0.53, 2, 0)).astype(np.uint8)


def outlines(indices: npt.NDArray[np.uint8], block: int, probability: npt.NDArray[np.float32]) -> list[Outline]:
    found = Outlines(indices.shape[1])
    blocks = [slice(top, top + block) for top in range(0, len(indices), block)]
    ended = [outline for rows in blocks for outline in found.add(indices[rows], probability[rows])]
    return [*ended, *found.close()]


@pytest.mark.parametrize("block", [1, 7, 16, 200])
@pytest.mark.parametrize("seed", range(3))
def test_objects_are_those_of_the_whole_mask_whatever_the_blocks(block: int, seed: int) -> None:
    indices = blobs(90, 70, seed)
    probability = np.random.default_rng(seed).random(indices.shape, np.float32)
    found = outlines(indices, block, probability)
    whole = [
        (shapely.geometry.shape(shape), int(value))
        for shape, value in features.shapes(indices, mask=indices > 0, connectivity=4)
    ]
    assert len(found) == len(whole) > 10
    by_place = {polygon.normalize().simplify(0).normalize().wkt: value for polygon, value in whole}
    for outline in found:
        assert outline.polygon.geom_type == "Polygon"
        assert outline.polygon.is_valid
        assert outline.pixels == outline.polygon.area
        assert by_place[outline.polygon.simplify(0).normalize().wkt] == outline.index
        inside = features.rasterize([outline.polygon], indices.shape) > 0
        assert outline.probability == pytest.approx(probability[inside].mean(), abs=1e-5)


def test_objects_of_different_classes_that_touch_stay_apart() -> None:
    indices = np.repeat(np.array([[1, 1, 2, 2]], np.uint8), 6, axis=0)
    indices[3:] = indices[3:, ::-1]
    found = outlines(indices, 3, np.ones(indices.shape, np.float32))
    assert sorted((outline.index, outline.pixels) for outline in found) == [(1, 6), (1, 6), (2, 6), (2, 6)]


def test_a_geopackage_holds_class_name_area_and_probability(tmp_path: Path) -> None:
    indices = np.zeros((20, 30), np.uint8)
    indices[2:6, 4:14] = 1
    indices[10:20, 20:22] = 2
    file = PolygonFile(tmp_path / "objects.gpkg", LABELS, UTM, (20, 30), None)
    file.write(outlines(indices, 8, np.full(indices.shape, 0.75, np.float32)))
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "objects.gpkg")
    assert CRS.from_user_input(meta["crs"]) == UTM.crs
    table = dict(zip(meta["fields"], fields, strict=True))
    order = np.argsort(table["class"])
    assert table["class"][order].tolist() == [5, 300]
    assert table["name"][order].tolist() == ["5 house", "300 road"]
    assert table["pixels"][order].tolist() == [40, 20]
    assert table["area"][order].tolist() == [160, 80]
    assert table["probability"].tolist() == [0.75, 0.75]
    house = shapely.from_wkb(geometry)[order[0]]
    assert house.bounds == (500_008, 4_999_988, 500_028, 4_999_996)


def test_a_scene_without_objects_gives_an_empty_layer(tmp_path: Path) -> None:
    PolygonFile(tmp_path / "none.gpkg", LABELS, UTM, (20, 30), None).write([])
    assert pyogrio.read_info(tmp_path / "none.gpkg")["features"] == 0


def test_simplify_is_in_metres(tmp_path: Path) -> None:
    steps = np.tril(np.ones((40, 40), np.uint8))
    corners = []
    for metres in (None, 5.0):
        file = PolygonFile(tmp_path / f"{metres}.gpkg", LABELS, UTM, (40, 40), metres)
        file.write(outlines(steps, 16, np.ones(steps.shape, np.float32)))
        _, _, geometry, _ = pyogrio.raw.read(tmp_path / f"{metres}.gpkg")
        corners.append(shapely.get_num_coordinates(shapely.from_wkb(geometry))[0])
    assert corners[0] > 80
    assert corners[1] < 8


def test_simplify_is_in_metres_in_both_directions(tmp_path: Path) -> None:
    # Near 60 degrees a pixel of degrees is 11.1 m high and 5.6 m wide.
    place = Place(CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 60), (), None)
    corners = []
    for notch in (np.s_[9, 14:17], np.s_[14:17, 9]):
        indices = np.zeros((40, 40), np.uint8)
        indices[10:30, 10:30] = 1
        indices[notch] = 1
        path = tmp_path / f"{len(corners)}.gpkg"
        PolygonFile(path, LABELS, place, (40, 40), 8.0).write(outlines(indices, 16, np.ones(indices.shape, np.float32)))
        corners.append(shapely.get_num_coordinates(shapely.from_wkb(pyogrio.raw.read(path)[2]))[0])
    high, wide = corners
    assert wide < high


def test_without_a_place_outlines_are_in_pixels_with_rows_downwards(tmp_path: Path) -> None:
    indices = np.zeros((10, 10), np.uint8)
    indices[2:4, 5:9] = 1
    nowhere = Place(None, None, (), None)
    file = PolygonFile(tmp_path / "pixels.gpkg", LABELS, nowhere, (10, 10), None)
    file.write(outlines(indices, 3, np.ones(indices.shape, np.float32)))
    _, _, geometry, fields = pyogrio.raw.read(tmp_path / "pixels.gpkg")
    assert shapely.from_wkb(geometry)[0].bounds == (5, -4, 9, -2)
    assert fields[2].tolist() == [8]


def square(place: Place, path: Path) -> tuple[dict[str, Any], tuple[float, ...], float, str]:
    """Write the outline of 10 x 10 pixels in 100 x 100; return the layer's metadata, bounds, area and description."""
    indices = np.zeros((100, 100), np.uint8)
    indices[20:30, 50:60] = 1
    file = PolygonFile(path, LABELS, place, (100, 100), None)
    file.write(outlines(indices, 32, np.ones(indices.shape, np.float32)))
    meta, _, geometry, fields = pyogrio.raw.read(path)
    about = pyogrio.read_info(path)["layer_metadata"]["DESCRIPTION"]
    return meta, shapely.from_wkb(geometry)[0].bounds, float(fields[2][0]), about


@pytest.mark.parametrize(
    ("place", "area"),
    [
        (UTM, 400.0),
        (Place(CRS.from_epsg(2229), Affine(3.0, 0, 0, 0, -3.0, 0), (), None), 100 * (3 * 1200 / 3937) ** 2),  # feet
        (Place(CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 41), (), None), 100 * 11.104 * 8.414),
        (Place(CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 60), (), None), 100 * 11.141 * 5.580),
        (Place(CRS.from_epsg(3857), Affine(10, 0, 1e6, 0, -10, 8_399_738), (), None), 100 * 5.008**2),
    ],
)
def test_area_is_in_square_metres_on_the_ground(tmp_path: Path, place: Place, area: float) -> None:
    *_, found, about = square(place, tmp_path / "objects.gpkg")
    assert found == pytest.approx(area, rel=1e-9 if place is UTM else 1e-3)
    assert about.endswith("area is in square metres on the ground")


def test_the_area_of_an_object_is_that_at_its_own_latitude(tmp_path: Path) -> None:
    indices = np.zeros((600, 20), np.uint8)
    indices[:10, :10] = indices[-10:, :10] = 1  # at 60 degrees and at the equator
    place = Place(CRS.from_epsg(4326), Affine(0.1, 0, 15, 0, -0.1, 60), (), None)
    file = PolygonFile(tmp_path / "objects.gpkg", LABELS, place, indices.shape, None)
    file.write(outlines(indices, 64, np.ones(indices.shape, np.float32)))
    # Squares of 1 degree between 59 and 60, and between 0 and 1 degree: areas on the ellipsoid.
    assert pyogrio.raw.read(tmp_path / "objects.gpkg")[3][2] == pytest.approx([6.3e9, 1.2308e10], rel=2e-3)


def test_ground_control_points_place_outlines(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(row, column, 15 + column / 1e4 + row / 1e5, 41 - row / 1e4)
        for row in (0, 100)
        for column in (0, 100)
    ]
    place = Place(CRS.from_epsg(4326), None, tuple(points), None)
    meta, bounds, area, _ = square(place, tmp_path / "objects.gpkg")
    assert meta["crs"] == "EPSG:4326"
    assert bounds == pytest.approx((15.0052, 40.997, 15.0063, 40.998))
    assert area == pytest.approx(100 * 11.104 * 8.414, rel=1e-3)


@pytest.mark.parametrize(
    "place",
    [
        Place(CRS.from_epsg(4326), None, (), None),
        Place(CRS.from_epsg(4326), None, (GroundControlPoint(0, 0, 15, 41),), None),
        Place(CRS.from_epsg(4326), Affine.scale(1, -1), (), None),
    ],
)
def test_a_coordinate_system_without_coordinates_is_not_written(tmp_path: Path, place: Place) -> None:
    meta, bounds, area, about = square(place, tmp_path / "objects.gpkg")
    assert meta["crs"] is None or "Undefined" in meta["crs"]
    assert bounds == (50, -30, 60, -20)
    assert area == 100
    assert "area is in pixels" in about
