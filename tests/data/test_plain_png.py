"""A PNG that is read without GDAL is read as GDAL reads it, and each damage that GDAL finds is an error."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image
from rasterio.errors import RasterioError

from segtune.data.plain_png import PlainPng, plain_png
from segtune.data.raster import opened
from segtune.data.reading import read_image
from segtune.data.tiles import ReadSettings
from segtune.errors import InputError
from tests.data.files import chunk

HEIGHT, WIDTH = 7, 9
BANDS = {0: 1, 2: 3, 6: 4}  # by PNG's number of the kind
NOTES = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Title\0tile")


def pixels(bands: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(bands).integers(1, 9, (HEIGHT, WIDTH, bands)).astype(np.uint8)


def png(colours: int, packed: bytes | None = None, size: tuple[int, int] = (HEIGHT, WIDTH)) -> bytes:
    """Return a PNG of `pixels` whose compressed data lie in two chunks, with notes before and after them."""
    header = struct.pack(">II5B", size[1], size[0], 8, colours, 0, 0, 0)
    if packed is None:
        packed = zlib.compress(rows(colours))
    half = len(packed) // 2
    data = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    time = chunk(b"tIME", struct.pack(">H5B", 2024, 1, 2, 3, 4, 5))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + NOTES + data + time + chunk(b"IEND", b"")


def rows(colours: int) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels(BANDS[colours]))


def read(path: Path) -> Any:
    """The pixels of a PNG, (H, W, bands); None where it cannot be read."""
    try:
        return read_image(path, ReadSettings(alpha="band"))[0]
    except InputError:
        return None


def read_by_gdal(path: Path) -> Any:
    """The same, row by row by GDAL, which finds what is missing."""
    try:
        with rasterio.Env(GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"), rasterio.open(path, driver="PNG") as source:
            return source.read().transpose(1, 2, 0)
    except RasterioError:
        return None


def same(one: Any, other: Any) -> bool:
    return one is other is None or np.array_equal(one, other)


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a PNG cut at each place, and with a bit of each byte changed."""
    for place in range(8, len(content)):
        yield f"cut at {place}", content[:place]
        yield f"changed at {place}", content[:place] + bytes([content[place] ^ 32]) + content[place + 1 :]


@pytest.mark.parametrize("colours", BANDS)
def test_whatever_is_cut_or_changed_is_found_as_by_gdal(tmp_path: Path, colours: int) -> None:
    path = tmp_path / "a.png"
    refused = 0
    for damage, content in damaged(png(colours)):
        path.write_bytes(content)
        found = read(path)
        assert same(found, read_by_gdal(path)), damage
        refused += found is None
    assert refused > len(png(colours))  # more than half of the damaged files


@pytest.mark.parametrize("colours", BANDS)
def test_a_stream_of_pixels_that_is_cut_or_changed_is_found(tmp_path: Path, colours: int) -> None:
    """Checksums of chunks are right: the pixels were damaged before they were stored."""
    path, packed = tmp_path / "a.png", zlib.compress(rows(colours))
    for place in range(len(packed)):
        for stream in (packed[:place], packed[:place] + bytes([packed[place] ^ 32]) + packed[place + 1 :]):
            path.write_bytes(png(colours, stream))
            assert same(read(path), read_by_gdal(path)), place
    for short in range(len(rows(colours))):
        path.write_bytes(png(colours, zlib.compress(rows(colours)[:short])))
        assert read(path) is None, short


@pytest.mark.parametrize("size", [(HEIGHT + 1, WIDTH), (HEIGHT, WIDTH + 1), (9000, 9000), (0, WIDTH), (HEIGHT, 0)])
def test_a_header_that_claims_more_pixels_is_an_error(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(2, size=size))
    assert read(path) is None


@pytest.mark.parametrize("colours", BANDS)
def test_a_plain_png_has_the_attributes_of_gdals_reader(tmp_path: Path, colours: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(colours))
    with opened(path, "an image", place=True) as raster, rasterio.open(path) as source:
        assert isinstance(raster.source, PlainPng)
        names = (
            *("count", "indexes", "shape", "height", "width", "dtypes", "nodatavals", "colorinterp", "driver"),
            *("mask_flag_enums", "transform", "crs", "rpcs"),
        )
        assert {name: getattr(raster.source, name) for name in names} == {name: getattr(source, name) for name in names}
        assert raster.source.gcps[1] is None
        assert not raster.source.gcps[0]
        for bands in (None, 1, [*source.indexes], [source.count], [source.count, 1]):
            for window in (None, ((1, 4), (2, 9))):
                np.testing.assert_array_equal(raster.source.read(bands, window), source.read(bands, window=window))
    np.testing.assert_array_equal(read(path), pixels(BANDS[colours]))


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {  # mode and how it is saved
    "palette": ("P", {}),
    "one bit": ("1", {}),
    "16 bits": ("I;16", {}),
    "grey and alpha": ("LA", {}),
    "a transparent value": ("RGB", {"transparency": (3, 3, 3)}),
    "a colour profile": ("RGB", {"icc_profile": b"none"}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_png_are_left_to_gdal(tmp_path: Path, kind: str) -> None:
    mode, how = OTHERS[kind]
    path = tmp_path / "a.png"
    Image.fromarray(pixels(3)).convert("L" if mode == "I;16" else mode).convert(mode).save(path, **how)
    assert plain_png(path) is None
    with opened(path, "an image") as raster, rasterio.open(path) as source:
        np.testing.assert_array_equal(raster.read()[0], source.read())


def test_an_interlaced_png_is_left_to_gdal(tmp_path: Path) -> None:
    content = bytearray(png(0))
    content[28] = 1
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    assert plain_png(tmp_path / "a.png") is None


@pytest.mark.parametrize("name", ["a.pgw", "a.wld", "a.png.aux.xml"])
def test_a_png_with_a_file_beside_it_is_left_to_gdal(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(png(2))
    text = "<PAMDataset/>" if name.endswith("xml") else "2\n0\n0\n-2\n500\n700\n"
    (tmp_path / name).write_text(text)
    with opened(tmp_path / "a.png", "an image", place=True) as raster:
        assert not isinstance(raster.source, PlainPng)
        assert (raster.place.transform is None) == name.endswith("xml")


def test_a_band_of_transparency_masks_pixels_of_a_plain_png(tmp_path: Path) -> None:
    shown = pixels(4)
    shown[..., 3] = 255
    shown[2:4, :, 3] = 0
    Image.fromarray(shown).save(tmp_path / "a.png")
    assert plain_png(tmp_path / "a.png")
    image, valid = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, shown[..., :3])
    np.testing.assert_array_equal(valid, shown[..., 3] > 0)
