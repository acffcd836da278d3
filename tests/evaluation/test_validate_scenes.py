"""The flags of validate.py for images without masks: what the files hold that are written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.shutil import copy

from tests.evaluation.runs import Run, Trained, errors, pixels
from tests.evaluation.scenes import PLACE, picture, write_scene

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 0.5 m with ponds as the tiles have them: images/scene.tif and nir/scene.tif."""
    folder = tmp_path_factory.mktemp("scene")
    bright = picture(200, 240, 1) > 125
    noise = np.random.default_rng(0).normal(0, 8, (200, 240, 4))
    image = (np.where(bright, 188, 62) + noise).clip(0, 255).astype(np.uint8)
    write_scene(folder / "nir" / "scene.tif", image[..., 3:])
    return write_scene(folder / "images" / "scene.tif", image[..., :3])


def predicted(run: Run, case: Trained, images: Path | list[Path], out: Path, *flags: object) -> dict[str, Any]:
    """Predict a scene; return what prediction.json says about it."""
    paths = [images] if isinstance(images, Path) else images
    assert run("-cd", case.folder, "-d", *paths, "-o", out, "--no-plots", *flags) == 0
    (found,) = json.loads((out / "prediction.json").read_text(encoding="utf-8"))["images"].values()
    return dict(found)


def test_cog_writes_tiled_files_with_overviews(binary: Trained, tmp_path: Path, run: Run) -> None:
    image = picture(700, 800, 4)
    write_scene(tmp_path / "nir" / "large.tif", image[..., 3:])
    large = write_scene(tmp_path / "images" / "large.tif", image[..., :3])
    flags = ["--raw", "--resolution", "8"]  # few windows
    predicted(run, binary, large, tmp_path / "plain", *flags)
    predicted(run, binary, large, tmp_path / "cog", "--cog", *flags)
    for name in ("binary", "raw"):
        with (
            rasterio.open(tmp_path / "cog" / name / "large.tif") as cog,
            rasterio.open(tmp_path / "plain" / name / "large.tif") as plain,
        ):
            assert cog.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert "LAYOUT" not in plain.tags(ns="IMAGE_STRUCTURE")
            assert cog.overviews(1) == [2]
            assert plain.overviews(1) == []
            assert cog.block_shapes[0] == (512, 512)
            for fact in ("crs", "transform", "dtypes", "descriptions", "colorinterp"):
                assert getattr(cog, fact) == getattr(plain, fact)
            np.testing.assert_array_equal(cog.read(), plain.read())
    with rasterio.open(tmp_path / "cog" / "binary" / "large.tif") as cog:
        assert cog.colormap(1)[255] == (230, 159, 0, 255)


def test_a_vrt_and_files_of_one_band_are_the_same_scene(binary: Trained, scene: Path, tmp_path: Path, run: Run) -> None:
    copy(scene, tmp_path / "scene.vrt", driver="VRT")
    with rasterio.open(scene) as file:
        bands = file.read()
    single = [write_scene(tmp_path / f"B{number}.tif", band[..., None]) for number, band in enumerate(bands)]
    nir = scene.parent.parent / "nir" / "scene.tif"
    predicted(run, binary, scene, tmp_path / "whole", "--raw")
    whole = rasterio.open(tmp_path / "whole" / "raw" / "scene.tif").read()
    assert whole.std() > 0.05
    for number, files in enumerate(([tmp_path / "scene.vrt", nir], [*single, nir])):
        predicted(run, binary, files, tmp_path / str(number), "--raw")
        raw = tmp_path / str(number) / "raw" / f"{files[0].stem}.tif"
        np.testing.assert_array_equal(rasterio.open(raw).read(), whole)
        assert rasterio.open(raw).transform == PLACE["transform"]


def test_polygons_are_the_mask_and_simplify_takes_points_away(
    binary: Trained, scene: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    found = predicted(run, binary, scene, tmp_path / "out", "--polygons", tmp_path / "objects.gpkg")
    assert f"; {found['objects']} outlines" in capsys.readouterr().out
    meta, _, geometry, values = pyogrio.raw.read(tmp_path / "objects.gpkg")
    fields = dict(zip(meta["fields"], values, strict=True))
    assert (meta["crs"], len(geometry)) == ("EPSG:32632", found["objects"])
    mask = pixels(tmp_path / "out" / "binary" / "scene.tif") == 255
    assert 0 < mask.sum() < mask.size
    outlines = shapely.from_wkb(geometry)
    assert shapely.area(outlines).sum() == pytest.approx(mask.sum() * 0.25)  # square metres
    assert fields["area"].sum() == pytest.approx(mask.sum() * 0.25)
    assert set(fields["class"].tolist()) == {255}
    assert ((fields["probability"] > 0.5) & (fields["probability"] <= 1)).all()
    predicted(run, binary, scene, tmp_path / "out", "--polygons", tmp_path / "simple.gpkg", "--simplify", 1.5)
    simple = shapely.from_wkb(pyogrio.raw.read(tmp_path / "simple.gpkg")[2])
    assert shapely.get_num_coordinates(simple).sum() < 0.8 * shapely.get_num_coordinates(outlines).sum()
    assert shapely.area(simple).sum() == pytest.approx(mask.sum() * 0.25, rel=0.1)


def test_resolution_sets_the_window_and_keeps_the_grid(
    binary: Trained, scene: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    folder = Path(shutil.copytree(binary.folder, tmp_path / "run"))
    case = Trained(folder, binary.dataset, binary.results)
    as_it_is = predicted(run, case, scene, tmp_path / "plain")["window"]
    assert predicted(run, case, scene, tmp_path / "coarse", "--resolution", "1")["window"] == 2 * as_it_is
    assert pixels(tmp_path / "coarse" / "binary" / "scene.tif").shape == (200, 240)
    capsys.readouterr()
    assert run("-cd", folder, "-d", scene, "-o", tmp_path / "auto", "--resolution", "auto") == 2
    assert errors(capsys)[0].startswith("error: --resolution: auto needs ")
    manifest = folder / "best" / "run.yaml"
    content = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    content["data"]["resolution"] = 1.5
    manifest.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert predicted(run, case, scene, tmp_path / "auto", "--resolution", "auto")["window"] == 3 * as_it_is


def test_overlap_sets_the_number_of_windows(binary: Trained, scene: Path, tmp_path: Path, run: Run) -> None:
    windows = [
        predicted(run, binary, scene, tmp_path / f"{overlap}", "--overlap", overlap)["windows"] for overlap in (0, 0.5)
    ]
    assert windows == [5 * 6, 9 * 11]  # of 40 pixels in 200 x 240, every 40 or 20 pixels
