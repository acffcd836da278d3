"""A sound data set on disk, the harm that tests do to it, and the command that finds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from segtune.data.reading import read_image, read_mask
from tests.scripts import Ended, call

SIZE = 64
TILES = {"train": 14, "val": 8}
EAST, NORTH, PIXEL = 400_000, 5_000_000, 10
CRS = "EPSG:32633"

SAME = Affine.identity()

Pixels = npt.NDArray[Any]


def texture(number: int) -> npt.NDArray[np.float64]:
    """A field of structures of many sizes from 0 to 1, (SIZE, SIZE, 3); another one for each number."""
    random = np.random.default_rng(number)
    layers = [cv2.resize(random.random((side, side, 3)), (SIZE, SIZE)) for side in (3, 7, 15, 31)]
    return np.mean(layers, axis=0)


def place(right: float, down: float) -> Affine:
    """The place of a tile so many tiles right of and below the origin."""
    return Affine(PIXEL, 0, EAST + right * SIZE * PIXEL, 0, -PIXEL, NORTH - down * SIZE * PIXEL)


def write(path: Path, pixels: Pixels, transform: Affine | None = None, **profile: Any) -> None:
    """Write a GeoTIFF of pixels, (H, W) or (H, W, bands)."""
    layers = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"count": len(layers), "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    where = {"crs": CRS, "transform": transform} if transform else {}
    with rasterio.open(path, "w", driver="GTiff", photometric="minisblack", **(settings | where | profile)) as target:
        target.write(layers)


def sound(root: Path) -> Path:
    """Write a data set without any fault: water (1) is darker than land (0), and no tiles lie near each other."""
    for split, (name, number) in enumerate(TILES.items()):
        for tile in range(number):
            seed = 100 * split + tile
            random = np.random.default_rng(seed)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            centre, axes = random.integers(20, 44, 2), random.integers(10, 18, 2)
            cv2.ellipse(mask, centre.tolist(), axes.tolist(), 0, 0, 360, 1, -1)
            image = (60 + 100 * texture(seed) - 45 * mask[..., None]).clip(0, 255).astype(np.uint8)
            where = place(3 * tile, 3 * split)
            write(root / name / "images" / f"t{tile:02d}.tif", image, where)
            write(root / name / "gt" / f"t{tile:02d}.tif", mask, where)
            write(root / name / "nir" / f"t{tile:02d}.tif", image[..., 0] // 2, where)
    return root


def change(path: Path, how: Callable[[Pixels], Pixels], **profile: Any) -> None:
    """Write a file's pixels again, changed."""
    with rasterio.open(path) as source:
        transform = source.transform
    mask = path.parent.name == "gt"
    pixels = read_mask(path) if mask else read_image(path)[0]
    write(path, how(pixels), transform, **profile)


def check(root: Path, *arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "check", root, *arguments)


def found(root: Path, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """The exit status, and all findings."""
    ended = check(root, "--json", root.parent / "found.json", *arguments)
    content = json.loads((root.parent / "found.json").read_text(encoding="utf-8"))
    return ended.status, content["findings"]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def mask(number: int, split: str = "train") -> str:
    return f"{split}/gt/t{number:02d}.tif"


def image(number: int, split: str = "train") -> str:
    return f"{split}/images/t{number:02d}.tif"


def smooth(root: Path) -> None:
    for i in range(14):
        change(root / mask(i), lambda pixels: cv2.GaussianBlur((pixels * 255).astype(np.uint8), (0, 0), 1.5))
    for i in range(8):
        change(root / mask(i, "val"), lambda pixels: (pixels * 255).astype(np.uint8))


def swap(root: Path, one: str, other: str) -> None:
    first, second = (root / name for name in (one, other))
    with rasterio.open(first) as a, rasterio.open(second) as b:
        places, masks = (a.transform, b.transform), (a.read(1), b.read(1))
    write(first, masks[1], places[0])
    write(second, masks[0], places[1])


def halves(root: Path) -> None:
    """Masks of two tiles that have nothing in common: left and right, upper and lower half, also in the images."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for i, half in ((3, rows < SIZE // 2), (4, columns < SIZE // 2)):
        picture = (60 + 100 * texture(i) - 45 * half[..., None]).clip(0, 255).astype(np.uint8)
        change(root / image(i), lambda pixels, picture=picture: picture)
        change(root / mask(i), lambda pixels, half=half: half.astype(np.uint8))
    swap(root, mask(3), mask(4))


def copy(root: Path, source: str, target: str, how: Callable[[Any], Any] = lambda pixels: pixels) -> None:
    with rasterio.open(root / source) as opened:
        pixels = opened.read().transpose(1, 2, 0)
    change(root / target, lambda old: how(pixels))


def twin(root: Path, source: str, target: str) -> None:
    """Copy an image with its mask."""
    for folder in ("images", "gt"):
        copy(root, source.replace("images", folder), target.replace("images", folder))


def moved(root: Path, target: str, right: float, down: float, scale: Affine = SAME) -> None:
    split, _, name = Path(target).parts
    for folder in ("images", "gt", "nir"):
        path = root / split / folder / name
        with rasterio.open(path) as opened:
            pixels = opened.read().transpose(1, 2, 0)
        write(path, pixels if folder == "images" else pixels[..., 0], place(right, down) @ scale)


def all_val(root: Path, how: Callable[[Any], Any]) -> None:
    for i in range(8):
        change(root / image(i, "val"), how)
