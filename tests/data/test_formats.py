"""Formats of files by their content, the pages of a TIFF, and how viewers turn a picture."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image, ImageOps

from segtune.data.alignment import read_georeference
from segtune.data.labels import UNLABELLED
from segtune.data.reading import read_header, read_image, read_mask
from tests.conftest import WriteImage
from tests.data.files import ORIENTATION, SHAPE, directory, mistake, noise, profile

FOREIGN = {
    "VRT": b'<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>',
    "MRF": b"<MRF_META><Raster><Size x='8' y='8' c='1'/></Raster></MRF_META>",
    "WMS": b'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1/</ServerUrl></Service></GDAL_WMS>',
    "GIF": b"GIF89a" + bytes(20),
    "WEBP": b"RIFF\x20\0\0\0WEBPVP8 ",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "text": b"not an image",
    "empty": b"",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.mark.parametrize("read", [read_image, read_mask, read_header, read_georeference])
@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_file_of_another_format_is_named_with_what_it_is(tmp_path: Path, name: str, suffix: str, read: Any) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(FOREIGN[name])
    text = mistake(path, read)
    assert text.startswith(f"{path}: cannot be read as ")
    assert name in text


def test_a_vrt_reads_no_other_file(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "secret.tif", noise(1))
    source = f"<SimpleSource><SourceFilename>{tmp_path}/secret.tif</SourceFilename></SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand>'
    vrt = f'<VRTDataset rasterXSize="{SHAPE[1]}" rasterYSize="{SHAPE[0]}">{band}</VRTDataset>'
    (tmp_path / "a.tif").write_text(vrt)
    assert "VRT" in mistake(tmp_path / "a.tif")
    for ending in (".msk", ".MSK"):  # GDAL looks for either
        write_image(tmp_path / "b.tif", noise(1))
        (tmp_path / "b.tif.aux.xml").write_text("<PAMDataset/>")
        (tmp_path / f"b.tif{ending}").write_text(vrt)
        assert mistake(tmp_path / "b.tif").startswith(f"{tmp_path}/b.tif{ending}: ")
        (tmp_path / f"b.tif{ending}").unlink()


def test_the_content_says_the_format_and_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], noise())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("number", [*range(1, 9), 0, 9])
def test_pictures_are_read_as_viewers_show_them(tmp_path: Path, suffix: str, number: int) -> None:
    path, picture, exif = tmp_path / f"a{suffix}", Image.fromarray(noise()), Image.Exif()
    exif[ORIENTATION] = number
    picture.save(
        path,
        **(
            {"tiffinfo": {ORIENTATION: number}}
            if suffix == ".tif"
            else {"exif": exif, "quality": 100, "subsampling": 0}
        ),
    )
    with Image.open(path) as saved:
        stored = np.array(saved)
        shown = np.array(ImageOps.exif_transpose(saved)) if number else stored
    image, valid = read_image(path)
    # Decoders of JPEG differ by little, and noise that is turned by much.
    assert np.abs(image - shown.astype(int)).mean() < (3 if suffix == ".jpg" else 1e-9)
    assert valid.shape == image.shape[:2] == (read_header(path).height, read_header(path).width)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_mask_and_what_it_leaves_out_are_turned_with_it(tmp_path: Path, number: int) -> None:
    labels = noise(1)[..., 0]
    path = tmp_path / "a.tif"
    Image.fromarray(labels).save(path, tiffinfo={ORIENTATION: number})
    left_out = labels < 50
    with rasterio.open(f"{path}.msk", "w", **profile(1)) as target:
        target.write(np.where(left_out, 0, 255).astype(np.uint8), 1)
        target.update_tags(INTERNAL_MASK_FLAGS_1=2)
    upright = Image.fromarray(labels.astype(np.int32)), Image.Exif()
    upright[1][ORIENTATION] = number
    upright[0].info["exif"] = upright[1].tobytes()
    shown = np.array(ImageOps.exif_transpose(upright[0]))
    mask = read_mask(path)
    np.testing.assert_array_equal(mask, np.where(shown < 50, UNLABELLED, shown))


def save_pages(path: Path, pages: list[npt.NDArray[Any]], **options: Any) -> Path:
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pages_are_bands(tmp_path: Path, dtype: str) -> None:
    bands = noise(3, dtype)
    path = save_pages(tmp_path / "a.tif", list(bands.transpose(2, 0, 1)))
    np.testing.assert_array_equal(read_image(path)[0], bands)
    assert read_header(path).bands == 3
    assert "pages" in mistake(path, read_mask)


def test_pages_that_differ_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "a.tif", [noise(1)[..., 0], noise(1)[::2, ::2, 0]])
    text = mistake(path)
    assert "page 2 is 10x6 8-bit" in text
    assert "20x12" in text
    assert "keep one of them" in text


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_overviews_thumbnails_and_masks_are_no_pages(tmp_path: Path, read: Any) -> None:
    big = np.tile(noise(1)[..., 0], (20, 20))
    path = tmp_path / "a.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile(1) | {"height": 240, "width": 400}) as target,
    ):
        target.write(big, 1)
        target.write_mask(np.full(big.shape, 255, np.uint8))
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4])
    found = read(path)
    np.testing.assert_array_equal(found if read is read_mask else found[0][..., 0], big)


def test_a_thumbnail_before_the_image_is_passed_over(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(1)[::2, ::2, 0]), Image.fromarray(noise(1)[..., 0])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], tiffinfo={254: 1})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    # Pillow gives every page the tag: the second one is made a page again.
    entry = struct.pack("<HHI", 254, 4, 1)
    second = data.rfind(entry)
    assert second > data.find(entry) >= 0
    data[second + 8 : second + 12] = bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], noise(1))


def test_pages_cut_short_or_in_a_circle_are_an_error(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "a.tif", list(noise(3).transpose(2, 0, 1)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert mistake(path).startswith(f"{path}: cannot be read")
    path.write_bytes(directory([(256, 8), (257, 8)], following=8))
    assert "circle" in mistake(path)
