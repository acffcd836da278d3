"""What a file may do and say: its format, orientation, pages, masks and facts beside it, alpha, nodata, its claims."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from segtune.data.labels import UNLABELLED
from segtune.data.pairs import find_tiles
from segtune.data.raster import writing
from segtune.data.reading import read_header, read_image, read_mask, read_tile
from segtune.data.tiles import Layout, ReadSettings, Tile
from segtune.errors import InputError, SegtuneError
from tests.conftest import WriteImage
from tests.data.files import directory, mistake, noise, profile

# Nodata, masks and facts beside a file


@pytest.mark.parametrize(
    ("dtype", "nodata", "anywhere"),
    [
        ("uint8", 0, False),
        ("uint16", 0, False),
        ("uint16", 65535, False),
        ("int16", 0, False),
        ("float32", 0, False),
        ("float32", -1, False),
        ("int16", -9999, True),
        ("int16", -32768, True),
        ("float32", -9999, True),
        ("float32", -999, True),
        ("float32", -3.4028234663852886e38, True),
        ("float32", np.nan, True),
    ],
)
@pytest.mark.parametrize("declared", ["inside", "beside", "setting"])
def test_nodata_counts_in_all_bands_or_where_it_cannot_be_measured_in_any(
    tmp_path: Path, write_image: WriteImage, dtype: str, nodata: float, anywhere: bool, declared: str
) -> None:
    pixels = noise(3, dtype)
    pixels[0, 0], pixels[1, 1, 2] = nodata, nodata
    inside = {"nodata": nodata} if declared == "inside" else {}
    path = write_image(tmp_path / "a.tif", pixels, **inside)
    if declared == "beside":
        bands = "".join(
            f'<PAMRasterBand band="{band}"><NoDataValue>{nodata!r}</NoDataValue></PAMRasterBand>' for band in (1, 2, 3)
        )
        Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    _, valid = read_image(path, ReadSettings(nodata if declared == "setting" else None))
    assert np.argwhere(~valid).tolist() == ([[0, 0], [1, 1]] if anywhere else [[0, 0]])


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("nodata", [None, 0])
def test_a_mask_inside_or_beside_a_file_counts_in_images_and_labels(
    tmp_path: Path, inside: bool, nodata: float | None
) -> None:
    path = tmp_path / "a.tif"
    kept = noise(1)[..., 0] > 60
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(path, "w", **profile(1), nodata=nodata) as target,
    ):
        target.write(noise(1)[..., 0], 1)
        target.write_mask(np.where(kept, 255, 0).astype(np.uint8))
    assert Path(f"{path}.msk").exists() != inside
    np.testing.assert_array_equal(read_image(path)[1], kept)
    np.testing.assert_array_equal(read_mask(path) != UNLABELLED, kept)


def test_a_mask_of_another_size_beside_a_file_is_an_error(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.tif", noise(1))
    with rasterio.open(f"{path}.msk", "w", **profile(1) | {"height": 5}) as target:
        target.update_tags(INTERNAL_MASK_FLAGS_1=2)
    assert mistake(path).startswith(f"{path}.msk: its size differs")


def test_what_appears_beside_a_tile_makes_another_data_set(tmp_path: Path, write_image: WriteImage) -> None:
    for folder in ("images", "gt"):
        write_image(tmp_path / folder / "a.tif", noise(1))
    identities = [find_tiles(tmp_path, Layout()).identity()]
    for name in ("a.tif.msk", "a.tif.aux.xml", "a.tfw"):
        (tmp_path / "images" / name).write_text("")
        identities.append(find_tiles(tmp_path, Layout()).identity())
    (tmp_path / "images" / "notes.txt").write_text("")
    assert len(set(identities)) == 4
    assert find_tiles(tmp_path, Layout()).identity() == identities[-1]


# Claims of a header


def claiming(suffix: str, size: int, bands: int = 1) -> bytes:
    if suffix == ".tif":
        planes = 2 if bands > 1 else 1
        tags = [(256, size), (257, size), (258, 8), (259, 1), (262, 1), (273, 8), (277, bands), (278, size)]
        return directory([*tags, (279, 100), (284, planes)])
    if suffix == ".png":
        header = struct.pack(">II", size, size) + bytes([8, 0, 0, 0, 0])
        return (
            b"\x89PNG\r\n\x1a\n"
            + struct.pack(">I", 13)
            + b"IHDR"
            + header
            + struct.pack(">I", zlib.crc32(b"IHDR" + header))
            + struct.pack(">I", 0)
            + b"IDAT"
            + struct.pack(">I", zlib.crc32(b"IDAT"))
        )
    info = struct.pack("<IiiHHIIiiII", 40, size, size, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info + bytes(100)


@pytest.mark.parametrize("read", [read_image, read_mask, read_header])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
def test_a_header_that_claims_more_pixels_than_memory_holds_is_one_error(
    tmp_path: Path, suffix: str, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtune.data.raster.free_memory", lambda: 20_000_000_000)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(claiming(suffix, 100_000))
    text = mistake(path, read)
    assert text.startswith(f"{path}: ")
    assert "100000x100000" in text or "cannot be read" in text


@pytest.mark.parametrize("read", [read_image, read_mask, read_header])
def test_absurd_numbers_of_bands_are_refused(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(claiming(".tif", 8, bands=60_000))
    assert "60000 bands; an image has at most 4096 bands" in mistake(path, read)


def test_every_file_of_a_tile_is_checked(tmp_path: Path, write_image: WriteImage) -> None:
    good = write_image(tmp_path / "good.tif", noise(1))
    bad = tmp_path / "bad.tif"
    bad.write_bytes(claiming(".tif", 8, bands=60_000))
    for image, mask, channel in ((bad, good, good), (good, bad, good), (good, good, bad)):
        with pytest.raises(InputError, match=r"bad\.tif: "):
            read_tile(Tile("t", image, mask, (channel,)))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nosuch" / "a.tif"
    with pytest.raises(SegtuneError, match=r"nosuch/a\.tif: cannot be written \("), writing(path):
        rasterio.open(path, "w", **profile(1))
