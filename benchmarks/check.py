"""Check tiles of several kinds, and read the same files plainly with rasterio: is `check` bound by decoding?

    python benchmarks/check.py
    python benchmarks/check.py data/one data/other

Without data sets, the script draws demo tiles of several kinds, each with a mask. Plain reading opens each image and
mask and reads all bands, in as many threads as there are cores, and does nothing else. Both run in turn, five times,
and the fastest counts. Speed per core compares CPU seconds: seconds on a clock tell little where other programs run.
Starting Python and importing libraries are left out, and so are the comparisons after the last tile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from machine import machine_line

from segtune.data.demo_scene import WATER, draw_tile
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout, ReadSettings, Split, Tile
from segtune.machine import available_cpus
from segtune.tools.looks import look_at_all

DRAWN = 2  # different tiles; the others are turned
TIMES = 5


@dataclass(frozen=True)
class Kind:
    """A kind of generated tiles."""

    name: str
    side: int
    number: int  # of tiles
    image: str = ".tif"
    mask: str = ".tif"
    crs: str | None = "EPSG:32643"
    bands: int = 3


KINDS = (
    *(Kind("GeoTIFF", side, number) for side, number in ((256, 100), (512, 40), (1024, 12))),
    *(Kind("GeoTIFF without a coordinate system", side, number, crs=None) for side, number in ((256, 100), (512, 40))),
    *(Kind("grey JPEG, PNG masks", side, number, ".jpg", ".png", bands=1) for side, number in ((400, 100), (512, 40))),
    *(Kind("RGB PNG", side, number, ".png", ".png") for side, number in ((256, 100), (512, 40))),
)


def write_tiles(folder: Path, kind: Kind) -> Path:
    """Write train/ of a data set."""
    random = np.random.default_rng(kind.side)
    drawn = [draw_tile(kind.side, random) for _ in range(DRAWN)]
    for index in range(kind.number):
        image, classes = (np.rot90(layer, index // DRAWN) for layer in drawn[index % DRAWN])
        mask = np.where(classes == WATER, 255, 0).astype(np.uint8)[..., None]
        written = (("images", kind.image, image[..., : kind.bands]), ("gt", kind.mask, mask))
        for name, ending, pixels in written:
            path = folder / "train" / name / f"{index:04d}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if ending == ".tif":
                write_tiff(path, pixels, kind.crs, index)
            else:
                cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))
    return folder


def write_tiff(path: Path, pixels: npt.NDArray[np.uint8], crs: str | None, index: int) -> None:
    """Write one file; with a coordinate system, also its place on the ground."""
    height, width, bands = pixels.shape
    profile = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "interleave": "pixel"}
    shape = {"count": bands, "height": height, "width": width, "photometric": "minisblack"}
    transform = rasterio.Affine(1, 0, 712_000 + 2 * width * index, 0, -1, 1_433_000)
    place = {"crs": crs, "transform": transform} if crs else {}
    with rasterio.open(path, "w", **profile, **shape, **place) as target:
        target.write(pixels.transpose(2, 0, 1))


def read_plainly(tiles: Sequence[Tile]) -> None:
    def read(tile: Tile) -> None:
        for path in (tile.image, tile.mask):
            with rasterio.open(path) as source:
                source.read()

    with ThreadPoolExecutor(available_cpus()) as pool:
        list(pool.map(read, tiles))


def check(tiles: Split) -> None:
    for _ in look_at_all([("train", tiles)], ReadSettings(alpha="band"), lambda done, total: None):
        pass


def cost(run: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds, and seconds on a clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - clock


def row(name: str, tiles: Split) -> str:
    """Measure a data set; return a row of the table."""
    plain, checked = [], []
    for _ in range(TIMES):
        plain.append(cost(lambda: read_plainly(tiles)))
        checked.append(cost(lambda: check(tiles)))
    (cpu, clock), (own_cpu, own_clock) = min(plain), min(checked)
    times = " | ".join(f"{1000 * seconds / len(tiles):.2f}" for seconds in (cpu, own_cpu))
    return f"| {name} | {len(tiles)} | {times} | {cpu / own_cpu:.2f} | {clock / own_clock:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", type=Path, help="data sets [demo tiles of several kinds and sizes]")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    print(machine_line(f"rasterio {rasterio.__version__}", f"OpenCV {cv2.__version__}"))
    print("| tiles | number | plain, CPU ms each | check, CPU ms each | of plain per core | of plain by clock |")
    print("|---|---:|---:|---:|---:|---:|")
    for folder in arguments.datasets:
        print(row(folder.name, find_tiles(folder / "train", Layout())), flush=True)
    for kind in () if arguments.datasets else KINDS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_tiles(Path(temporary), kind)
            print(row(f"{kind.name}, {kind.side} x {kind.side}", find_tiles(folder / "train", Layout())), flush=True)


if __name__ == "__main__":
    main()
