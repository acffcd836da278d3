"""python -m segtune.tools tile: masks of another grid, and tiles that are cut again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

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
