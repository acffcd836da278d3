"""python -m segtune.tools tile: outlines of a scene that lies across the meridian of 180 degrees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine
from rasterio.warp import transform

from segtune.data.reading import read_mask
from tests.conftest import WriteImage
from tests.scripts import call

Mask = npt.NDArray[np.generic]
LATITUDE, HEIGHT, WIDTH = -17.0, 30, 60
SCENES = {  # pixels of 10 m, or of 0.0001 degrees
    "EPSG:32760": 10.0,
    "EPSG:32701": 10.0,
    "EPSG:4326": 1e-4,
}
BOXES = {1: (4, 5, 14, 25), 2: (20, 8, 40, 12), 3: (46, 5, 56, 25)}  # columns and rows; the second lies across


def ring(box: tuple[int, int, int, int], crs: str, place: Affine) -> list[tuple[float, float]]:
    """The corners of a box of pixels, in degrees."""
    left, top, right, bottom = box
    points = [place @ corner for corner in ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))]
    longitudes, latitudes = transform(crs, "EPSG:4326", *map(list, zip(*points, strict=True)))
    return list(zip(longitudes, latitudes, strict=True))


@pytest.mark.parametrize("written", ["cut", "0 to 360"])
@pytest.mark.parametrize("crs", SCENES)
def test_outlines_lie_on_both_sides_of_the_meridian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage, crs: str, written: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pixel = SCENES[crs]
    (x,), (y,) = ([180.0], [LATITUDE]) if crs == "EPSG:4326" else transform("EPSG:4326", crs, [180.0], [LATITUDE])
    place = Affine(pixel, 0, x - pixel * WIDTH / 2, 0, -pixel, y + pixel * HEIGHT / 2)
    write_image(Path("a.tif"), np.full((HEIGHT, WIDTH), 9, np.uint8), crs=crs, transform=place)
    features = []
    for label, box in {**BOXES, 4: (500, 5, 700, 25)}.items():
        outline = [(longitude % 360, latitude) for longitude, latitude in ring(box, crs, place)]
        parts = [outline]
        if written == "cut":  # as GeoJSON has it (RFC 7946): from -180 to 180, in two parts where it lies across
            west = [(min(longitude, 180), latitude) for longitude, latitude in outline]
            east = [(max(longitude, 180) - 360, latitude) for longitude, latitude in outline]
            parts = [part for part in (west, east) if np.ptp([longitude for longitude, _ in part]) > 0]
        geometry = {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}
        features.append({"type": "Feature", "properties": {"kind": label}, "geometry": geometry})
    far = {"type": "Polygon", "coordinates": [[(0, -17.1), (1, -17.1), (1, -16.9), (0, -16.9), (0, -17.1)]]}
    features.append({"type": "Feature", "properties": {"kind": 9}, "geometry": far})
    Path("o.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    ended = call(
        "segtune.tools.__main__",
        *("tile", "a.tif", "--mask", "o.geojson", "--attribute", "kind", "--size", HEIGHT, "--to", "tiles"),
    )
    assert (ended.status, ended.err) == (0, "")
    assert "left out" not in ended.out
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, (left, top, right, bottom) in BOXES.items():
        wanted[top:bottom, left:right] = label
    masks = [read_mask(Path(f"tiles/gt/a_r0000_c{column:04d}.tif")) for column in (0, HEIGHT)]
    np.testing.assert_array_equal(np.concatenate(masks, axis=1), wanted)


def mask_of(crs: str, place: Affine, shape: tuple[int, int], outlines: dict[str, object], write: WriteImage) -> Mask:
    """The mask, (H, W), of a scene with some outlines, as `tile` writes it in square tiles."""
    write(Path("a.tif"), np.full(shape, 9, np.uint8), crs=crs, transform=place)
    Path("o.geojson").write_text(json.dumps({"type": "FeatureCollection", **outlines}))
    size = ("--size", shape[0], "--to", "tiles")
    ended = call("segtune.tools.__main__", "tile", "a.tif", "--mask", "o.geojson", *size)
    assert (ended.status, ended.err) == (0, "")
    assert "left out" not in ended.out
    columns = range(0, shape[1], shape[0])
    return np.concatenate([read_mask(Path(f"tiles/gt/a_r0000_c{column:04d}.tif")) for column in columns], axis=1)


def areas(*polygons: list[list[tuple[float, float]]], crs: str | None = None) -> dict[str, object]:
    """Polygons, each as its rings, as content of a GeoJSON."""
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    shapes = [{"type": "Polygon", "coordinates": rings} for rings in polygons]
    return {**named, "features": [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]}


def rectangle(left: float, bottom: float, right: float, top: float) -> list[tuple[float, float]]:
    return [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]


GLOBES = [0.0, -0.5, -180.5, -180.0]  # where they begin in the west
SPANS = [(-15, 15), (170, 180), (-100, 100), (-180, 180), (170, 190), (340, 370), (-190, -170)]


@pytest.mark.parametrize(("west", "left", "right"), [(west, *span) for west in GLOBES for span in SPANS])
def test_outlines_stay_whole_in_a_scene_of_the_whole_globe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage, west: float, left: int, right: int
) -> None:
    monkeypatch.chdir(tmp_path)
    outlines = areas([rectangle(left - 0.1, -10, right - 0.1, 10)])  # no edge on the centre of a pixel
    found = mask_of("EPSG:4326", Affine(1, 0, west, 0, -1, 20), (40, 360), outlines, write_image)
    centres = west + 0.5 + np.arange(360)
    wanted = np.zeros((40, 360), np.uint8)
    wanted[10:30, (centres - (left - 0.1)) % 360 < right - left] = 1
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("west", "width"), [(0.0, 360), (-180.5, 360), (-180.0, 360), (150.0, 80)])
def test_reprojected_outlines_with_holes_are_not_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage, west: float, width: int
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Affine(1, 0, west, 0, -1, 20)
    shell, hole = rectangle(-1.5e6, -1.1e6, 1.5e6, 1.1e6), rectangle(0.2e6, -0.4e6, 0.9e6, 0.4e6)
    outlines = areas([shell, hole], crs="urn:ogc:def:crs:EPSG::3832")  # Mercator around 150 degrees
    shift = transform("EPSG:4326", "EPSG:3832", [180.0], [0.0])[0][0]
    for feature in outlines["features"]:  # type: ignore[attr-defined]
        rings = feature["geometry"]["coordinates"]
        feature["geometry"]["coordinates"] = [[(x + shift, y) for x, y in ring] for ring in rings]
    found = mask_of("EPSG:4326", place, (40, width), outlines, write_image)
    rows, columns = np.mgrid[:40, :width] + 0.5
    xs, ys = transform("EPSG:4326", "EPSG:3832", (west + columns).ravel().tolist(), (20 - rows).ravel().tolist())
    x, y = np.abs(np.reshape(xs, found.shape) - shift), np.abs(np.reshape(ys, found.shape))
    side = np.reshape(xs, found.shape) - shift
    wanted = (x < 1.5e6) & (y < 1.1e6) & ~((side > 0.2e6) & (side < 0.9e6) & (y < 0.4e6))
    np.testing.assert_array_equal(found, wanted)


def test_an_outline_that_is_written_with_a_jump_lies_across_the_meridian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage
) -> None:
    monkeypatch.chdir(tmp_path)
    shell = [(179.9, -0.1), (-179.9, -0.1), (-179.9, 0.1), (179.9, 0.1), (179.9, -0.1)]
    hole = [(-179.95, -0.05), (-179.92, -0.05), (-179.92, 0.05), (-179.95, 0.05), (-179.95, -0.05)]
    place = Affine(0.01, 0, 179.8, 0, -0.01, 0.2)
    found = mask_of("EPSG:4326", place, (40, 40), areas([shell, hole]), write_image)
    wanted = np.zeros((40, 40), np.uint8)
    wanted[10:30, 10:30] = 1
    wanted[15:25, 25:28] = 0
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("west", GLOBES)
def test_an_outline_around_a_pole_is_left_out_of_a_scene_in_degrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage, west: float
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Affine(1, 0, west, 0, -1, 89)
    write_image(Path("a.tif"), np.full((40, 360), 9, np.uint8), crs="EPSG:4326", transform=place)
    (x,), (y,) = transform("EPSG:4326", "EPSG:3413", [west + 60.2], [70.0])
    beside = [rectangle(x - 2e5, y - 2e5, x + 2e5, y + 2e5)]
    outlines = areas([rectangle(-2e6, -2e6, 2e6, 2e6)], beside, crs="urn:ogc:def:crs:EPSG::3413")
    Path("o.geojson").write_text(json.dumps({"type": "FeatureCollection", **outlines}))
    ended = call("segtune.tools.__main__", "tile", "a.tif", "--mask", "o.geojson", "--size", 40, "--to", "tiles")
    assert (ended.status, ended.err) == (0, "")
    assert "left out: 1 outline: they lie outside of the reach of the scene's coordinate system" in ended.out
    masks = [read_mask(Path(f"tiles/gt/a_r0000_c{column:04d}.tif")) for column in range(0, 360, 40)]
    (columns,) = np.concatenate(masks, axis=1).any(axis=0).nonzero()
    assert 50 < columns.min() < 60 < columns.max() < 70
