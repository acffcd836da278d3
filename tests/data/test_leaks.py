"""Leaks between splits: copies of images, and tiles that meet on the ground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform as reproject

from segtune.data.diagnosis import Finding
from segtune.data.leaks import find_leaks, read_traces
from segtune.data.likeness import Likeness
from segtune.errors import InputError
from tests.conftest import WriteImage

SIZE = 128
UTM = "EPSG:32633"
EAST, NORTH = 400_000, 5_000_000


def picture(number: int, bands: int = 3, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """A picture with structures of many sizes, another one for each number."""
    random = np.random.default_rng(number)
    layers = [cv2.resize(random.random((side, side, bands)), (size, size)) for side in (4, 9, 20, 45)]
    total = sum(layer.reshape(size, size, bands) for layer in layers)
    return (20 + 50 * total).astype(np.uint8)


def found(tiles: dict[str, Path]) -> list[Finding]:
    """The leaks between images, by SPLIT/NAME."""
    traces = read_traces([(name.partition("/")[2], path) for name, path in tiles.items()])
    return find_leaks(
        [trace for trace in traces if not isinstance(trace, InputError)], [n.split("/")[0] for n in tiles]
    )


def as_jpeg(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_UNCHANGED)


CHANGES = {
    "encoded again": as_jpeg,
    "brighter": lambda pixels: np.clip(pixels * 1.2 + 10, 0, 255).astype(np.uint8),
    "darker": lambda pixels: (pixels * 0.5).astype(np.uint8),
    "moved": lambda pixels: np.roll(pixels, (3, -2), (0, 1)),
    "noisy": lambda pixels: np.clip(pixels + np.random.default_rng(0).normal(0, 5, pixels.shape), 0, 255).astype(
        np.uint8
    ),
}


def test_equal_pixels_are_duplicates_whatever_the_file(tmp_path: Path, write_image: WriteImage) -> None:
    tiles = {f"train/{i}": write_image(tmp_path / f"{i}.png", picture(i)) for i in range(4)}
    tiles["val/x"] = write_image(tmp_path / "x.tif", picture(2), compress="deflate")
    tiles["train/y"] = write_image(tmp_path / "y.png", picture(0))
    across, within = found(tiles)
    assert (across.kind, across.severity, across.pairs) == ("duplicate", "warning", (("train/2", "val/x"),))
    assert across.leave_out == ("train/2",)
    assert "1 of the 1 val tiles (train/2 and val/x)" in across.what
    assert (within.kind, within.pairs, within.leave_out) == ("duplicate", (("train/0", "train/y"),), ("train/y",))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(tmp_path: Path, write_image: WriteImage, change: str) -> None:
    tiles = {f"train/{i}": write_image(tmp_path / f"{i}.png", picture(i)) for i in range(12)}
    tiles["val/x"] = write_image(tmp_path / "x.png", CHANGES[change](picture(7)))
    (finding,) = found(tiles)
    assert (finding.kind, finding.pairs) == ("near_duplicate", (("train/7", "val/x"),))


def test_other_pictures_are_no_copies(tmp_path: Path, write_image: WriteImage) -> None:
    shade = np.linspace(0, 150, SIZE)[None, :, None]
    tiles = {
        f"train/{i}": write_image(tmp_path / f"{i}.png", (picture(i) * 0.4 + shade).astype(np.uint8)) for i in range(40)
    }
    assert found(tiles) == []


def test_constant_images_have_no_picture_to_compare(tmp_path: Path, write_image: WriteImage) -> None:
    tiles = {
        f"{split}/x": write_image(tmp_path / f"{split}.png", np.full((64, 64), value, np.uint8))
        for split, value in (("train", 10), ("val", 90))
    }
    assert found(tiles) == []


@pytest.mark.parametrize("size", [SIZE, 100])
def test_pictures_of_many_bands_and_floats_are_compared(tmp_path: Path, write_image: WriteImage, size: int) -> None:
    def reflectance(number: int) -> npt.NDArray[np.float32]:
        return (picture(number, bands=7, size=size) / 500).astype(np.float32)

    tiles = {f"train/{i}": write_image(tmp_path / f"{i}.tif", reflectance(i)) for i in range(5)}
    with_gap = reflectance(3) * np.float32(1.1)
    with_gap[:10, :10] = np.nan
    tiles["val/x"] = write_image(tmp_path / "x.tif", with_gap)
    (finding,) = found(tiles)
    assert (finding.kind, finding.pairs) == ("near_duplicate", (("train/3", "val/x"),))


@pytest.mark.parametrize("bands", [1, 3, 7])
@pytest.mark.parametrize("size", [(101, 177), (100, 128), (64, 90), (50, 60)])
def test_a_small_picture_holds_the_means_of_equal_parts(size: tuple[int, int], bands: int) -> None:
    pixels = cv2.resize(picture(1, bands), size[::-1]).reshape(*size, bands)
    likeness = Likeness.of(pixels, np.ones(size, bool))
    as_floats = Likeness.of(pixels.astype(np.float32), np.ones(size, bool))
    assert likeness.details is not None
    assert as_floats.details is not None
    assert np.abs(likeness.details - as_floats.details.astype(float)).max() <= 6  # of 127: means are rounded
    assert int(likeness.hash ^ as_floats.hash).bit_count() <= 2


class Ground:
    """Writes tiles of different pictures at places on the ground."""

    def __init__(self, folder: Path, write_image: WriteImage) -> None:
        self._folder, self._write = folder, write_image
        self.tiles: dict[str, Path] = {}

    def put(self, name: str, right: float, down: float, crs: str = UTM, **more: Any) -> None:
        """Put a tile of 10 m pixels so many tiles right of and below the origin."""
        side = SIZE * 10
        place = more or {"transform": from_origin(EAST + right * side, NORTH - down * side, 10, 10)}
        path = self._folder / f"{len(self.tiles)}.tif"
        self.tiles[name] = self._write(path, picture(len(self.tiles)), crs=crs, **place)


@pytest.fixture
def ground(tmp_path: Path, write_image: WriteImage) -> Ground:
    return Ground(tmp_path, write_image)


@pytest.mark.parametrize(
    ("right", "down", "kind", "by"),
    [
        (0.0, 0.0, "same_place", "100%"),
        (0.3, 0.0, "same_place", "70%"),
        (0.75, 0.0, "overlap", "25%"),
        (0.9, 0.9, "overlap", "1%"),
        (1.0, 0.0, "neighbours", None),
        (1.0, -1.0, "neighbours", None),
        (1.1, 0.0, "neighbours", None),
        (1.5, 0.0, None, None),
    ],
)
def test_tiles_of_two_splits_that_meet_are_told(
    ground: Ground, right: float, down: float, kind: str | None, by: str | None
) -> None:
    ground.put("train/a", 0, 0)
    ground.put("train/far", 20, 7)
    ground.put("val/b", right, down)
    findings = found(ground.tiles)
    assert [finding.kind for finding in findings] == ([kind] if kind else [])
    for finding in findings:
        assert finding.pairs == (("train/a", "val/b"),)
        assert finding.leave_out == (() if kind == "neighbours" else ("train/a",))
        assert by is None or f"by up to {by} of a tile" in finding.what


def test_a_grid_drawn_at_random_leaks_and_blocks_do_not(ground: Ground) -> None:
    for row in range(6):
        for column in range(6):
            ground.put(f"{'val' if (row + column) % 5 == 0 else 'train'}/{row}_{column}", column, row)
    (finding,) = found(ground.tiles)
    assert finding.kind == "neighbours"
    assert "8 of the 8 val tiles" in finding.what
    apart = {
        name: path for name, path in ground.tiles.items() if name[-1] != "2"
    }  # a column of tiles is the gap between two blocks
    blocks = {f"{'val' if name[-1] < '2' else 'train'}/{name[-3:]}": path for name, path in apart.items()}
    assert found(blocks) == []


def test_places_in_two_coordinate_systems_are_compared(ground: Ground) -> None:
    west, north = (values[0] for values in reproject(UTM, "EPSG:4326", [EAST + 640], [NORTH - 640]))
    ground.put("train/a", 0, 0)
    ground.put("val/b", 0, 0, "EPSG:4326", transform=from_origin(west, north, 1.2e-4, 9e-5))
    ground.put("val/far", 0, 0, "EPSG:4326", transform=from_origin(west + 1, north, 1.2e-4, 9e-5))
    (finding,) = found(ground.tiles)
    assert (finding.kind, finding.pairs) == ("overlap", (("train/a", "val/b"),))


def test_ground_control_points_give_a_place(ground: Ground) -> None:
    side = SIZE * 10
    points = [
        GroundControlPoint(row=SIZE * y, col=SIZE * x, x=EAST + x * side, y=NORTH - y * side)
        for x, y in ((0, 0), (1, 0), (0, 1), (1, 1))
    ]
    ground.put("train/a", 0, 0)
    ground.put("test/b", 0, 0, CRS.from_string(UTM), gcps=points)
    (finding,) = found(ground.tiles)
    assert (finding.kind, finding.pairs) == ("same_place", (("train/a", "test/b"),))


def test_tiles_without_a_place_meet_nowhere(tmp_path: Path, write_image: WriteImage) -> None:
    tiles = {
        f"{split}/x": write_image(tmp_path / f"{split}.tif", picture(i)) for i, split in enumerate(("train", "val"))
    }
    assert found(tiles) == []


def test_copies_are_not_told_a_second_time_as_a_place(ground: Ground, write_image: WriteImage, tmp_path: Path) -> None:
    ground.put("train/a", 0, 0)
    transform = from_origin(EAST, NORTH, 10, 10)
    ground.tiles["val/b"] = write_image(tmp_path / "b.tif", picture(0), crs=UTM, transform=transform)
    assert [finding.kind for finding in found(ground.tiles)] == ["duplicate"]


def test_the_test_split_is_spared_before_val_and_val_before_train(tmp_path: Path, write_image: WriteImage) -> None:
    tiles = {f"{split}/x": write_image(tmp_path / f"{split}.png", picture(0)) for split in ("test", "train", "val")}
    findings = found(tiles)
    assert {finding.pairs[0]: finding.leave_out for finding in findings} == {
        ("train/x", "val/x"): ("train/x",),
        ("train/x", "test/x"): ("train/x",),
        ("val/x", "test/x"): ("val/x",),
    }


def test_an_image_that_cannot_be_read_yields_its_error(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png", picture(0))
    (tmp_path / "b.png").write_bytes(b"nothing")
    done: list[tuple[int, int]] = []
    images = [(name, tmp_path / f"{name}.png") for name in ("a", "b")]
    first, second = read_traces(images, lambda *count: done.append(count))
    assert done == [(1, 2), (2, 2)]
    assert not isinstance(first, InputError)
    assert isinstance(second, InputError)
    assert "b.png: cannot be read" in second.mistakes[0]
