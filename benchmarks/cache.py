"""Measure what the cache of decoded tiles costs and saves, for any number of tiles.

    python benchmarks/cache.py

The script writes stand-in tiles to a temporary folder. They are small, since the cost per tile and file is measured;
`--size` makes them larger, and decoding dearer. It measures the first scan, which decodes every tile into the cache;
later scans, which find that nothing changed; drawing batches from the cache and from the files; and the private memory
of a process that trains from the cache, with few tiles and with all.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from machine import machine_line

from segtune.config import RunConfig
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN

DISTINCT = 48  # different tiles; the others repeat them
FEW = 1000  # tiles of the small data set
DRAWN = 10_000  # tiles that are drawn to time it
BATCH_SIZE = 16

# Prints the private memory of a process in kB: after all imports of a run, and after drawing batches.
CHILD = """
import pickle, sys
import segtune.training.train
sys.path.insert(0, sys.argv[1])
from cache import drawn, private_kb

before = private_kb()
with open(sys.argv[2], "rb") as file:
    info, config = pickle.load(file)
drawn(info, config, int(sys.argv[3]))
print(before, private_kb())
"""


def write_tiles(root: Path, count: int, size: int) -> RunConfig:
    """Write a data set of so many tiles, a tenth of them for validation."""
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(DISTINCT):
        shape = random.integers(0, 255, (size // 4 + 1, size // 4 + 1, 3), np.uint8)
        image = cv2.resize(shape, (size, size), interpolation=cv2.INTER_CUBIC)
        mask = (image[..., 0] > 128).astype(np.uint8) * 255
        encoded.append([cv2.imencode(".png", pixels)[1].tobytes() for pixels in (image, mask)])
    for split in ("train", "val"):
        for folder in ("images", "gt"):
            (root / split / folder).mkdir(parents=True)

    def write(first: int) -> None:
        for index in range(first, min(first + 1000, count)):
            split = "train" if index % 10 else "val"
            for folder, content in zip(("images", "gt"), encoded[index % DISTINCT], strict=True):
                (root / split / folder / f"tile_{index:07d}.png").write_bytes(content)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(0, count, 1000)))
    settings = {"dataset": str(root), "cache_dir": str(root / "cache"), "image_size": max(32, size)}
    return RunConfig.from_settings(settings)


def timed_scan(config: RunConfig) -> tuple[float, DataInfo]:
    """Scan a data set; return the seconds and the findings."""
    started = time.perf_counter()
    info = scan(config)
    return time.perf_counter() - started, info


def drawn(info: DataInfo, config: RunConfig, tiles: int) -> float:
    """Return the seconds of drawing so many shuffled training tiles in batches, in this process."""
    with Batches(info.store(TRAIN, config), BATCH_SIZE, seed=1, samples=tiles) as batches:
        started = time.perf_counter()
        for _ in batches.epoch(1):
            pass
        return time.perf_counter() - started


def private_kb() -> int:
    """Return the kB of memory that this process shares with no other process and no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def private_memory(info: DataInfo, config: RunConfig, root: Path) -> tuple[float, float, int]:
    """Return the private MB of a fresh process before and after it draws tiles, and the bytes sent to it."""
    place = root / "info.pickle"
    place.write_bytes(pickle.dumps((info.light(with_holders=False), config)))
    arguments = [str(Path(__file__).parent), str(place), str(FEW)]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    return before / 1024, after / 1024, place.stat().st_size


def measure(tiles: int, size: int, root: Path) -> Iterator[str]:
    """Measure and yield the lines of the table."""
    config = write_tiles(root / "all", tiles, size)
    cold, info = timed_scan(config)
    warm = statistics.median(timed_scan(config)[0] for _ in range(5))
    part = min(tiles, DRAWN)
    cached = statistics.median(drawn(info, config, part) for _ in range(3))
    decoded = drawn(replace(info, entries={}), config, part)
    yield f"{tiles} image and mask pairs, {size}x{size}; the cache takes {cache_mb(info):.0f} MB"
    yield f"  {'first scan: decodes into the cache':40} {cold:8.2f} s"
    yield f"  {'later scan: nothing changed':40} {warm:8.2f} s   ratio {warm / cold:.4f}"
    yield f"  {f'drawing {part} tiles from the files':40} {decoded:8.2f} s"
    yield f"  {f'drawing {part} tiles from the cache':40} {cached:8.2f} s   ratio {cached / decoded:.4f}"
    few_config = write_tiles(root / "few", FEW, size)
    few = timed_scan(few_config)[1]
    yield f"memory that a fresh process has to itself, and what drawing {FEW} tiles from the cache adds:"
    for count, known, run in ((FEW, few, few_config), (tiles, info, config)):
        before, after, sent = private_memory(known, run, root)
        yield f"  {f'of {count} tiles':40} {before:8.1f} MB + {after - before:.1f} MB; it was sent {sent} bytes"


def cache_mb(info: DataInfo) -> float:
    """Return the size of the cache's entries in MB."""
    return sum(file.stat().st_size for entry in info.entries.values() for file in entry.iterdir()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=100_000, help="image and mask pairs [100000]")
    parser.add_argument("--size", type=int, default=32, help="their side in pixels [32]")
    given = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as folder:
        for line in measure(given.tiles, given.size, Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
