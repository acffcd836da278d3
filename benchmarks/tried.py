"""What was tried to make training faster on a CPU, and what each gave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from loops import OurLoop, StepAlone

from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.bands import rgb_positions
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN, VAL
from segtune.evaluation.evaluate import evaluate
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.predictor import Predictor
from segtune.machine import available_cpus
from segtune.training.resolve import resolve

_STEPS = 5  # of training, in a round
_LOOP_STEPS = 15  # of the whole loop: loaders have two batches ready when a round begins
_LEVELS = ("none", "safe", "light", "medium", "hard")


@dataclass(frozen=True)
class Trial:
    """Something that was tried: how many things a second it does in a round, and what it cost before."""

    name: str
    rate: Callable[[], float]
    before: float = 0.0  # seconds, once


def show_tried(given: dict[str, Any], folder: Path, rounds: int) -> None:
    """Print tables of what was tried; each row is compared with the first one of its table, round by round."""
    cores = available_cpus()
    torch.set_num_threads(cores)
    config = RunConfig.from_settings(given | {"threads": cores, "workers": 0, "augmentation": "hard"})
    info = scan(config)
    for title, group in (
        ("training steps on a batch in memory, images/s", steps),
        ("segtune's loop, images/s", loaders),
        ("evaluation, tiles/s", evaluations),
        ("joining the bands of a tile of 512 pixels, tiles/s", joiners),
        ("counting the pixels of a tile of 256 pixels, tiles/s", counters),
    ):
        with ExitStack() as stack:
            compare(title, list(group(config, info, folder / group.__name__, stack)), rounds)
    show_levels(config, info)


def compare(title: str, trials: list[Trial], rounds: int) -> None:
    """Run the trials in turns, and print their rates and their ratios to the first one."""
    found = [[trial.rate() for trial in trials] for _ in range(1 + rounds)][1:]
    print(f"{title}: median, ratio to the first (range)", flush=True)
    for column, trial in enumerate(trials):
        rate = statistics.median(row[column] for row in found)
        ratios = [row[column] / row[0] for row in found]
        extent = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        before = f"  {trial.before:.1f} s before the first step" if trial.before else ""
        print(f"  {trial.name:34} {rate:8.1f}  {extent}{before}", flush=True)


def steps(config: RunConfig, info: DataInfo, folder: Path, stack: ExitStack) -> Iterator[Trial]:
    """Yield variants of the training step."""

    def made(name: str, change: Callable[[StepAlone], object] | None = None, **settings: Any) -> Trial:
        changed = config.model_copy(update=settings)
        alone = stack.enter_context(closing(StepAlone(changed, info, folder / name)))
        if change:
            change(alone)
        started = time.perf_counter()
        alone.seconds(1)
        first = time.perf_counter() - started
        usual = alone.seconds(1)
        return Trial(name, lambda: _STEPS * config.batch_size / alone.seconds(_STEPS), first - usual if change else 0.0)

    yield made("as it is: fp32, channels_last")
    yield made("fp32, contiguous", contiguous)
    yield made("bf16, channels_last", precision="bf16")
    yield made("update not fused", not_fused)
    yield made("torch.compile", lambda alone: alone.model.compile())


def not_fused(alone: StepAlone) -> None:
    """Make an optimizer update one tensor and one quantity at a time, as torch does by default."""
    for group in alone.optimizer.param_groups:
        group["fused"] = None


def contiguous(alone: StepAlone) -> None:
    """Make a model work on contiguous tensors."""
    alone.model.to(memory_format=torch.contiguous_format)
    alone.model.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))


def loaders(config: RunConfig, info: DataInfo, folder: Path, stack: ExitStack) -> Iterator[Trial]:
    """Yield the loop with different numbers of loader processes."""
    for number in (0, 1):
        changed = config.model_copy(update={"workers": number})
        ours = OurLoop(changed, info, folder / f"{number}", _LOOP_STEPS * config.batch_size, available_cpus())
        stack.enter_context(closing(ours))
        yield Trial(f"workers {number}", lambda ours=ours: ours.tiles / ours.epoch().train_seconds)  # type: ignore[misc]


def evaluations(config: RunConfig, info: DataInfo, folder: Path, stack: ExitStack) -> Iterator[Trial]:
    """Yield evaluation with larger batches, and in bf16."""
    for precision, times in (("fp32", 1), ("fp32", 4), ("bf16", 1)):
        changed = resolve(config.model_copy(update={"precision": precision}), info)
        alone = stack.enter_context(closing(StepAlone(changed, info, folder / f"{precision}-{times}")))
        batches = stack.enter_context(Batches(info.store(VAL, changed), config.batch_size * times))

        def rate(alone: StepAlone = alone, batches: Batches = batches) -> float:
            started = time.perf_counter()
            evaluate(Predictor(alone.model, alone.manifest, alone.device), batches)
            return info.counts[VAL] / (time.perf_counter() - started)

        yield Trial(f"{precision}, batches of {config.batch_size * times}", rate)


def counters(config: RunConfig, info: DataInfo, folder: Path, stack: ExitStack) -> Iterator[Trial]:
    """Yield the confusion matrix as it is, and counted by torch."""
    side, (truth, predicted) = 4, np.random.default_rng(0).integers(0, 4, (2, 256, 256), np.uint8)
    there = torch.from_numpy(truth), torch.from_numpy(predicted)

    def by_torch() -> None:
        torch.bincount((there[0].long() * side + there[1]).flatten(), minlength=256 * side)

    matrix = ConfusionMatrix((1, 2, 3))
    yield Trial("as it is: numpy.bincount", lambda: rate_of(lambda: matrix.update(predicted, truth)))
    yield Trial("torch.bincount", lambda: rate_of(by_torch))


def joiners(config: RunConfig, info: DataInfo, folder: Path, stack: ExitStack) -> Iterator[Trial]:
    """Yield ways to join an image of three bands and one of near infrared."""
    image, nir = (np.zeros((512, 512, bands), np.uint8) for bands in (3, 1))
    yield Trial("as it is: cv2.merge", lambda: rate_of(lambda: cv2.merge([image, nir])))
    yield Trial("numpy.concatenate", lambda: rate_of(lambda: np.concatenate([image, nir], axis=2)))


def rate_of(work: Callable[[], object]) -> float:
    """Return how often a second something small is done."""
    started = time.perf_counter()
    for _ in range(100):
        work()
    return 100 / (time.perf_counter() - started)


def show_levels(config: RunConfig, info: DataInfo) -> None:
    """Print what a tile costs one process, by level: from the cache, augmented."""
    cv2.setNumThreads(0)
    for size in (config.image_size or info.image_size(), 512):
        changed = config.model_copy(update={"image_size": size})
        known = scan(changed)
        bands, store = known.input_bands(config.channels), known.store(TRAIN, changed)
        print(f"ms that a tile of {size} pixels costs a loader process, from the cache:", flush=True)
        for level in _LEVELS:
            augmentation = Augmentation(level, bands, known.uint8, rgb_positions(config.rgb, bands))
            with Batches(store, config.batch_size, config.seed, augmentation) as batches:
                print(f"  {level:34} {1e3 * batches.tile_seconds(limit=2.0):8.2f}", flush=True)
