"""Check tiles of several sizes, and read the same files plainly with rasterio: is `check` bound by decoding?

    python benchmarks/check.py
    python benchmarks/check.py data/one data/other

Without data sets, the script draws demo tiles, georeferenced GeoTIFFs of three bands with a mask. Plain reading opens
each image and mask and reads all bands, in as many threads as there are cores, and does nothing else. Both run in turn,
three times, and the fastest counts. Speed per core compares CPU seconds: seconds on a clock tell little where other
programs run. Starting Python and importing libraries are left out, and so are the comparisons after the last tile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from machine import machine_line

from segtune.data.demo_scene import WATER, draw_tile
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout, ReadSettings, Split, Tile
from segtune.machine import available_cpus
from segtune.tools.looks import look_at_all

SIZES = {256: 100, 512: 40, 1024: 12}  # tiles of each side
DRAWN = 2  # different ones; the others are turned
TIMES = 3


def write_tiles(folder: Path, side: int, number: int) -> Path:
    """Write train/ of a data set."""
    random = np.random.default_rng(side)
    drawn = [draw_tile(side, random) for _ in range(DRAWN)]
    for index in range(number):
        image, classes = (np.rot90(layer, index // DRAWN) for layer in drawn[index % DRAWN])
        transform = rasterio.Affine(1, 0, 712_000 + 2 * side * index, 0, -1, 1_433_000)
        mask = np.where(classes == WATER, 255, 0).astype(np.uint8)[..., None]
        for name, pixels in (("images", image[..., :3]), ("gt", mask)):
            path = folder / "train" / name / f"{index:04d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "interleave": "pixel"}
            shape = {"count": pixels.shape[2], "height": side, "width": side, "photometric": "minisblack"}
            with rasterio.open(path, "w", **profile, **shape, crs="EPSG:32643", transform=transform) as target:
                target.write(pixels.transpose(2, 0, 1))
    return folder


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
    parser.add_argument("datasets", nargs="*", type=Path, help="data sets [demo tiles of several sizes]")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    print(machine_line(f"rasterio {rasterio.__version__}"))
    print("| tiles | number | plain, CPU ms each | check, CPU ms each | of plain per core | of plain by clock |")
    print("|---|---:|---:|---:|---:|---:|")
    for folder in arguments.datasets:
        print(row(folder.name, find_tiles(folder / "train", Layout())), flush=True)
    for side, number in {} if arguments.datasets else SIZES.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_tiles(Path(temporary), side, number)
            print(row(f"demo, {side} x {side}", find_tiles(folder / "train", Layout())), flush=True)


if __name__ == "__main__":
    main()
