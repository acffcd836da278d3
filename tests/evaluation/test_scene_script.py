"""Scenes through the command line: small objects, warnings of scale, and what other programs read."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from torch import nn

from segtune.data.labels import Labels
from segtune.evaluation.areas import remove_small
from segtune.models.checkpoint import save_model
from tests.evaluation.runs import pixels
from tests.evaluation.scenes import BINARY, PLACE, SEVERAL, manifest, network, picture, write_scene
from tests.scripts import ROOT, call

WITHOUT = replace(SEVERAL, background=False)


@functools.cache
def weights(labels: Labels) -> nn.Module:
    return network(manifest(labels))


def model(folder: Path, labels: Labels = BINARY, **fields: object) -> Path:
    save_model(folder, weights(labels), manifest(labels, **fields))
    return folder


def predicted(folder: Path, out: Path, *arguments: object) -> str:
    """Predict, and return what was printed, on one line."""
    ended = call("validate", "-cd", folder, "-o", out, *arguments)
    assert ended.status == 0, ended
    return " ".join(ended.out.split())


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(BINARY, id="binary"),
        pytest.param(SEVERAL, id="several", marks=pytest.mark.slow),
        pytest.param(WITHOUT, id="without background", marks=pytest.mark.slow),
    ],
)
def test_min_area_removes_the_small_objects_of_a_whole_scene(tmp_path: Path, labels: Labels) -> None:
    image = picture(540, 90)
    image[240:280, 20:60] = 0
    scene = write_scene(tmp_path / "scene.tif", image, nodata=0)
    folder = model(tmp_path / "model", labels)
    for min_area in (0, 90):
        flags = ["-d", scene, "--min-area", min_area, "--polygons", tmp_path / f"{min_area}.gpkg", "--no-plots"]
        predicted(folder, tmp_path / str(min_area), *flags)
    plain, cleaned = (pixels(tmp_path / name / "binary" / "scene.tif") for name in ("0", "90"))
    missing = (image == 0).all(axis=2)
    indices = np.where(missing, 0, labels.to_indices(plain))
    expected = remove_small(indices, 90, labels.predicts_background)
    assert (expected != indices).sum() > 200
    with rasterio.open(tmp_path / "90" / "binary" / "scene.tif") as file:
        assert np.array_equal(cleaned, np.where(missing, file.nodata, labels.to_labels(expected)))
    counted = json.loads((tmp_path / "90" / "prediction.json").read_text())["images"]["scene"]["pixels"]
    assert counted == {str(label): int((cleaned == label).sum()) for label in map(int, counted)}
    pyogrio = pytest.importorskip("pyogrio")
    outlines = pyogrio.raw.read(tmp_path / "90.gpkg", read_geometry=False)
    fields = dict(zip(outlines[0]["fields"], outlines[3], strict=True))
    for label in labels.classes:
        assert fields["pixels"][fields["class"] == label].sum() == (cleaned == label).sum()


@pytest.mark.parametrize("side", [64, 240])
def test_tiles_far_from_the_size_of_the_training_get_one_warning(tmp_path: Path, side: int) -> None:
    folder = model(tmp_path / "model", fit="resize", tile_size=120)
    for number in range(3):
        write_scene(tmp_path / "val" / "images" / f"{number}.tif", picture(side, side))
        write_scene(tmp_path / "val" / "gt" / f"{number}.tif", np.full((side, side, 1), 255, np.uint8))
    printed = predicted(folder, tmp_path / "measured", "-d", tmp_path / "val", "--com")
    assert printed.count("warning: tiles in") == 1
    assert f"have up to {side} pixels a side, and the model was trained on tiles of up to 120" in printed
    assert ("2 times smaller" if side == 240 else "1.9 times larger") in printed
    shutil.rmtree(tmp_path / "val" / "gt")
    printed = predicted(folder, tmp_path / "predicted", "-d", tmp_path / "val", "--no-plots")
    assert printed.count("warning") == 1
    assert f"0.tif has {side}x{side} pixels, and the model was trained on tiles of up to 120" in printed
    assert "windows of 120 pixels, at the scale of the training" in printed
    found = json.loads((tmp_path / "predicted" / "prediction.json").read_text())["images"]
    assert {image["window"] for image in found.values()} == {120}


@pytest.mark.parametrize(("fit", "side"), [("resize", 170), ("crop", 300)])
def test_tiles_near_it_and_those_of_other_fits_get_none(tmp_path: Path, fit: str, side: int) -> None:
    folder = model(tmp_path / "model", fit=fit, tile_size=120)
    scene = write_scene(tmp_path / "val" / "images" / "0.tif", picture(side, side))
    write_scene(tmp_path / "val" / "gt" / "0.tif", np.full((side, side, 1), 255, np.uint8))
    for place in (tmp_path / "val", scene):
        assert "warning" not in predicted(folder, tmp_path / f"out of {place.name}", "-d", place, "--no-plots")


def test_an_image_that_does_not_fit_is_named_before_any_prediction(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    for number, bands in enumerate((3, 3, 2)):
        write_scene(tmp_path / "images" / f"{number}.tif", picture(64, 64, bands))
    ended = call("validate", "-cd", folder, "-o", tmp_path / "out", "-d", tmp_path / "images")
    (line,) = ended.mistakes
    assert "2.tif: has 2 bands" in line
    assert not (tmp_path / "out").exists()


_MEASURED = """
import runpy, sys
try:
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
finally:
    print("peak", *(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(folder: Path, scene: Path, out: Path, *flags: object) -> int:
    """Predict in a process of its own, and return the largest memory, in bytes, that it had."""
    command = ["-c", _MEASURED, ROOT / "validate.py", "-cd", folder, "-d", scene, "-o", out, "--cpu", *flags]
    ended = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(ended.stdout.split("VmHWM:")[1].split()[0]) * 1024


def write_large(path: Path, side: int) -> Path:
    """Write a scene of three bands window by window."""
    part = picture(250, 250).transpose(2, 0, 1)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": side, "width": side, "tiled": True, **PLACE}
    with rasterio.open(path, "w", **profile) as file:
        for top, left in itertools.product(range(0, side, 250), repeat=2):
            file.write(part, window=((top, top + 250), (left, left + 250)))
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_memory_does_not_depend_on_the_size_of_the_scene(tmp_path: Path) -> None:
    side = 8000
    folder = model(tmp_path / "model", replace(BINARY, names=("pond",)), fit="resize", tile_size=250)
    small, large = (write_large(tmp_path / f"{size}.tif", size) for size in (500, side))
    flags = ["--binary", "--overlap", 0.1, "--min-area", 20]
    base = peak(folder, small, tmp_path / "small", *flags)
    found = peak(folder, large, tmp_path / "large", *flags)
    assert found < 2e9
    assert found - base < 3 * side**2  # the image alone has so many bytes
    written = tmp_path / "large" / "binary" / "8000.tif"
    with rasterio.open(written) as file, rasterio.open(large) as scene:
        assert (file.shape, file.crs, file.transform) == (scene.shape, scene.crs, scene.transform)
        assert (file.count, file.dtypes, file.bounds) == (1, ("uint8",), scene.bounds)
        assert file.colormap(1)[255] == (230, 159, 0, 255)
        assert set(np.unique(file.read(1)).tolist()) == {0, 255}
    if shutil.which("gdalinfo") is None:
        pytest.skip("gdalinfo is not installed")
    info = json.loads(subprocess.run(["gdalinfo", "-json", written], capture_output=True, check=True).stdout)
    (band,) = info["bands"]
    assert info["size"] == [side, side]
    assert info["geoTransform"] == [500_000, 0.5, 0, 5_000_000, 0, -0.5]
    assert 'ID["EPSG",32632]' in info["coordinateSystem"]["wkt"]
    assert info["cornerCoordinates"]["lowerRight"] == [504_000, 4_996_000]
    assert (band["type"], band["colorInterpretation"], band["noDataValue"]) == ("Byte", "Palette", 254)
    assert band["colorTable"]["entries"][255] == [230, 159, 0, 255]
