"""Measure what the distance maps of boundary losses cost: beside augmentation, and beside a training step.

    python benchmarks/distance_maps.py

A tile has 8 x 8 squares of all classes and background, so that every map must be computed. The step is that of unet
with resnet18, batch size 6, on one thread. Processor time counts; rounds of all measurements alternate.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from augmentation import measured, milliseconds, tile
from machine import machine_line

from segtune.data.augment import Augmentation
from segtune.data.bands import Band
from segtune.data.distances import DistanceMaps
from segtune.data.labels import Indices, Labels
from segtune.training.losses import SegmentationLoss
from segtune.training.step import TrainingStep

SIZES, CLASSES, BATCH, BANDS = (256, 512), (1, 5), 6, 4
LOSSES = ("dice+boundary", "boundary_ce")


def step_milliseconds(size: int) -> float:
    """Return the processor time of a training step per tile."""
    labels = Labels((1, 2, 3, 4, 5), (), True, 0)
    model = smp.Unet("resnet18", encoder_weights=None, in_channels=BANDS, classes=labels.outputs)
    step = TrainingStep(
        model.to(memory_format=torch.channels_last),
        SegmentationLoss("dice+ce", labels),
        torch.optim.AdamW(model.parameters()),
        torch.amp.GradScaler("cpu", enabled=False),
        lambda images: images.permute(0, 3, 1, 2),
        torch.device("cpu"),
        "fp32",
        1.0,
        labels,
    )
    images = torch.rand(BATCH, size, size, BANDS)
    targets = torch.randint(6, (BATCH, size, size), dtype=torch.uint8)
    return min(milliseconds(lambda _: step(images, targets, BATCH), 0, 3)) / BATCH


def calls_of(size: int) -> dict[str, Callable[[int], object]]:
    """Return what is measured at a size, by name."""
    image, _ = tile(size, BANDS, real=False)
    bands = [Band(f"image:{number}", 127.0, 40.0, 0.0, 255.0) for number in range(1, BANDS + 1)]
    random, calls = np.random.default_rng(0), dict[str, Callable[[int], object]]()
    for count in CLASSES:
        squares = random.integers(0, count + 1, (8, 8), np.uint8)
        target = np.kron(squares, np.ones((size // 8, size // 8), np.uint8))
        for loss in LOSSES:
            maps = DistanceMaps.of(loss, Labels(tuple(range(1, count + 1)), (), True, 0))
            assert maps
            calls[f"{loss}, classes: {count}"] = partial(_compute, maps, target)
    for level in ("safe", "hard"):
        augmentation = Augmentation(level, bands, True, (0, 1, 2))
        calls[f"{level} augmentation"] = partial(augmentation, image, target, 0, 1)
    return calls


def _compute(maps: DistanceMaps, target: Indices, _: int) -> object:
    return maps(target)


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    print(machine_line())
    print(f"OpenCV {cv2.__version__}; {BANDS} bands, uint8, one core, one thread\n")
    found = [(measured(calls_of(size), 20), step_milliseconds(size)) for size in SIZES]
    print(f"{'ms per tile (share of a step)':30}" + "".join(f"{f'{size} px':>18}" for size in SIZES))
    for name in found[0][0]:
        shown = [(statistics.fmean(times[name]), step) for times, step in found]
        print(f"{name:30}" + "".join(f"{f'{ms:.2f} ({ms / step:.1%})':>18}" for ms, step in shown))
    print(f"{'a training step':30}" + "".join(f"{f'{step:.0f}':>18}" for _, step in found))


if __name__ == "__main__":
    main()
