"""python -m segtune.tools tile: outlines of a scene that lies across the meridian of 180 degrees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.warp import transform

from segtune.data.reading import read_mask
from tests.conftest import WriteImage
from tests.scripts import call

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
