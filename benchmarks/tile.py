"""Cut a large scene into tiles: memory of the processes, and speed against plain reading and writing with rasterio.

    python benchmarks/tile.py
    python benchmarks/tile.py --side 4000 --size 512

The scene is a mosaic of demo tiles with a mask, both georeferenced GeoTIFFs in blocks of 256 x 256 pixels. Plain
reading and writing is a loop over the same windows in one process, which does nothing else. It runs before and after
the tool, and the mean of both counts. Speed per core compares the CPU seconds of all processes with those of the loop:
seconds on a clock tell little where other programs run. The start of Python is part of both. The largest memory (RSS)
of each process is read from the system.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from machine import largest_memory, machine_line
from rasterio.windows import Window

from segtune.data.demo_scene import WATER, draw_tile
from segtune.machine import available_cpus
from segtune.tools.windows import starts

ROOT = Path(__file__).resolve().parent.parent
TILE, TILES = 256, 24
BLOCKS = {"tiled": True, "blockxsize": TILE, "blockysize": TILE}
LAYOUT = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", **BLOCKS}
PLACE = {"crs": "EPSG:32643", "transform": rasterio.Affine(1, 0, 712_000, 0, -1, 1_433_000)}


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float  # on a clock
    cpu: float  # seconds of all its processes
    peaks: tuple[float, ...]  # MB, of each process, the largest first


def parse() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000, help="of the scene, in pixels [10000]")
    parser.add_argument("--size", type=int, default=512, help="of the tiles, in pixels [512]")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="processes of the tool [all cores]")
    parser.add_argument("--plain", type=Path, help="only cut the scene in this folder, plainly")
    return parser.parse_args()


def write_scene(folder: Path, side: int) -> None:
    """Write images/scene.tif, of three bands, and gt/scene.tif."""
    random = np.random.default_rng(0)
    tiles = [draw_tile(TILE, random) for _ in range(TILES)]
    layers = {"images": [image[..., :3] for image, _ in tiles]}
    layers["gt"] = [np.where(classes == WATER, 255, 0).astype(np.uint8)[..., None] for _, classes in tiles]
    for name, parts in layers.items():
        order = np.random.default_rng(1)
        (folder / name).mkdir()
        profile = {**LAYOUT, **PLACE, "count": parts[0].shape[2], "height": side, "width": side, "interleave": "pixel"}
        with rasterio.open(folder / name / "scene.tif", "w", **profile) as file:
            for top in range(0, side, TILE):
                for left in range(0, side, TILE):
                    part = np.rot90(parts[order.integers(TILES)], int(order.integers(4)))[: side - top, : side - left]
                    span = (top, top + part.shape[0]), (left, left + part.shape[1])
                    file.write(part.transpose(2, 0, 1), window=span)


def cut_plainly(folder: Path, size: int) -> None:
    """Read each window of the scene and write it, file after file."""
    for name in ("images", "gt"):
        out = folder / "plain" / name
        out.mkdir(parents=True, exist_ok=True)
        with rasterio.open(folder / name / "scene.tif") as source:
            for top in starts(source.height, size, size, "shift"):
                for left in starts(source.width, size, size, "shift"):
                    window = Window(left, top, size, size)
                    kept = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "interleave": "pixel"}
                    shape = {"count": source.count, "height": size, "width": size, "crs": source.crs}
                    place = source.window_transform(window)
                    with rasterio.open(out / f"{top}_{left}.tif", "w", **kept, **shape, transform=place) as target:
                        target.write(source.read(window=window))


def run(command: Sequence[object]) -> Cost:
    """Run a command, and watch the memory of its processes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    peaks: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for number in (process.pid, *_children(process.pid)):
                peaks[number] = max(peaks.get(number, 0.0), largest_memory(number))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        raise SystemExit(f"{command} ended with status {status}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - started, cpu, tuple(sorted(peaks.values(), reverse=True)))


def _children(process: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    arguments = parse()
    if arguments.plain:
        cut_plainly(arguments.plain, arguments.size)
        return
    print(machine_line(f"rasterio {rasterio.__version__}"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder, arguments.side)
        size = ("--size", arguments.size)
        plain = (sys.executable, __file__, "--plain", folder, *size)
        tool = (sys.executable, "-m", "segtune.tools", "tile", folder / "images", "--mask", folder / "gt", *size)
        costs = [
            run(plain),
            run((*tool, "--to", folder / "tiles", "--workers", arguments.workers)),
            run((*tool, "--to", folder / "again", "--workers", 1)),
            run(plain),
        ]
        count = len(list((folder / "tiles/images").iterdir()))
    side = arguments.side
    print(f"{side} x {side} pixels, image and mask, {count} tiles of {arguments.size} x {arguments.size}\n")
    usual = (costs[0].cpu + costs[3].cpu) / 2
    names = ("plain, before", f"tool, {arguments.workers} processes", "tool, 1 process", "plain, after")
    print("| | seconds | CPU seconds | of plain per core | largest process, MB |")
    print("|---|---:|---:|---:|---:|")
    for what, cost in zip(names, costs, strict=True):
        print(f"| {what} | {cost.seconds:.1f} | {cost.cpu:.1f} | {usual / cost.cpu:.2f} | {cost.peaks[0]:.0f} |")
    print(f"\nall processes of the tool: {', '.join(f'{peak:.0f}' for peak in costs[1].peaks)} MB")


if __name__ == "__main__":
    main()
