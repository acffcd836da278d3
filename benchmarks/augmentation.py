"""Measure what augmentation costs: each level, and each transform of `hard`, on one core.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --size 256 --bands 3 --float

Levels are measured as training uses them, with all draws: the mean over many samples counts. A transform is measured
alone, each time applied: the median counts. Rounds of all of them alternate, so that a slow moment hits all alike.
Processor time counts, so that what else runs on the machine matters less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import albumentations as A
import cv2
import numpy as np
from machine import machine_line

from segtune.data.augment import Augmentation, transforms_of
from segtune.data.bands import Band
from segtune.vocabulary import LEVELS

ROUNDS, SAMPLES = 5, 40  # of every level: so many samples in each round


def tile(size: int, bands: int, real: bool) -> tuple[Any, Any]:
    """Return a smooth random image and a mask of squares."""
    random = np.random.default_rng(0)
    parts = [cv2.GaussianBlur(random.normal(0, 1, (size, size)), (0, 0), 3) for _ in range(bands)]
    image = np.stack(parts, axis=2)
    image = (image - image.min()) / np.ptp(image)
    mask = np.kron(random.integers(0, 4, (8, 8)), np.ones((size // 8, size // 8))).astype(np.uint8)
    return (image.astype(np.float32) if real else (image * 255).astype(np.uint8)), mask


def singles(bands: int) -> dict[str, A.BasicTransform]:
    """Return the transforms of `hard` by name, each to be applied always."""
    found: dict[str, A.BasicTransform] = {}
    for transform in transforms_of("hard", colour=bands >= 3):
        for single in transform.transforms if isinstance(transform, A.OneOf) else [transform]:
            single.p = 1.0
            found[type(single).__name__.strip("_")] = single
    return found


def milliseconds(call: Callable[[int], object], first: int, count: int) -> list[float]:
    """Return the processor time of each of `count` calls, which get the numbers from `first`."""
    times = []
    for number in range(first, first + count):
        start = time.process_time()
        call(number)
        times.append((time.process_time() - start) * 1000)
    return times


def measured(calls: Mapping[str, Callable[[int], object]], count: int) -> dict[str, list[float]]:
    """Return the times of each call, in rounds that alternate."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS):
        for name, call in calls.items():
            times[name] += milliseconds(call, turn * count, count)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of a tile in pixels [512]")
    parser.add_argument("--bands", type=int, default=4, help="number of bands [4]")
    parser.add_argument("--float", action="store_true", help="float32 instead of uint8")
    given = parser.parse_args()
    cv2.setNumThreads(0)
    size, bands, real = given.size, given.bands, given.float
    image, mask = tile(size, bands, real)
    known = [
        Band(f"image:{i}", 0.5 if real else 127.0, 0.2 if real else 40.0, 0.0, 1.0 if real else 255.0)
        for i in range(1, bands + 1)
    ]
    rgb = (0, 1, 2) if bands >= 3 else (0,)
    print(machine_line())
    print(
        f"albumentations {A.__version__}, OpenCV {cv2.__version__}; {size} x {size} px, {bands} bands, "
        f"{image.dtype}, one core"
    )

    def level_call(level: str) -> Callable[[int], object]:
        augmentation = Augmentation(level, known, not real, rgb)
        return lambda number: augmentation(image, mask, 0, 1, number)

    print("\nlevel      ms per tile (mean)")
    for name, times in measured({level: level_call(level) for level in LEVELS}, SAMPLES).items():
        print(f"{name:10} {statistics.fmean(times):6.2f}")

    def single_call(name: str, single: A.BasicTransform) -> Callable[[int], object]:
        change = A.Compose([single])
        part = np.ascontiguousarray(image[..., :3]) if name == "ColorJitter" else image

        def call(number: int) -> object:
            return change(image=part, mask=mask)

        return call

    print("\ntransform of hard, alone   ms (median)")
    for name, times in measured({n: single_call(n, s) for n, s in singles(bands).items()}, 8).items():
        print(f"{name:26} {statistics.median(times):6.2f}")


if __name__ == "__main__":
    main()
