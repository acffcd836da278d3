"""Image and mask files of every kind that is supported -> arrays, valid pixels, labels, or an error naming the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image

from segtune.data.labels import UNLABELLED
from segtune.data.reading import read_image, read_mask, read_tile
from segtune.data.tiles import Tile
from segtune.errors import InputError
from tests.conftest import WriteImage

HEIGHT, WIDTH = 24, 40


def pixels(dtype: str, bands: int = 3, seed: int = 0) -> npt.NDArray[Any]:
    """Random pixels over the type's whole range, (H, W, bands)."""
    random = np.random.default_rng(seed)
    shape = (HEIGHT, WIDTH, bands)
    if dtype.startswith("float"):
        return random.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def palette_image() -> tuple[Image.Image, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A palette image, its indices and its colours, (4, 3)."""
    indices = (pixels("uint8", 1)[..., 0] % 4).astype(np.uint8)
    colours = np.array([[200, 0, 0], [0, 150, 0], [0, 0, 100], [7, 8, 9]], dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.ravel().tolist())
    assert image.mode == "P"
    return image, indices, colours


def error_of(path: Path, mask: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        read_mask(path) if mask else read_image(path)
    (text,) = caught.value.mistakes
    return text


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_geotiff_is_read_as_it_is(tmp_path: Path, write_image: WriteImage, dtype: str, bands: int) -> None:
    written = pixels(dtype, bands)
    image, valid = read_image(write_image(tmp_path / "a.tif", written))
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, written)
    assert valid.all()


def test_float64_becomes_float32_and_what_does_not_fit_is_invalid(tmp_path: Path, write_image: WriteImage) -> None:
    written = pixels("float64", 1)
    written[2, 3] = 1e300
    image, valid = read_image(write_image(tmp_path / "a.tif", written))
    assert image.dtype == np.float32
    assert np.argwhere(~valid).tolist() == [[2, 3]]
    np.testing.assert_allclose(image[valid], written[valid], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
@pytest.mark.parametrize("bands", [1, 3])
def test_grey_and_colour_pictures_are_read_as_they_are(
    tmp_path: Path, write_image: WriteImage, suffix: str, bands: int
) -> None:
    written = pixels("uint8", bands)
    image, valid = read_image(write_image(tmp_path / f"a{suffix}", written))
    np.testing.assert_array_equal(image, written)
    assert valid.all()


@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_is_read_with_its_usual_loss(tmp_path: Path, write_image: WriteImage, bands: int) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    written = np.stack([rows * 5 + columns, columns * 5, 255 - columns * 5][:bands], axis=2).astype(np.uint8)
    image, valid = read_image(write_image(tmp_path / "a.jpg", written))
    assert image.shape == written.shape
    assert np.abs(image.astype(int) - written).mean() < 5
    assert valid.all()


def test_16_bit_png(tmp_path: Path, write_image: WriteImage) -> None:
    written = pixels("uint16", 1)
    image, _ = read_image(write_image(tmp_path / "a.png", written))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, written)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_no_band_and_transparent_pixels_are_invalid(tmp_path: Path, mode: str) -> None:
    written = pixels("uint8", len(mode))
    written[..., -1] = np.where(written[..., -1] < 100, 0, 255)
    Image.fromarray(written, mode).save(tmp_path / "a.png")
    image, valid = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, written[..., :-1])
    np.testing.assert_array_equal(valid, written[..., -1] > 0)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_image_is_expanded_to_its_colours(tmp_path: Path, suffix: str) -> None:
    picture, indices, colours = palette_image()
    picture.save(tmp_path / f"a{suffix}")
    image, valid = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image, colours[indices])
    assert image.dtype == np.uint8
    assert valid.all()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_mask_is_read_as_its_indices(tmp_path: Path, suffix: str) -> None:
    picture, indices, _ = palette_image()
    picture.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"a{suffix}"), indices)


@pytest.mark.parametrize("transparent", [{1}, {0, 3}])
def test_transparent_colours_of_a_palette_are_invalid(tmp_path: Path, transparent: set[int]) -> None:
    picture, indices, _ = palette_image()
    picture.save(tmp_path / "a.png", transparency=bytes(0 if i in transparent else 255 for i in range(4)))
    _, valid = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(valid, ~np.isin(indices, list(transparent)))


def test_a_1_bit_mask_holds_zero_and_one(tmp_path: Path) -> None:
    bits = pixels("uint8", 1)[..., 0] > 99
    Image.fromarray(bits).save(tmp_path / "a.png")
    with rasterio.open(tmp_path / "a.png") as source:
        assert source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), bits)


def test_nodata_pixels_are_invalid(tmp_path: Path, write_image: WriteImage) -> None:
    written = pixels("int16")
    missing = pixels("uint8", 1, seed=1)[..., 0] < 60
    written[missing] = -9999
    _, valid = read_image(write_image(tmp_path / "a.tif", written, nodata=-9999))
    np.testing.assert_array_equal(valid, ~missing)


def test_without_a_nodata_value_every_integer_is_data(tmp_path: Path, write_image: WriteImage) -> None:
    _, valid = read_image(write_image(tmp_path / "a.tif", np.zeros((4, 4, 2), dtype=np.uint16)))
    assert valid.all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_with_one_band_not_finite_is_invalid(tmp_path: Path, write_image: WriteImage, value: float) -> None:
    written = pixels("float32")
    written[3, 5, 1] = written[6, 7, 2] = value
    _, valid = read_image(write_image(tmp_path / "a.tif", written))
    assert np.argwhere(~valid).tolist() == [[3, 5], [6, 7]]


@pytest.mark.parametrize("nodata", [np.nan, -1.0])
def test_float_nodata_and_nan_pixels_are_both_invalid(tmp_path: Path, write_image: WriteImage, nodata: float) -> None:
    written = pixels("float32", 2)
    written[1, 1], written[2, 2, 0] = nodata, np.nan
    _, valid = read_image(write_image(tmp_path / "a.tif", written, nodata=nodata))
    assert np.argwhere(~valid).tolist() == [[1, 1], [2, 2]]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
def test_a_file_cut_short_is_an_error_that_names_it(
    tmp_path: Path, write_image: WriteImage, suffix: str, kept: float, mask: bool
) -> None:
    path = write_image(tmp_path / f"cut{suffix}", np.tile(pixels("uint8", 1), (4, 4, 1))[..., 0])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert error_of(path, mask).startswith(f"{path}: cannot be read")


@pytest.mark.parametrize("options", [{"compress": "deflate"}, {"compress": "lzw", "tiled": True}])
def test_a_compressed_geotiff_cut_short_is_an_error(
    tmp_path: Path, write_image: WriteImage, options: dict[str, object]
) -> None:
    path = write_image(tmp_path / "cut.tif", np.tile(pixels("uint16"), (4, 4, 1)), **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert error_of(path).startswith(f"{path}: cannot be read")


def test_a_png_with_a_flipped_bit_is_an_error(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "flipped.png", pixels("uint8"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert error_of(path).startswith(f"{path}: cannot be read")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("mask", [False, True])
def test_text_under_an_image_name_is_an_error_of_one_line(tmp_path: Path, suffix: str, mask: bool) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("not an image\n" * 100)
    text = error_of(path, mask)
    assert text.startswith(f"{path}: cannot be read")
    assert "\n" not in text


@pytest.mark.parametrize("dtype", ["int32", "uint32", "complex64"])
def test_pixel_types_that_are_not_supported_are_named(tmp_path: Path, write_image: WriteImage, dtype: str) -> None:
    path = write_image(tmp_path / "a.tif", np.ones((8, 8), dtype=dtype))
    text = error_of(path)
    assert str(path) in text
    assert dtype in text


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_a_mask_of_any_number_type_holds_whole_labels(tmp_path: Path, write_image: WriteImage, dtype: str) -> None:
    labels = (pixels("uint8", 1)[..., 0] % 4).astype(dtype)
    mask = read_mask(write_image(tmp_path / "a.tif", labels))
    assert mask.dtype.kind in "iu"
    np.testing.assert_array_equal(mask, labels)


@pytest.mark.parametrize("value", [0.5, -0.5, np.inf])
def test_a_mask_with_fractions_is_an_error(tmp_path: Path, write_image: WriteImage, value: float) -> None:
    labels = np.ones((8, 8), dtype=np.float32)
    labels[2, 2] = value
    path = write_image(tmp_path / "a.tif", labels)
    assert error_of(path, mask=True).startswith(f"{path}: a mask holds whole numbers")


def test_a_nodata_value_that_a_mask_declares_is_a_label_like_any_other(tmp_path: Path, write_image: WriteImage) -> None:
    labels = (pixels("uint8", 1)[..., 0] % 3).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / "a.tif", labels, nodata=0)), labels)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("int16", -9999),
        ("int32", 2_000_000_000),
        ("float32", -9999.0),
        ("float32", -3.4028234663852886e38),
        ("float64", np.inf),
        ("float32", np.nan),
        ("float32", None),  # NaN means it by itself
        ("float32", 0.0),
    ],
)
def test_pixels_of_a_mask_without_data_are_unlabelled(
    tmp_path: Path, write_image: WriteImage, dtype: str, nodata: float | None
) -> None:
    labels = (pixels("uint8", 1)[..., 0] % 3).astype(dtype)
    labels[3, 4:6] = nodata or np.nan
    mask = read_mask(write_image(tmp_path / "a.tif", labels, nodata=nodata))
    assert mask.dtype.kind in "iu"
    assert np.argwhere(mask == UNLABELLED).tolist() == [[3, 4], [3, 5]]
    np.testing.assert_array_equal(mask[mask != UNLABELLED], labels[mask != UNLABELLED])


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_mask_with_several_bands_is_an_error(tmp_path: Path, write_image: WriteImage, suffix: str) -> None:
    path = write_image(tmp_path / f"a{suffix}", pixels("uint8", 3))
    text = error_of(path, mask=True)
    assert text.startswith(f"{path}: a mask has one band")
    assert "3" in text.removeprefix(str(path))


def tile_of(folder: Path, write_image: WriteImage, **arrays: npt.NDArray[Any]) -> Tile:
    """A tile written from `image`, `mask` and extra channels."""
    paths = {name: write_image(folder / name / "t.tif", array) for name, array in arrays.items()}
    return Tile("t", paths.pop("image"), paths.pop("mask"), tuple(paths.values()))


def test_a_tile_is_its_sources_in_order_and_its_mask(tmp_path: Path, write_image: WriteImage) -> None:
    arrays = {
        "image": pixels("uint16"),
        "mask": pixels("uint8", 1)[..., 0],
        "dem": pixels("float32", 1),
        "nir": pixels("uint8", 1, seed=1),
    }
    sources, valid, mask = read_tile(tile_of(tmp_path, write_image, **arrays))
    for source, name in zip(sources, ("image", "dem", "nir"), strict=True):
        np.testing.assert_array_equal(source, arrays[name])
        assert source.dtype == arrays[name].dtype
    np.testing.assert_array_equal(mask, arrays["mask"])
    assert valid.all()


def test_a_pixel_is_valid_where_all_sources_are(tmp_path: Path, write_image: WriteImage) -> None:
    image, dem = pixels("float32"), pixels("float32", 1)
    image[1, 2], dem[3, 4] = np.nan, np.nan
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    _, valid, _ = read_tile(tile_of(tmp_path, write_image, image=image, mask=mask, dem=dem))
    assert np.argwhere(~valid).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("odd", ["mask", "nir"])
def test_sizes_that_differ_are_an_error_with_both_files_and_sizes(
    tmp_path: Path, write_image: WriteImage, odd: str
) -> None:
    arrays = {"image": pixels("uint8"), "mask": pixels("uint8", 1)[..., 0], "nir": pixels("uint8", 1)}
    arrays[odd] = arrays[odd][:-1]
    tile = tile_of(tmp_path, write_image, **arrays)
    with pytest.raises(InputError) as caught:
        read_tile(tile)
    text = str(caught.value)
    for part in (tmp_path / odd / "t.tif", tile.image, f"{WIDTH}x{HEIGHT}", f"{WIDTH}x{HEIGHT - 1}"):
        assert str(part) in text


def test_an_extra_channel_with_two_bands_is_an_error(tmp_path: Path, write_image: WriteImage) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    tile = tile_of(tmp_path, write_image, image=pixels("uint8"), mask=mask, nir=pixels("uint8", 2))
    with pytest.raises(InputError) as caught:
        read_tile(tile)
    assert str(caught.value).startswith(f"{tile.channels[0]}: ")
    assert "has 2" in str(caught.value)


def test_a_grey_bmp_is_a_possible_extra_channel(tmp_path: Path, write_image: WriteImage) -> None:
    """Every grey BMP carries a palette; it must not be taken for a colour picture."""
    grey = pixels("uint8", 1)
    path = write_image(tmp_path / "a.bmp", grey[..., 0])
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), grey[..., 0])
    np.testing.assert_array_equal(read_image(path)[0], grey)


def test_non_ascii_paths_are_read(tmp_path: Path, write_image: WriteImage) -> None:
    for suffix in (".tif", ".png", ".bmp", ".jpg"):
        path = write_image(tmp_path / "снимки" / f"Пруд №1{suffix}", np.full((8, 8), 7, dtype=np.uint8))
        assert read_image(path)[0].shape == (8, 8, 1)
        assert (read_mask(path) == 7).all()


def test_the_fourth_band_of_a_geotiff_is_not_transparency(tmp_path: Path) -> None:
    pixels = np.arange(4 * 5 * 4, dtype=np.uint8).reshape(4, 5, 4)
    pixels[0, 0, 3] = 0  # dark in near infrared, not missing
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=4, width=5, dtype="uint8", photometric="rgb", alpha="yes"
    ) as target:
        target.write(pixels.transpose(2, 0, 1))
    image, valid = read_image(path)
    assert np.array_equal(image, pixels)
    assert valid.all()
