"""GDAL's own programs open what validate.py writes for a scene, with its place, size, types, nodata and colours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.runs import Run, pixels, trained

REAL_DATA = os.environ.get("SEGTUNE_DATA")
CLASSES = [10, 30, 50, 70, 100]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL_DATA, reason="SEGTUNE_DATA names no folder with landcover/"),
    pytest.mark.skipif(not shutil.which("gdalinfo"), reason="gdalinfo, of GDAL's programs, is not installed"),
]


def said(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.fixture(scope="module")
def scene() -> Path:
    return sorted((Path(str(REAL_DATA)) / "landcover" / "val" / "images").iterdir())[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"classes": CLASSES, "channels": [], "image_size": 64, "limit_tiles": 8, "batch_size": 2, "epochs": 2}
    folder = tmp_path_factory.mktemp("landcover") / "run"
    return trained(Path(str(REAL_DATA)) / "landcover", folder, loss="dice+ce", **settings).folder


def info(path: Path) -> dict[str, Any]:
    return dict(json.loads(said("gdalinfo", "-json", path)))


@pytest.mark.parametrize("flags", [[], ["--cog"]], ids=["plain", "cog"])
def test_rasters_have_the_place_size_types_and_colours(
    model: Path, scene: Path, tmp_path: Path, run: Run, flags: list[str]
) -> None:
    assert run("-cd", model, "-d", scene, "-o", tmp_path, "--binary", "--raw", *flags) == 0
    own, mask, raw = (info(path) for path in (scene, *(tmp_path / name / scene.name for name in ("binary", "raw"))))
    for found in (mask, raw):
        assert found["driverShortName"] == "GTiff"
        assert found["size"] == own["size"] == [512, 512]
        assert found["geoTransform"] == own["geoTransform"]
        assert found["cornerCoordinates"] == own["cornerCoordinates"]
        assert 'ID["EPSG",32652]]' in found["coordinateSystem"]["wkt"]
        assert found["metadata"]["IMAGE_STRUCTURE"].get("LAYOUT") == ("COG" if flags else None)
    (band,) = mask["bands"]
    assert (band["type"], band["noDataValue"], band["colorInterpretation"]) == ("Byte", 255, "Palette")
    colours = [tuple(band["colorTable"]["entries"][label]) for label in CLASSES]
    assert len(set(colours)) == 5
    assert colours[0] == (230, 159, 0, 255)
    assert [band["type"] for band in raw["bands"]] == ["Float32"] * 5
    assert [band["description"] for band in raw["bands"]] == [str(label) for label in CLASSES]
    assert all(str(band["noDataValue"]).lower() == "nan" for band in raw["bands"])


@pytest.mark.skipif(not shutil.which("ogrinfo"), reason="ogrinfo, of GDAL's programs, is not installed")
def test_outlines_have_place_fields_and_the_area_of_the_mask(
    model: Path, scene: Path, tmp_path: Path, run: Run
) -> None:
    pytest.importorskip("pyogrio")
    file = tmp_path / "objects.gpkg"
    assert run("-cd", model, "-d", scene, "-o", tmp_path / "out", "--polygons", file) == 0
    objects = json.loads((tmp_path / "out" / "prediction.json").read_text())["images"][scene.stem]["objects"]
    layer = said("ogrinfo", "-so", "-al", file)
    assert "Layer name: objects" in layer
    assert "Geometry: Polygon" in layer
    assert f"Feature Count: {objects}\n" in layer
    assert 'ID["EPSG",32652]]' in layer
    fields = ("class: Integer64 ", "name: String ", "area: Real ", "pixels: Integer64 ", "probability: Real ")
    assert all(f"\n{field}" in layer for field in fields)
    sums = said("ogrinfo", "-q", "-sql", "SELECT class, SUM(area) AS total FROM objects GROUP BY class", file)
    found = dict(zip(_numbers(sums, "class"), _numbers(sums, "total"), strict=True))
    labels, counts = np.unique(pixels(tmp_path / "out" / "binary" / scene.name), return_counts=True)
    assert found == {label: count * 100 for label, count in zip(labels.tolist(), counts.tolist(), strict=True)}


def _numbers(text: str, field: str) -> list[float]:
    """The values of a field in what ogrinfo prints: `  area (Real) = 12`."""
    return [float(line.rpartition("= ")[2]) for line in text.splitlines() if line.strip().startswith(f"{field} (")]
