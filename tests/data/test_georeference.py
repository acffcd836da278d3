"""Where files lie on the ground: what a prediction takes over, and which pictures are not turned."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from segtune.data.alignment import read_georeference
from segtune.data.raster import alone, opened
from segtune.data.reading import ground_resolution, read_header, read_image, read_mask
from segtune.data.tiles import Tile
from segtune.evaluation.predicted_masks import write_mask
from tests.conftest import WriteImage
from tests.data.files import ORIENTATION, SHAPE, noise, profile

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


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        (32633, from_origin(500_000, 4_600_000, 10, 10), 10.0),
        (32633, from_origin(500_000, 4_600_000, 10, 10) @ rasterio.Affine.rotation(30), 10.0),
        (4326, from_origin(15, 41, 1e-4, 1e-4), (11.104 * 8.414) ** 0.5),  # north to south, and west to east
        (4326, from_origin(15, 41, 1e-4, 1e-4) @ rasterio.Affine.rotation(45), (11.104 * 8.414) ** 0.5),
        (4326, from_origin(15, 41, 1e-4, 1e-4) @ rasterio.Affine.rotation(90), (11.104 * 8.414) ** 0.5),
        (4326, from_origin(15, 60, 1e-4, 1e-4), (11.141 * 5.58) ** 0.5),
        (3857, from_origin(1e6, 8_399_738, 10, 10), 5.008),  # Web Mercator at 60 degrees north
        (3395, from_origin(1e6, 8_362_699, 10, 10), 5.013),  # another Mercator there
        (3857, from_origin(1e6, 0, 10, 10), 10.0),  # within 1%
        (3035, from_origin(4_321_000, 4_500_000, 10, 10), 10.0),  # equal areas
        (2229, from_origin(0, 0, 3, 3), 3 * 1200 / 3937),  # US survey feet
        (32633, rasterio.Affine.identity(), None),
        (None, from_origin(500_000, 4_600_000, 10, 10), None),
    ],
)
def test_the_resolution_of_an_image_is_in_metres(
    tmp_path: Path, crs: int | None, transform: rasterio.Affine, metres: float | None
) -> None:
    place = {"transform": transform} | ({"crs": CRS.from_epsg(crs)} if crs else {})
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", **place
    ) as f:
        f.write(np.ones((1, 8, 8), np.uint8))
    exact = metres in (10.0, None)
    assert ground_resolution(tmp_path / "a.tif") == (metres and pytest.approx(metres, rel=1e-12 if exact else 2e-4))


def test_the_resolution_of_an_image_with_ground_control_points(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", **profile(1) | PLACES["gcps"]) as target:
        target.write(noise(1)[..., 0], 1)
    degrees = 1 / 99
    assert ground_resolution(path) == pytest.approx(degrees * (111_050 * 84_140) ** 0.5, rel=1e-3)
    with rasterio.open(path, "w", **profile(1) | {"crs": CRS.from_epsg(4326), "gcps": POINTS[:2]}) as target:
        target.write(noise(1)[..., 0], 1)
    assert ground_resolution(path) is None  # two points give no place


def test_files_of_like_keys_have_their_own_coordinate_systems(tmp_path: Path) -> None:
    places: list[tuple[str, dict[str, Any]]] = [
        ("utm", {"crs": "EPSG:32643", "transform": TRANSFORM}),
        ("other", {"crs": "EPSG:32644", "transform": TRANSFORM}),
        ("again", {"crs": "EPSG:32643", "transform": TRANSFORM @ Affine.translation(5, 5)}),
        ("degrees", {"crs": "EPSG:4326", "transform": TRANSFORM}),
        ("points", {"crs": "EPSG:4326", "gcps": POINTS}),
        ("counted", {"crs": "EPSG:32643"}),
        ("none", {"transform": TRANSFORM}),
        ("big", {"crs": "EPSG:32643", "transform": TRANSFORM, "BIGTIFF": "YES"}),
        ("motorola", {"crs": "EPSG:32644", "transform": TRANSFORM, "ENDIANNESS": "BIG"}),
        ("own", {"crs": "+proj=tmerc +lat_0=1 +lon_0=7 +ellps=intl", "transform": TRANSFORM}),
        ("moved", {"crs": "+proj=tmerc +lat_0=1 +lon_0=8 +ellps=intl", "transform": TRANSFORM}),
    ]
    for name, place in places:
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile(1) | place) as target:
            target.write(noise(1)[..., 0], 1)
    for name in [*dict(places), *reversed(dict(places))]:
        path = tmp_path / f"{name}.tif"
        with rasterio.open(path) as plain, opened(path, "an image", place=True) as raster:
            assert raster.source.crs == plain.crs, name
            assert raster.source.gcps[1] == plain.gcps[1], name
            assert raster.source.transform == plain.transform, name
            if plain.crs:
                assert raster.source.crs.to_wkt() == plain.crs.to_wkt()


def system(path: Path) -> CRS:
    """The object that an open file has as its coordinate system."""
    with opened(path, "an image", place=True) as raster:
        return raster.source.crs


def test_a_coordinate_system_is_looked_up_once_for_files_of_the_same_keys(tmp_path: Path) -> None:
    places = {"a": (32643, 0), "b": (32643, 9), "c": (32644, 0)}
    for name, (code, right) in places.items():
        place = {"crs": CRS.from_epsg(code), "transform": TRANSFORM @ Affine.translation(right, 0)}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile(1) | place) as target:
            target.write(noise(1)[..., 0], 1)
    first, same, other = (system(tmp_path / f"{name}.tif") for name in places)
    assert first is same  # each look-up makes another object, as it does for rasterio itself
    assert [first.to_epsg(), other.to_epsg()] == [32643, 32644]
    with rasterio.open(tmp_path / "a.tif") as one, rasterio.open(tmp_path / "b.tif") as two:
        assert one.crs is not two.crs
    (tmp_path / "b.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")  # it could name another system
    assert system(tmp_path / "b.tif") is not first


@pytest.mark.parametrize("settings", [nullcontext, alone])
def test_a_system_beside_a_file_goes_before_that_of_earlier_files(
    tmp_path: Path, settings: Callable[[], AbstractContextManager[Any]]
) -> None:
    for name in ("a", "b"):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", **profile(1), crs="EPSG:32643", transform=TRANSFORM
        ) as target:
            target.write(noise(1)[..., 0], 1)
    (tmp_path / "b.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:32644</SRS></PAMDataset>")
    found = []
    for name in ("a", "b", "a"):
        with settings(), opened(tmp_path / f"{name}.tif", "an image", place=True) as raster:
            found.append(raster.place.crs.to_epsg() if raster.place.crs else None)
    assert found == [32643, 32644, 32643]
