"""What a file may do and say: its format, orientation, pages, masks and facts beside it, alpha, nodata, its claims."""

from __future__ import annotations

import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from segtune.config import RunConfig
from segtune.data.georeference import read_georeference
from segtune.data.labels import UNLABELLED
from segtune.data.pairs import find_tiles
from segtune.data.reading import alpha_taken, read_header, read_image, read_mask, read_tile
from segtune.data.scan import scan
from segtune.data.tiles import Layout, Tile
from segtune.errors import InputError
from segtune.evaluation.masks import write_mask
from tests.conftest import WriteImage

ORIENTATION = 0x0112
SHAPE = (12, 20)


def noise(bands: int = 3, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Pixels of no order, none of which is 0 or the largest, (H, W, bands)."""
    return np.random.default_rng(bands).integers(1, 250, (*SHAPE, bands)).astype(dtype)


def mistake(path: Path, read: Any = read_image) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    (text,) = caught.value.mistakes
    assert "\n" not in text
    return text


# Formats


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


# Orientation


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


def profile(bands: int, dtype: str = "uint8") -> dict[str, Any]:
    height, width = SHAPE
    return {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": dtype}


# Pages


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
    _, valid = read_image(path, nodata if declared == "setting" else None)
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


# Alpha


def alpha_file(path: Path, alpha: npt.NDArray[Any]) -> Path:
    """A picture of three colours and this alpha band, (H, W)."""
    pixels = np.dstack([noise(), alpha.astype(np.uint8)])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        with rasterio.open(path, "w", **profile(4), photometric="rgb", alpha="yes") as target:
            target.write(pixels.transpose(2, 0, 1))
    return path


OPAQUE = np.full(SHAPE, 255)
HALF = np.where(np.arange(SHAPE[1]) < 8, 0, OPAQUE)
INFRARED = noise(4)[..., 3]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("alpha", "taken"), [(HALF, "mask"), (INFRARED, "band")])
def test_alpha_is_what_its_values_say(tmp_path: Path, suffix: str, alpha: npt.NDArray[Any], taken: str) -> None:
    path = alpha_file(tmp_path / f"a{suffix}", alpha)
    image, valid = read_image(path)
    assert image.shape[2] == (4 if taken == "band" else 3)
    np.testing.assert_array_equal(valid, (alpha > 0) | (taken == "band"))
    assert alpha_taken([path]) == (taken, 4)


@pytest.mark.parametrize(("suffix", "bands"), [(".png", 3), (".tif", 4)])
def test_alpha_that_is_opaque_everywhere_stays_a_band_of_a_geotiff(tmp_path: Path, suffix: str, bands: int) -> None:
    assert read_image(alpha_file(tmp_path / f"a{suffix}", OPAQUE))[0].shape[2] == bands


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_setting_and_a_number_of_bands_decide_before_values(tmp_path: Path, suffix: str) -> None:
    path = alpha_file(tmp_path / f"a{suffix}", HALF)
    assert read_image(path, alpha="band")[0].shape[2] == 4
    assert read_image(path, bands=4)[0].shape[2] == 4
    assert read_image(path, bands=3)[0].shape[2] == 3
    infrared = alpha_file(tmp_path / f"b{suffix}", INFRARED)
    assert read_image(infrared, alpha="mask")[0].shape[2] == 3


def test_a_data_set_takes_alpha_for_one_thing_and_says_so(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number, alpha in enumerate([HALF, OPAQUE]):
            alpha_file(tmp_path / split / "images" / f"{number}.tif", alpha)
            (tmp_path / split / "gt").mkdir(parents=True, exist_ok=True)
            labels = np.where(noise(1)[..., 0] > 99, 255, 0).astype(np.uint8)
            Image.fromarray(labels).save(tmp_path / split / "gt" / f"{number}.png")
    for alpha, bands, lines in (("auto", 3, 1), ("auto", 3, 1), ("band", 4, 0), ("mask", 3, 0)):
        said: list[str] = []
        config = RunConfig(dataset=str(tmp_path), alpha=alpha, image_size=32)
        info = scan(config, say=said.append)
        assert len(info.bands) == bands
        assert len([line for line in said if "alpha" in line]) == lines
        assert info.store("val", config).image(1).shape[2] == bands
        assert scan(config.model_copy(update={"cache_dir": "none"})).store("val", config).image(1).shape[2] == bands


# Claims of a header


def directory(tags: list[tuple[int, int]], following: int = 0) -> bytes:
    """A TIFF of one directory with these tags, and no pixels."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + bytes(200)


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


# Where predictions lie


POINTS = [GroundControlPoint(row, column, 15 + column / 99, 41 - row / 99) for row in (0, 12) for column in (0, 20)]
TRANSFORM = from_origin(500_000, 4_600_000, 10, 10)
POLYNOMIALS = RPC(
    **{f"{name}_{part}": 3.0 for name in ("height", "lat", "long", "line", "samp") for part in ("off", "scale")},
    **{f"{name}_{part}_coeff": [0.5] * 20 for name in ("line", "samp") for part in ("num", "den")},
)
PLACES: dict[str, dict[str, Any]] = {
    "transform": {"crs": CRS.from_epsg(32633), "transform": TRANSFORM},
    "gcps": {"crs": CRS.from_epsg(4326), "gcps": POINTS},
    "rpcs": {"rpcs": POLYNOMIALS},
}


def placed(path: Path) -> tuple[Any, ...]:
    with rasterio.open(path) as source:
        points = [(point.row, point.col, point.x, point.y) for point in source.gcps[0]]
        rpcs = source.rpcs and source.rpcs.to_dict()
        return source.crs if not points else source.gcps[1], source.transform, points, rpcs


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize(("driver", "suffix"), [("GTiff", ".tif"), ("PNG", ".png")])
def test_a_prediction_lies_where_its_tile_does(tmp_path: Path, driver: str, suffix: str, kind: str) -> None:
    tile = tmp_path / f"t{suffix}"
    with rasterio.open(tile, "w", **profile(1) | PLACES[kind] | {"driver": driver}) as target:
        target.write(noise(1)[..., 0], 1)
    (tmp_path / "out").mkdir()
    written = write_mask(tmp_path / "out", Tile("t", tile, tile, ()), noise(1)[..., 0])
    assert written.name == tile.name
    assert placed(written) == placed(tile)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("suffix", "world"), [(".png", "pgw"), (".jpg", "jgw"), (".bmp", "wld"), (".tif", "tfw")])
def test_a_world_file_reaches_the_prediction(tmp_path: Path, suffix: str, world: str) -> None:
    tile = tmp_path / f"t{suffix}"
    Image.fromarray(noise()).save(tile)
    (tmp_path / f"t.{world}").write_text(WORLD)
    (tmp_path / "out").mkdir()
    written = write_mask(tmp_path / "out", Tile("t", tile, tile, ()), noise(1)[..., 0])
    assert placed(written)[1] == TRANSFORM
    found = read_georeference(tile)
    assert found
    assert found.transform == TRANSFORM


WORLD = "10\n0\n0\n-10\n500005\n4599995\n"


def turned(path: Path, number: int) -> npt.NDArray[Any]:
    """Write a picture with an orientation; its pixels as they are stored."""
    exif = Image.Exif()
    exif[ORIENTATION] = number
    options: dict[str, Any] = {"tiffinfo": {ORIENTATION: number}} if path.suffix == ".tif" else {"exif": exif}
    stored: npt.NDArray[Any] = noise(1)[..., 0]
    Image.fromarray(stored).save(path, **options)
    return stored


@pytest.mark.parametrize("number", [3, 6])
@pytest.mark.parametrize(("suffix", "world"), [(".tif", "tfw"), (".png", "pgw"), (".jpg", "jgw")])
def test_a_picture_with_a_place_is_not_turned(tmp_path: Path, suffix: str, world: str, number: int) -> None:
    path = tmp_path / f"t{suffix}"
    stored = turned(path, number)
    (tmp_path / f"t.{world}").write_text(WORLD)
    image, _ = read_image(path)
    assert image.shape[:2] == SHAPE
    assert np.abs(image[..., 0] - stored.astype(int)).mean() < 9  # a JPEG changes them by little
    found = read_georeference(path)
    assert found
    assert found.transform == TRANSFORM
    (tmp_path / "out").mkdir()
    assert placed(write_mask(tmp_path / "out", Tile("t", path, path, ()), stored))[1] == TRANSFORM


@pytest.mark.parametrize("kind", PLACES)
def test_no_kind_of_place_is_turned(tmp_path: Path, kind: str) -> None:
    path, stored = tmp_path / "t.tif", noise(1)[..., 0]
    with rasterio.open(path, "w", **profile(1) | PLACES[kind]) as target:
        target.write(stored, 1)
    place = placed(path)
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    # Its list of tags again, at the end, with an orientation, which GDAL does not write.
    tags = [bytes(data[first + 2 + 12 * i : first + 14 + 12 * i]) for i in range(count)]
    tags.append(struct.pack("<HHII", ORIENTATION, 3, 1, 6))
    struct.pack_into("<I", data, 4, len(data))
    tags.sort(key=lambda tag: struct.unpack_from("<H", tag))
    path.write_bytes(data + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4))
    assert placed(path) == place
    np.testing.assert_array_equal(read_mask(path), stored)
    (tmp_path / "out").mkdir()
    assert placed(write_mask(tmp_path / "out", Tile("t", path, path, ()), stored)) == place


def test_a_transform_that_only_counts_pixels_leaves_a_picture_turned(tmp_path: Path) -> None:
    path = tmp_path / "t.tif"
    stored = turned(path, 6)
    (tmp_path / "t.tfw").write_text(f"1\n0\n0\n-1\n0.5\n{SHAPE[0] - 0.5}\n")
    np.testing.assert_array_equal(read_mask(path), np.rot90(stored, -1))
    assert read_georeference(path) is None


@pytest.mark.parametrize("beside", [False, True])
def test_no_name_in_a_file_or_beside_it_leads_to_a_server(
    tmp_path: Path, write_image: WriteImage, beside: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        address = f"/vsicurl/http://127.0.0.1:{server.getsockname()[1]}/a.tif"
        path = write_image(tmp_path / "a.tif", noise(1))
        if beside:
            item = f'<MDI key="OVERVIEW_FILE">{address}</MDI>'
            Path(f"{path}.aux.xml").write_text(
                f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
            )
        else:
            with rasterio.open(path, "r+") as target:
                target.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=address)
        for read in (read_image, read_mask, read_header, read_georeference):
            read(path)
        with pytest.raises(TimeoutError):
            server.accept()
