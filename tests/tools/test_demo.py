"""python -m segtune.tools demo: the demo data set of any size, and a scene whose outlines fit its buildings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import features
from rasterio.warp import transform_geom

from segtune.data.demo import write_demo
from tests.scripts import Ended, call


def demo(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "demo", *arguments)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_data_set_is_that_of_the_library(tmp_path: Path) -> None:
    ended = demo("set", "--train", 3, "--val", 2, "--size", 32, "--seed", 5)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "set: 3 train tiles, 2 val tiles of 32 px, with nir, gt and gt_classes\n"
    write_demo(tmp_path / "other", 3, 2, 32, 5)
    assert below(tmp_path / "set") == below(tmp_path / "other")
    for name in below(tmp_path / "set"):
        assert (tmp_path / "set" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_scene_has_its_buildings_outlined_pixel_by_pixel(tmp_path: Path) -> None:
    ended = demo("town", "--scene", 2, 3, "--size", 96)
    assert (ended.status, ended.err) == (0, "")
    assert below(tmp_path / "town") == ["buildings.geojson", "scene.tif", "scene_nir.tif"]
    found = json.loads(Path("town/buildings.geojson").read_text())["features"]
    assert f"with {len(found)} buildings" in ended.out
    with rasterio.open("town/scene.tif") as scene, rasterio.open("town/scene_nir.tif") as nir:
        assert (scene.count, scene.shape) == (3, (192, 288))
        assert (nir.count, nir.shape, nir.transform, nir.crs) == (1, scene.shape, scene.transform, scene.crs)
        for feature in found:
            shape = transform_geom("EPSG:4326", scene.crs, feature["geometry"])
            burnt = features.rasterize([shape], scene.shape, transform=scene.transform)
            assert burnt.sum() == pytest.approx(feature["properties"]["area_m2"])
            assert burnt.sum() > 0


def test_tile_cuts_a_scene_with_its_masks(tmp_path: Path) -> None:
    assert demo("town", "--scene", 2, 2, "--size", 64).status == 0
    words = ("town/scene.tif", "--channels", "nir", "--mask", "town/buildings.geojson")
    ended = call("segtune.tools.__main__", "tile", *words, "--size", 64, "--to", "tiles", "--workers", 1)
    assert (ended.status, ended.err) == (0, "")
    assert {name.split("/")[0] for name in below(tmp_path / "tiles")} >= {"images", "nir", "gt"}
    area = 0
    for path in Path("tiles/gt").iterdir():
        with rasterio.open(path) as mask:
            area += int((mask.read(1) == 1).sum())
    found = json.loads(Path("town/buildings.geojson").read_text())["features"]
    assert area == sum(feature["properties"]["area_m2"] for feature in found) > 0


def test_the_same_command_draws_the_same_and_another_seed_another_scene() -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert demo(folder, "--scene", 1, 2, "--size", 64, "--seed", seed).status == 0
    first, same, other = (rasterio.open(f"{folder}/scene.tif").read() for folder in "abc")
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_files_are_replaced_only_when_forced(tmp_path: Path) -> None:
    assert demo("set", "--train", 1, "--val", 1, "--size", 32).status == 0
    (tmp_path / "set" / "notes.txt").write_text("mine")
    before = (tmp_path / "set/train/images/tile_0000.tif").read_bytes()
    (mistake,) = demo("set", "--train", 1, "--val", 1, "--size", 32, "--seed", 1).mistakes
    assert mistake.startswith("FOLDER: set exists and holds 3 files")
    assert (tmp_path / "set/train/images/tile_0000.tif").read_bytes() == before
    assert demo("set", "--train", 1, "--val", 1, "--size", 32, "--seed", 1, "--force").status == 0
    assert (tmp_path / "set/train/images/tile_0000.tif").read_bytes() != before
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("words", [("--train", 2), ("--scene", 2, 2)])
def test_a_dry_run_writes_nothing(words: tuple[object, ...]) -> None:
    ended = demo("new", *words, "--dry-run")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "a dry run: nothing was written"
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (("--size", 31), "--size: must be between 32 and 4096, but got 31"),
        (("--train", 0), "--train: must be between 1 and 100000, but got 0"),
        (("--val", -1), "--val: must be between 1 and 100000, but got -1"),
        (("--seed", -1), "--seed: must be between 0 and 4294967295, but got -1"),
        (("--scene", 0, 2), "--scene: both numbers must be between 1 and 128 with --size 128, but got 0 2"),
        (("--scene", 1, 129), "--scene: both numbers must be between 1 and 128 with --size 128, but got 1 129"),
        (("--scene", 1, 1, "--val", 3), "--val: --scene writes a scene, not tiles; leave one out"),
    ],
)
def test_wrong_numbers_are_refused(words: tuple[object, ...], mistake: str) -> None:
    assert demo("new", *words).mistakes == [mistake]
    assert os.listdir() == []
