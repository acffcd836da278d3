"""python -m segtune.tools tile: masks and bands of another grid, and tiles that are cut again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_bounds
from rasterio.warp import transform_bounds

from segtune.data.labels import UNLABELLED
from segtune.data.reading import read_image, read_mask
from tests.conftest import WriteImage
from tests.scripts import Ended, call

CRS, PLACE = "EPSG:32643", Affine(1, 0, 700_000, 0, -1, 1_400_000)
COARSE = PLACE @ Affine.scale(2)


def tile(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "tile", *arguments)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "nodata", "read"),
    [("uint8", 255, 255), ("uint8", 0, 0), ("int16", -9999, UNLABELLED), ("float32", np.nan, UNLABELLED)],
)
def test_a_resampled_mask_keeps_what_its_nodata_value_marks(
    write_image: WriteImage, dtype: str, nodata: float, read: int
) -> None:
    write_image(Path("a.tif"), np.full((40, 50), 9, np.uint8), crs=CRS, transform=PLACE)
    labels = np.ones((20, 20), dtype)
    labels[10:] = nodata
    write_image(Path("labels.tif"), labels, nodata=nodata, crs=CRS, transform=COARSE)
    flags = ("--mask", "labels.tif", "--size", 40, "--resample", "nearest", "--background", 7)
    assert tile("a.tif", *flags, "--to", "tiles").status == 0
    mask = read_mask(Path("tiles/gt/a_r0000_c0010.tif"))
    assert np.unique(mask[:20, :30]).tolist() == [1]
    assert np.unique(mask[20:, :30]).tolist() == [read]
    assert np.unique(mask[:, 30:]).tolist() == [7]  # the file ends there


def test_a_resampled_mask_keeps_what_its_own_mask_hides(write_image: WriteImage) -> None:
    write_image(Path("a.tif"), np.full((40, 40), 9, np.uint8), crs=CRS, transform=PLACE)
    write_image(Path("labels.tif"), np.ones((20, 20), np.uint8), crs=CRS, transform=COARSE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open("labels.tif", "r+") as target:
        target.write_mask(np.arange(400).reshape(20, 20) < 200)
    assert tile("a.tif", "--mask", "labels.tif", "--size", 40, "--resample", "nearest", "--to", "tiles").status == 0
    mask = read_mask(Path("tiles/gt/a_r0000_c0000.tif"))
    assert np.unique(mask[:20]).tolist() == [1]
    assert np.unique(mask[20:]).tolist() == [UNLABELLED]


def test_a_resampled_channel_holds_no_data_beyond_its_file(write_image: WriteImage) -> None:
    write_image(Path("a.tif"), np.full((40, 50), 9, np.uint8), crs=CRS, transform=PLACE)
    write_image(Path("dem.tif"), np.full((20, 20), 80, np.float32), crs=CRS, transform=COARSE)
    flags = ("--channels", "dem=dem.tif", "--size", 40, "--resample", "bilinear")
    assert tile("a.tif", *flags, "--to", "tiles").status == 0
    _, valid = read_image(Path("tiles/dem/a_r0000_c0010.tif"))
    assert valid[:, :30].all()
    assert not valid[:, 30:].any()


def test_files_that_do_not_cover_the_scene_are_told(write_image: WriteImage) -> None:
    write_image(Path("a.tif"), np.full((40, 40), 9, np.uint8), crs=CRS, transform=PLACE)
    far = PLACE @ Affine.translation(5000, 0) @ Affine.scale(2)
    half = PLACE @ Affine.translation(20, 0) @ Affine.scale(2)
    for name, where in (("far", far), ("half", half), ("whole", COARSE)):
        write_image(Path(f"{name}.tif"), np.ones((20, 20), np.uint8), crs=CRS, transform=where)

    def told(*flags: str) -> list[str]:
        ended = tile("a.tif", *flags, "--size", 20, "--resample", "nearest", "--to", "tiles", "--dry-run")
        assert (ended.status, ended.err) == (0, "")
        return [line for line in ended.out.splitlines() if line.startswith("warning")]

    assert told("--mask", "far.tif") == [
        "warning: far.tif does not reach a at all; its masks hold background only",
    ]
    assert told("--mask", "half.tif") == ["warning: half.tif covers 50.0% of a; elsewhere, masks hold background"]
    assert told("--channels", "dem=far.tif") == ["warning: far.tif does not reach a at all; its tiles hold no data"]
    assert told("--channels", "dem=half.tif") == ["warning: half.tif covers 50.0% of a; elsewhere, tiles hold no data"]
    assert told("--channels", "dem=whole.tif", "--mask", "whole.tif") == []


def test_a_raster_in_another_system_covers_the_scene_that_it_was_made_of(write_image: WriteImage) -> None:
    write_image(Path("a.tif"), np.full((40, 40), 9, np.uint8), crs=CRS, transform=PLACE)
    left, bottom, right, top = transform_bounds(CRS, "EPSG:4326", 699_990, 1_399_950, 700_050, 1_400_010)
    where = from_bounds(left, bottom, right, top, 30, 30)
    write_image(Path("gt.tif"), np.ones((30, 30), np.uint8), crs="EPSG:4326", transform=where)
    ended = tile("a.tif", "--mask", "gt.tif", "--size", 20, "--resample", "nearest", "--to", "tiles")
    assert "warning" not in ended.out
    assert (read_mask(Path("tiles/gt/a_r0020_c0020.tif")) == 1).all()


@pytest.mark.parametrize("nodata", [None, 0])
def test_bands_of_another_grid_are_resampled_onto_that_of_the_first(
    write_image: WriteImage, nodata: float | None
) -> None:
    fine = 1 + np.arange(1600, dtype=np.uint16).reshape(40, 40)
    coarse = 5 + np.arange(200, dtype=np.uint16).reshape(20, 10)  # the left half of the scene
    write_image(Path("B02.tif"), fine, crs=CRS, transform=PLACE, nodata=nodata)
    write_image(Path("B05.tif"), coarse, crs=CRS, transform=COARSE, nodata=nodata)
    write_image(Path("B03.tif"), fine + 9, crs=CRS, transform=PLACE, nodata=nodata)
    Path("a.txt").write_text("B02.tif\nB05.tif\nB03.tif\n")
    assert tile("a.txt", "--size", 40, "--to", "none").mistakes == [
        "B05.tif: its size differs from that of B02.tif (10x20 and 40x40); --resample bilinear brings it onto the grid "
        "of the first file of the list"
    ]
    ended = tile("a.txt", "--size", 40, "--resample", "nearest", "--to", "tiles")
    assert "warning: B05.tif covers 50.0% of a; elsewhere, tiles hold no data" in ended.out.splitlines()
    image, valid = read_image(Path("tiles/images/a_r0000_c0000.tif"))
    assert np.array_equal(image[..., 0], fine)
    assert np.array_equal(image[:, :20, 1], np.kron(coarse, np.ones((2, 2), np.uint16)))
    assert np.array_equal(image[..., 2], fine + 9)
    assert valid[:, :20].all()
    assert not valid[:, 20:].any()


def test_bands_of_another_grid_without_a_place_are_refused(write_image: WriteImage) -> None:
    write_image(Path("B02.tif"), np.ones((40, 40), np.uint8))
    write_image(Path("B05.tif"), np.ones((20, 20), np.uint8))
    Path("a.txt").write_text("B02.tif\nB05.tif\n")
    (mistake,) = tile("a.txt", "--size", 40, "--resample", "bilinear", "--to", "tiles").mistakes
    assert "without a coordinate system in both files" in mistake


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_full_disk_is_one_line_that_names_the_tile(write_image: WriteImage) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)
    write_image(Path("a.tif"), noise, crs=CRS, transform=PLACE)
    limited = "import resource, signal, runpy; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    limited += "runpy.run_module('segtune.tools', run_name='__main__')"
    words = ["tile", "a.tif", "--size", "256", "--to", "tiles", "--workers", "1"]
    ended = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: images/a_r0000_c0000.tif: cannot be written (")
    assert not Path("tiles").exists()


def test_force_also_replaces_tiles_of_channels_no_longer_asked_for(write_image: WriteImage) -> None:
    for name in ("a", "a_nir", "b", "b_nir"):
        write_image(Path(f"{name}.tif"), np.full((40, 40), 9, np.uint8))
    assert tile("a.tif", "b.tif", "--channels", "nir", "--size", 20, "--to", "tiles").status == 0
    ended = tile("a.tif", "--size", 30, "--force", "--dry-run", "--to", "tiles")
    assert "in place of 8 files that are there" in ended.out
    for name in ("images/a_r0000_c0000", "images/a_r0020_c0020", "nir/a_r0020_c0020", "images/b_r0020_c0020"):
        Path(f"tiles/{name}.tif.aux.xml").write_text("<PAMDataset/>")  # of earlier tiles; only b's stays
    assert tile("a.tif", "--size", 30, "--force", "--to", "tiles").status == 0
    left = sorted(path.name for path in Path("tiles/nir").iterdir())
    assert left == [f"b_r{top:04d}_c{column:04d}.tif" for top in (0, 20) for column in (0, 20)]
    assert [path.name for path in Path("tiles").rglob("*.xml")] == ["b_r0020_c0020.tif.aux.xml"]
    assert tile("b.tif", "--size", 40, "--force", "--to", "tiles").status == 0
    assert not Path("tiles/nir").exists()
    assert sorted(path.name for path in Path("tiles").iterdir()) == ["images"]
