"""validate.py takes care of where images lie: metres per pixel, and outlines on the ground."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from rasterio.control import GroundControlPoint

from tests.evaluation.plain import flags, plain_model
from tests.evaluation.runs import Run, Trained
from tests.evaluation.scenes import picture, write_scene

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]
POINTS = [
    GroundControlPoint(row, column, 15 + column / 1e4, 60 - row / 1e4) for row in (0, 80, 160) for column in (0, 60, 90)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    plain_model(folder, 1)
    return folder


def predicted(run: Run, model: Path, scene: Path, *more: object) -> int:
    given = ["--classes", "1", *flags(), "--tile-size", "64", "--no-plots", "-o", scene.parent / "out"]
    return run("-c", model, "-d", scene, *given, *more)


def test_outlines_follow_ground_control_points(model: Path, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    scene = write_scene(tmp_path / "gcps.tif", picture(160, 90), transform=None, crs="EPSG:4326", gcps=POINTS)
    assert predicted(run, model, scene, "--polygons", tmp_path / "objects.gpkg") == 0
    assert "warning" not in capsys.readouterr().out
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "objects.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    assert meta["crs"] == "EPSG:4326"
    assert len(geometry) > 3
    left, bottom, right, top = shapely.total_bounds(shapely.from_wkb(geometry))
    assert 15 - 1e-9 < left < right < 15.009 + 1e-9
    assert 59.984 - 1e-9 < bottom < top < 60 + 1e-9
    np.testing.assert_allclose(table["area"] / table["pixels"], 11.141 * 5.580, rtol=1e-3)


def test_outlines_without_a_place_are_said_to_be_in_pixels(
    model: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    scene = write_scene(tmp_path / "nowhere.tif", picture(160, 90), transform=None, crs="EPSG:4326")
    assert predicted(run, model, scene, "--polygons", tmp_path / "objects.gpkg") == 0
    assert "outlines are in pixels, without a coordinate system" in " ".join(capsys.readouterr().out.split())
    meta, *_, fields = pyogrio.raw.read(tmp_path / "objects.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    assert "4326" not in str(meta["crs"])
    np.testing.assert_array_equal(table["area"], table["pixels"])


def test_resolution_says_where_pixels_are_not_square_on_the_ground(
    model: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    turned = Affine(1e-4, 0, 15, 0, -1e-4, 60) @ Affine.rotation(90)
    scene = write_scene(tmp_path / "north.tif", picture(160, 90), crs="EPSG:4326", transform=turned)
    assert predicted(run, model, scene, "--resolution", "20") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "is 11.1 m wide and 5.58 m high on the ground" in said


@pytest.mark.parametrize(
    ("metres", "words"),
    [
        (1.5, "look 3 times larger"),
        pytest.param(0.25, "look 2 times smaller", marks=pytest.mark.slow),
        pytest.param(0.5, "", marks=pytest.mark.slow),
    ],
)
def test_tiles_of_another_resolution_get_a_warning(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, metres: float, words: str
) -> None:
    model = Path(shutil.copytree(binary.folder / "best", tmp_path / "best"))
    content = yaml.safe_load((model / "run.yaml").read_text(encoding="utf-8"))
    content["data"]["resolution"] = metres
    (model / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert run("-cd", model, "-d", binary.val, "-o", tmp_path / "out", "--com") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert words in said
    assert ("have 0.5 m per pixel" in said) == bool(words)


def test_small_tiles_of_a_coarse_resolution_look_as_in_training(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    model = Path(shutil.copytree(binary.folder / "best", tmp_path / "best"))
    content = yaml.safe_load((model / "run.yaml").read_text(encoding="utf-8"))
    content["data"] |= {"resolution": 0.25, "tile_size": 80}  # the tiles have 40 pixels of 0.5 m
    (model / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert run("-cd", model, "-d", binary.val, "-o", tmp_path / "out", "--com") == 0
    said = capsys.readouterr().out
    assert "pixels a side" not in said
    assert "m per pixel" not in said
    with rasterio.open(next((binary.val / "images").iterdir())) as file:
        assert file.shape == (40, 40)
