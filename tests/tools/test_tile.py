"""python -m segtune.tools tile: scenes become tiles, at their place, with their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as reproject
from shapely import box, to_wkb
from shapely.geometry import Polygon

from segtune.data.pairs import find_tiles
from segtune.data.raster import opened
from segtune.data.reading import read_image, read_mask
from segtune.data.tiles import Layout
from tests.conftest import WriteImage
from tests.scripts import Ended, call

CRS_OF_SCENES, PLACE = "EPSG:32643", Affine(2, 0, 700_000, 0, -2, 1_400_000)


def tile(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "tile", *arguments)


def pixels(height: int = 50, width: int = 70, bands: int = 3, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Pixels, (H, W, bands), that tell their row and column, and are never 0."""
    rows, columns, band = np.indices((height, width, bands))
    return (1 + (rows * 3 + columns * 7 + band * 11) % 250).astype(dtype)


def stored(path: Path) -> tuple[npt.NDArray[Any], Affine, dict[str, Any]]:
    with rasterio.open(path) as source:
        return source.read(), source.transform, source.profile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def outline_file(path: Path, polygons: list[Any], crs: str | None = CRS_OF_SCENES, **values: list[Any]) -> Path:
    """Write outlines with attributes."""
    columns = [np.array(column, object if isinstance(column[0], str) else None) for column in values.values()]
    kind = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile"}[path.suffix]
    wkb = to_wkb(np.array(polygons, object))
    pyogrio.raw.write(path, wkb, columns, list(values), geometry_type="Polygon", driver=kind, crs=crs)
    return path


def on_map(left: float, top: float, right: float, bottom: float, crs: str = CRS_OF_SCENES) -> Polygon:
    """A rectangle of pixels of a scene, in a coordinate system."""
    corners = [PLACE @ corner for corner in ((left, top), (right, top), (right, bottom), (left, bottom))]
    xs, ys = zip(*corners, strict=True)
    return Polygon(zip(*reproject(CRS.from_string(CRS_OF_SCENES), CRS.from_string(crs), xs, ys), strict=True))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scene(write_image: WriteImage) -> Path:
    return write_image(Path("a.tif"), pixels(), crs=CRS_OF_SCENES, transform=PLACE)


@pytest.mark.parametrize("workers", [1, 2])
def test_tiles_hold_the_pixels_of_their_place(write_image: WriteImage, workers: int) -> None:
    known = {"crs": CRS_OF_SCENES, "transform": PLACE}
    labels = pixels(bands=1)[..., 0] % 3
    for name in ("a", "b"):  # each is a part that a process cuts
        write_image(Path(f"{name}.tif"), pixels(), **known)
        write_image(Path(f"{name}_nir.tif"), pixels(bands=1, dtype="uint16") + np.uint16(900), **known)
        write_image(Path(f"gt/{name}.png"), labels)
    flags = ("--channels", "nir", "--mask", "gt", "--size", 20, "--workers", workers)
    ended = tile("a.tif", "b.tif", *flags, "--to", "tiles")
    assert (ended.status, ended.err) == (0, "")
    first, _, last = ended.out.splitlines()
    assert first == "a: 70x50 pixels, images 3 bands, nir 1 band, gt 1 band: 3 x 4 = 12 tiles of 20x20"
    assert last == "tiles: 24 tiles"
    found = find_tiles(Path("tiles"), Layout(channels=("nir",)))
    # The last row and column are shifted back into the scene.
    assert set(found.names) == {
        f"{name}_r{top:04d}_c{left:04d}" for name in "ab" for top in (0, 20, 30) for left in (0, 20, 40, 50)
    }
    for one in found:
        top, left = (int(part[1:]) for part in one.name.split("_")[1:])
        part = np.s_[top : top + 20, left : left + 20]
        image, transform, profile = stored(one.image)
        assert np.array_equal(image, pixels()[part].transpose(2, 0, 1))
        assert transform == PLACE @ Affine.translation(left, top)
        assert profile["crs"] == CRS_OF_SCENES
        assert np.array_equal(stored(one.channels[0])[0][0], pixels(bands=1, dtype="uint16")[part][..., 0] + 900)
        assert np.array_equal(read_mask(one.mask), labels[part])
    assert names(Path("tiles")) == ["gt", "images", "nir"]


def test_ground_control_points_move_with_a_tile(write_image: WriteImage) -> None:
    corners = [(0, 0), (0, 70), (50, 0), (50, 70), (25, 35)]
    gcps = [GroundControlPoint(row, column, *(PLACE @ (column, row)), 5.0) for row, column in corners]
    write_image(Path("a.tif"), pixels(), gcps=gcps, crs=CRS_OF_SCENES)
    assert tile("a.tif", "--size", 50, "--to", "tiles").status == 0
    with opened(Path("tiles/images/a_r0000_c0020.tif"), "an image", place=True) as raster:
        assert [(point.row, point.col) for point in raster.place.gcps] == [(row, col - 20) for row, col in corners]
        found = raster.place.on_map(np.array([[3.0, 4.0]]))
    assert found is not None
    assert tuple(found[0]) == pytest.approx(PLACE @ (23, 4), abs=1e-6)


def test_a_last_tile_is_padded_with_pixels_without_data(scene: Path, write_image: WriteImage) -> None:
    write_image(Path("gt/a.tif"), pixels(bands=1)[..., 0])
    flags = ("--size", 32, "--stride", 24, "--last", "pad", "--background", 255)
    assert tile(scene, "--mask", "gt", *flags, "--to", "tiles").status == 0
    assert names(Path("tiles/images")) == [f"a_r{top:04d}_c{left:04d}.tif" for top in (0, 24) for left in (0, 24, 48)]
    image, valid = read_image(Path("tiles/images/a_r0024_c0048.tif"))
    assert image.shape == (32, 32, 3)
    assert np.array_equal(image[:26, :22], pixels()[24:, 48:])
    assert valid[:26, :22].all()
    assert valid.sum() == 26 * 22
    mask = read_mask(Path("tiles/gt/a_r0024_c0048.tif"))
    assert (mask[26:] == 255).all()
    assert np.array_equal(mask[:26, :22], pixels(bands=1)[24:, 48:, 0])


def test_tiles_keep_nodata_and_are_left_out_without_data(write_image: WriteImage) -> None:
    image = pixels(40, 60, 2, "int16")
    image[:, :30] = -9999
    image[10, 45] = -9999
    write_image(Path("a.tif"), image, nodata=-9999, crs=CRS_OF_SCENES, transform=PLACE)
    ended = tile("a.tif", "--size", 20, "--min-valid", 0.6, "--to", "tiles")
    assert ended.out.splitlines()[-1] == "tiles: 2 tiles; 4 tiles left out by --min-valid"
    assert names(Path("tiles/images")) == ["a_r0000_c0040.tif", "a_r0020_c0040.tif"]
    _, valid = read_image(Path("tiles/images/a_r0000_c0040.tif"))
    assert np.argwhere(~valid).tolist() == [[10, 5]]
    assert stored(Path("tiles/images/a_r0000_c0040.tif"))[2]["nodata"] == -9999

    (mistake,) = tile("a.tif", "--size", 40, "--min-valid", 0.9, "--to", "none").mistakes
    assert mistake == "--min-valid: no tile has a share of 0.9; the largest is 0.7494"
    assert not Path("none").exists()
    assert "warning: 2 tiles hold no data at all" in tile("a.tif", "--size", 20, "--to", "all").out


def test_a_nodata_value_that_pixels_cannot_have_marks_nothing(write_image: WriteImage) -> None:
    write_image(Path("a.tif"), pixels(30, 30))
    for number in (1, 2):
        band = pixels(30, 30, 1)[..., 0]
        band[0, :number] = number
        write_image(Path(f"b{number}.tif"), band, nodata=number)
    root = "<VRTDataset rasterXSize='30' rasterYSize='30'><VRTRasterBand dataType='Byte' band='1'><NoDataValue>-9999"
    source = "<SourceFilename relativeToVRT='1'>a.tif</SourceFilename><SourceBand>1</SourceBand>"
    Path("v.vrt").write_text(
        f"{root}</NoDataValue><SimpleSource>{source}</SimpleSource></VRTRasterBand></VRTDataset>", encoding="utf-8"
    )
    Path("l.txt").write_text("b1.tif\nb2.tif\n")
    assert tile("v.vrt", "--size", 30, "--to", "whole").status == 0
    image, valid = read_image(Path("whole/images/v_r0000_c0000.tif"))
    assert np.array_equal(image, pixels(30, 30)[..., :1])
    assert valid.all()
    # Bands with nodata values of their own: a mask in the file says which pixels have none in both.
    assert tile("l.txt", "--size", 30, "--to", "two").status == 0
    assert np.argwhere(~read_image(Path("two/images/l_r0000_c0000.tif"))[1]).tolist() == [[0, 0]]


def test_tiles_without_labels_are_left_out(scene: Path, write_image: WriteImage) -> None:
    mask = np.zeros((50, 70), np.uint8)
    mask[:10, :20], mask[30:, 50:] = 3, 9
    write_image(Path("gt/a.tif"), mask)
    flags = ("--mask", "gt", "--size", 20, "--min-labelled", 0.4, "--background", 0, 9)
    assert tile(scene, *flags, "--to", "tiles").out.endswith("1 tile; 11 tiles left out by --min-labelled\n")
    assert names(Path("tiles/gt")) == ["a_r0000_c0000.tif"]


def test_a_list_names_the_bands_of_an_image(write_image: WriteImage) -> None:
    bands = pixels(dtype="uint16")
    for number in range(3):
        write_image(Path(f"b{number}/s.tif"), bands[..., number], crs=CRS_OF_SCENES, transform=PLACE)
    Path("s.txt").write_text("b2/s.tif\nb0/s.tif\n# left out: b1\n")
    assert tile("s.txt", "--size", 30, "--to", "tiles").status == 0
    image, transform, _ = stored(Path("tiles/images/s_r0020_c0030.tif"))
    assert np.array_equal(image, bands[20:, 30:60, [2, 0]].transpose(2, 0, 1))
    assert transform == PLACE @ Affine.translation(30, 20)


def test_a_vrt_is_cut_as_one_scene(write_image: WriteImage) -> None:
    for left in (0, 35):
        write_image(Path(f"part{left}.tif"), pixels()[:, left : left + 35])
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">part{left}.tif</SourceFilename><SourceBand>{{0}}</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="35" ySize="50"/><DstRect xOff="{left}" yOff="0" xSize="35" ySize="50"/>'
        "</SimpleSource>"
        for left in (0, 35)
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">{sources.format(band)}</VRTRasterBand>' for band in (1, 2, 3)
    )
    Path("v.vrt").write_text(f'<VRTDataset rasterXSize="70" rasterYSize="50">{bands}</VRTDataset>')
    assert tile("v.vrt", "--size", 50, "--to", "tiles").status == 0
    assert np.array_equal(stored(Path("tiles/images/v_r0000_c0020.tif"))[0], pixels()[:, 20:].transpose(2, 0, 1))

    Path("v.vrt").write_text(Path("v.vrt").read_text().replace("part35.tif", "/vsicurl/http://x/y.tif"))
    (mistake,) = tile("v.vrt", "--size", 50, "--to", "none").mistakes
    assert "/vsicurl/http:/x/y.tif: cannot be read as an image" in mistake


def test_other_rasters_are_cut_too(write_image: WriteImage) -> None:
    profile = {"height": 50, "width": 70, "count": 1, "dtype": "uint16", "crs": CRS_OF_SCENES, "transform": PLACE}
    band = pixels(bands=1, dtype="uint16")[..., 0]
    with rasterio.open("e.img", "w", driver="HFA", **profile) as target:
        target.write(band, 1)
    with rasterio.open("j.jp2", "w", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", **profile) as target:
        target.write(band, 1)
    for name in ("e.img", "j.jp2"):
        assert tile(name, "--size", 50, "--to", "tiles").status == 0
        image, transform, _ = stored(Path(f"tiles/images/{name[0]}_r0000_c0020.tif"))
        assert np.array_equal(image[0], band[:, 20:])
        assert transform == PLACE @ Affine.translation(20, 0)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
def test_outlines_in_another_system_get_the_labels_of_values(scene: Path, suffix: str) -> None:
    there = "EPSG:4326"
    polygons = [on_map(3, 2, 23, 12, there), on_map(30, 20, 60.4, 44.6, there), on_map(40, 5, 50, 15, there)]
    polygons += [on_map(15, 8, 25, 18, there)]
    file = outline_file(Path(f"kinds{suffix}"), polygons, there, kind=["house", "lake", "road", "lake"])
    flags = ("--mask", file, "--attribute", "kind", "--labels", "house:1", "lake:300", "--size", 50)
    ended = tile(scene, *flags, "--to", "tiles")
    assert ended.err == ""
    assert f"{file}: left out: 1 outline: kind is road" in ended.out.splitlines()
    wanted = np.zeros((50, 70), np.uint16)
    wanted[2:12, 3:23], wanted[20:45, 30:60] = 1, 300
    wanted[8:18, 15:25] = 300  # the later outline covers the earlier one
    for left in (0, 20):
        mask, transform, profile = stored(Path(f"tiles/gt/a_r0000_c{left:04d}.tif"))
        assert np.array_equal(mask[0], wanted[:, left : left + 50])
        assert transform == PLACE @ Affine.translation(left, 0)
        assert profile["dtype"] == "uint16"


def test_outlines_without_an_attribute_get_one_label(scene: Path) -> None:
    outline_file(Path("a_gt.gpkg"), [on_map(0, 0, 10, 10), on_map(500, 500, 510, 510)], number=[4, 7])
    flags = ("--mask", "gt", "--size", 50, "--background", 9)
    assert tile(scene, *flags, "--to", "tiles").status == 0
    mask = read_mask(Path("tiles/gt/a_r0000_c0000.tif"))
    assert (mask[:10, :10] == 1).all()
    assert (mask == 9).sum() == 50 * 50 - 100
    assert mask.dtype == np.uint8

    assert tile(scene, *flags, "--attribute", "number", "--to", "numbers").status == 0
    assert (read_mask(Path("numbers/gt/a_r0000_c0000.tif"))[:10, :10] == 4).all()


def test_another_grid_is_refused_or_resampled(scene: Path, write_image: WriteImage) -> None:
    coarse = PLACE @ Affine.translation(-5, -5) @ Affine.scale(5)
    dem = np.repeat(np.arange(100, 116, dtype=np.float32)[None], 12, axis=0)
    write_image(Path("dem.tif"), dem, crs=CRS_OF_SCENES, transform=coarse)
    mask = np.zeros((12, 10), np.uint8)
    mask[3:6, 3:6] = 200
    write_image(Path("labels.tif"), mask, crs=CRS_OF_SCENES, transform=coarse)
    flags = (scene, "--channels", "dem=dem.tif", "--mask", "labels.tif", "--size", 50)
    (mistake,) = tile(*flags, "--to", "tiles").mistakes
    assert mistake.startswith(
        "dem.tif: its size differs from that of a.tif (16x12 and 70x50); --resample bilinear brings"
    )

    assert tile(*flags, "--resample", "bilinear", "--background", 7, "--to", "tiles").status == 0
    found = stored(Path("tiles/dem/a_r0000_c0000.tif"))[0][0]
    columns = np.arange(50)
    assert found[20] == pytest.approx(100 + (columns + 5 + 0.5) / 5 - 0.5, abs=1e-3)
    labels = read_mask(Path("tiles/gt/a_r0000_c0020.tif"))
    assert np.unique(labels).tolist() == [0, 7, 200]  # nothing between the labels
    wanted = np.kron(mask, np.ones((5, 5), np.uint8))[5:55, 25:]
    assert np.array_equal(labels[:, :25], wanted)
    assert (labels[:, 25:] == 7).all()  # the file ends there


def test_alpha_palette_and_names_of_bands_are_kept(write_image: WriteImage) -> None:
    image = pixels(bands=4)
    image[..., 3] = 255
    image[:5, :5, 3] = 0
    write_image(Path("a.tif"), image, photometric="rgb", alpha="yes")
    with rasterio.open("a.tif", "r+") as target:
        target.descriptions = ("red", "green", "blue", "alpha")
    write_image(Path("gt/a.tif"), pixels(bands=1)[..., 0] % 2, photometric="palette")
    with rasterio.open("gt/a.tif", "r+") as target:
        target.write_colormap(1, {0: (0, 0, 0, 255), 1: (250, 0, 0, 255)})
    assert tile("a.tif", "--mask", "gt", "--size", 30, "--to", "tiles").status == 0
    first = Path("tiles/images/a_r0000_c0000.tif")
    image, valid = read_image(first)
    assert image.shape == (30, 30, 3)
    assert (~valid).sum() == 25
    with rasterio.open(first) as source:
        assert source.descriptions == ("red", "green", "blue", "alpha")
    with rasterio.open("tiles/gt/a_r0000_c0000.tif") as source:
        assert source.colormap(1)[1] == (250, 0, 0, 255)


def test_tiles_are_replaced_only_when_asked(scene: Path, write_image: WriteImage) -> None:
    assert tile(scene, "--size", 50, "--to", "tiles").status == 0
    (mistake,) = tile(scene, "--size", 40, "--to", "tiles").mistakes
    assert mistake.startswith(
        "--to: tiles holds 2 files of tiles of these scenes, such as tiles/images/a_r0000_c0000.tif"
    )
    write_image(Path("b.tif"), pixels(60, 60))
    assert tile("b.tif", "--size", 60, "--to", "tiles").status == 0
    ended = tile(scene, "--size", 40, "--force", "--dry-run", "--to", "tiles")
    assert ended.out.splitlines()[-1] == (
        "dry run: tiles would get 4 tiles, in place of 2 files that are there; nothing was written"
    )
    assert tile(scene, "--size", 40, "--force", "--to", "tiles").status == 0
    assert names(Path("tiles/images")) == [
        *(f"a_r{top:04d}_c{left:04d}.tif" for top in (0, 10) for left in (0, 30)),
        "b_r0000_c0000.tif",
    ]


def test_a_damaged_scene_leaves_nothing(scene: Path) -> None:
    data = scene.read_bytes()
    write = rasterio.open(
        "t.tif", "w", driver="GTiff", height=200, width=70, count=3, dtype="uint8", compress="deflate"
    )
    with write as target:
        target.write(np.random.default_rng(0).integers(0, 255, (3, 200, 70), np.uint8))
    data = Path("t.tif").read_bytes()
    Path("t.tif").write_bytes(data[: len(data) // 2])
    (mistake,) = tile("t.tif", "--size", 50, "--to", "tiles").mistakes
    assert mistake.startswith("t.tif: cannot be read as an image")
    assert not Path("tiles").exists()


def test_scenes_of_a_folder_have_their_files_beside(write_image: WriteImage) -> None:
    for name in ("x", "y"):
        write_image(Path(f"scenes/{name}.tif"), pixels())
        write_image(Path(f"scenes/{name}_nir.tif"), pixels(bands=1)[..., 0])
    ended = tile("scenes", "--channels", "nir", "--size", 50, "--to", "tiles")
    assert ended.err == ""
    assert {name.split("_")[0] for name in names(Path("tiles/images"))} == {"x", "y"}
    assert names(Path("tiles/nir")) == names(Path("tiles/images"))


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("none.tif --size 9 --to t", "none.tif: no such file or folder"),
        ("a.tif --size 0 --to t", "--size: must be from 1 to 65536 pixels, but got 0"),
        ("a.tif --size 9 --stride 0 --to t", "--stride: must be at least 1 pixel, but got 0"),
        ("a.tif --size 9 --min-valid 2 --to t", "--min-valid: a share is from 0 to 1, but got 2"),
        ("a.tif --size 9 --min-labelled 0.1 --to t", "--min-labelled: needs masks; --mask says where they lie"),
        ("a.tif --size 64 --to t", "a.tif: is 70x50 pixels, less than --size 64; --last pad fills up"),
        ("a.tif --size 9 --channels nir --to t", "a.tif: its channel nir is missing (--channels)"),
        ("a.tif --size 9 --channels gt --to t", "--channels: 'gt' cannot be the name of a channel's folder"),
        ("a.tif --size 9 --mask x/y --to t", "--mask: x/y: no such file or folder"),
        ("a.tif --size 9 --mask a.tif --to t", "a.tif: a mask has one band, but this has 3"),
        ("a.tif --size 9 --channels nir=b.tif --to t", "b.tif: does not lie where a.tif does: it lies 1 pixels to the"),
        ("a.tif c.tif --size 9 --to t", "c.tif: has 1 band of images, but a.tif has 3 bands of images"),
        ("a.tif a.tif --size 9 --to t", "two scenes have the same name, which names their tiles: a; rename one"),
        ("a.tif --size 9 --mask o.gpkg --attribute kin --to t", "has no attribute 'kin'; did you mean 'kind'?"),
        ("a.tif --size 9 --mask o.gpkg --attribute kind --to t", "--labels house:1 lake:2"),
        ("a.tif --size 9 --mask o.gpkg --attribute kind --labels x --to t", "--labels: takes VALUE:LABEL"),
        ("a.tif --size 9 --mask o.gpkg --attribute kind --labels x:1 --to t", "kind has none of these values"),
        ("a.tif --size 9 --mask o.gpkg --layer x --to t", "--layer: o.gpkg: has no layer 'x' (known: o)"),
        ("a.tif --size 9 --mask p.gpkg --to t", "p.gpkg: has no coordinate system"),
        ("a.tif --size 9 --mask fake.gpkg --to t", "fake.gpkg: cannot be read as outlines: its content is no"),
        (
            "n.tif --size 9 --mask o.gpkg --to t",
            "n.tif: its place is not known by a transform and a CRS, which outlines",
        ),
        ("a.tif --size 9 --mask o.gpkg --attribute n --to t", "n holds 4294967296, which is no label; --labels says"),
        (
            "a.tif --size 9 --mask m.png --background 300 --to t",
            "--background: 300 does not fit m.png, whose pixels are",
        ),
        ("a.tif --size 9 --labels x:1 --to t", "--attribute, --labels and --layer are for outlines"),
        ("a.tif --size 9 --to a.tif", "a.tif is a file, not a folder"),
        ("o.gpkg --size 9 --to t", "o.gpkg: holds outlines, and a scene is an image; --mask takes outlines"),
    ],
)
def test_a_mistake_is_one_line(scene: Path, write_image: WriteImage, arguments: str, complaint: str) -> None:
    moved = PLACE @ Affine.translation(1, 0)
    write_image(Path("b.tif"), pixels(bands=1)[..., 0], crs=CRS_OF_SCENES, transform=moved)
    write_image(Path("c.tif"), pixels(bands=1)[..., 0])
    write_image(Path("n.tif"), pixels())
    outline_file(Path("o.gpkg"), [box(0, 0, 1, 1), box(0, 0, 1, 1)], kind=["lake", "house"], n=[1, 2**32])
    outline_file(Path("p.gpkg"), [box(0, 0, 1, 1)], None, kind=["lake"])
    write_image(Path("m.png"), pixels(bands=1)[..., 0])
    Path("fake.gpkg").write_text("<OGRVRTDataSource/>")
    (mistake,) = tile(*arguments.split()).mistakes
    assert complaint in mistake
    assert not Path("t").exists()
