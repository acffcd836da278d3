"""Speed of training on a GPU: this project's loop, its step alone, and the loop of most scripts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from cache import write_tiles
from gpu_bench import MB, Bench, Outcome
from loops import OurLoop, StepAlone, TodaysLoop, wait

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN, VAL
from segtune.errors import SegtuneError
from segtune.planning.cost import probe
from segtune.training.result import EpochResult

LOOP_AIM, TODAY_AIM = 0.9, 4.0  # our loop by its step alone, with augmentation safe; and by today's loop
_ROUNDS = 3  # in which the loops run in turns
_EPOCH_S = 3.0  # that an epoch of our loop would take at the speed of its step
_TODAY_S = 2.5  # for which today's loop runs in a round, about
_WAITING, _LAUNCHING = 0.1, 0.9  # shares of a step's time from which on this is what limits
_SIDE = 512  # of the tiles, in pixels


@dataclass(frozen=True)
class Step:
    """The time of a training step on a batch that lies on the device."""

    seconds: float
    enqueued: float  # seconds of it until Python has told the device all that there is to do
    watched: float  # seconds where the loss is looked at after each step


def settings(bench: Bench, size: int, augmentation: str, **more: Any) -> RunConfig:
    """Return the configuration of a Unet with resnet34 on stand-in tiles."""
    root, batch = bench.root / "tiles", 4 if bench.small else 16
    usual: dict[str, Any] = {
        "dataset": str(root),
        "cache_dir": str(root / "cache"),
        "model": "unet",
        "encoder": "resnet34",
    }
    usual |= {"image_size": size, "batch_size": batch, "augmentation": augmentation, "encoder_weights": "none"}
    return RunConfig.from_settings(usual | {"worst": 0, "seed": 1, "device": str(bench.device)} | more)


def time_step(alone: StepAlone, steps: int) -> Step:
    """Return the time of a step on its own: medians over a few rows of steps."""
    alone.seconds(max(1, steps // 4))
    enqueued = []
    for _ in range(3):
        wait(alone.device)
        started = time.perf_counter()
        alone.once()
        enqueued.append(time.perf_counter() - started)
    usual, watched = (
        statistics.median(alone.seconds(steps, watched=look) / steps for _ in range(3)) for look in (False, True)
    )
    return Step(usual, statistics.median(enqueued), watched)


def prepare(bench: Bench) -> None:
    """Write the tiles, a tenth of them for validation."""
    if not (bench.root / "tiles").exists():
        write_tiles(bench.root / "tiles", 40 if bench.small else 640, 64 if bench.small else _SIDE)


@dataclass(frozen=True)
class _Round:
    """Tiles per second of the three loops, and the epoch of ours."""

    ours: float
    step: float
    today: float
    epoch: EpochResult


def case(bench: Bench, size: int, augmentation: str) -> Outcome:
    """Measure one row of the table."""
    prepare(bench)
    size = size // 8 if bench.small else size
    config = settings(bench, size, augmentation)
    info, batch = scan(config), config.batch_size
    folder = bench.root / "runs" / f"speed-{size}-{augmentation}"
    today = TodaysLoop(config, info, bench.device)
    with closing(StepAlone(config, info, folder.with_name(f"{folder.name}-b"))) as alone, closing(today):
        step = time_step(alone, 2 if bench.small else 20)
        steps = max(4, round((0.2 if bench.small else _EPOCH_S) / step.seconds))
        if bench.gpu:
            torch.cuda.reset_peak_memory_stats()
        first = today.seconds(2) / 2  # with the start of its loader
        few = max(2, min(steps, round((0.2 if bench.small else _TODAY_S) / first)))
        with closing(OurLoop(config, info, folder, steps * batch)) as ours:
            ours.epoch()  # with the start of the loaders
            rounds = [_round(ours, alone, today, steps, few, batch) for _ in range(1 if bench.small else _ROUNDS)]
            peak = torch.cuda.max_memory_allocated() / MB if bench.gpu else 0.0
            workers = ours.workers()
    return _outcome(bench, config, step, rounds, peak, workers, info.counts[VAL])


def _round(ours: OurLoop, alone: StepAlone, today: TodaysLoop, steps: int, few: int, batch: int) -> _Round:
    epoch = ours.epoch()
    return _Round(
        ours.tiles / epoch.train_seconds,
        steps * batch / alone.seconds(steps),
        few * batch / today.seconds(few),
        epoch,
    )


def _outcome(
    bench: Bench, config: RunConfig, step: Step, rounds: list[_Round], peak: float, workers: int, tiles: int
) -> Outcome:
    """Return the row, and its figures by name."""

    def median(value: Callable[[_Round], float]) -> float:
        return statistics.median(map(value, rounds))

    by_step, by_today = median(lambda r: r.ours / r.step), median(lambda r: r.ours / r.today)
    waiting = median(lambda r: r.epoch.data_seconds / r.epoch.train_seconds)
    figures: dict[str, Any] = {
        "size": config.image_size,
        "augmentation": config.augmentation,
        "batch_size": config.batch_size,
        "loaders": workers,
        "ours": median(lambda r: r.ours),
        "step": median(lambda r: r.step),
        "today": median(lambda r: r.today),
        "ours_by_step": by_step,
        "ours_by_step_range": [min(r.ours / r.step for r in rounds), max(r.ours / r.step for r in rounds)],
        "ours_by_today": by_today,
        "ours_by_today_range": [min(r.ours / r.today for r in rounds), max(r.ours / r.today for r in rounds)],
        "peak_mb": peak,
        "waiting": waiting,
        "step_ms": step.seconds * 1e3,
        "enqueued_ms": step.enqueued * 1e3,
        "watched_ms": step.watched * 1e3,
        "limit": _limit(waiting, step),
        "evaluated": median(lambda r: tiles / r.epoch.eval_seconds),
        "checkpoint_s": median(lambda r: r.epoch.checkpoint_seconds),
        "report_s": median(lambda r: r.epoch.report_seconds),
        "train_s": median(lambda r: r.epoch.train_seconds),
        "eval_s": median(lambda r: r.epoch.eval_seconds),
    }
    ok = by_today >= TODAY_AIM and (config.augmentation != "safe" or by_step >= LOOP_AIM)
    text = (
        "{ours:.0f} tiles/s with {loaders} loaders; step alone {step:.0f} (a/b {ours_by_step:.2f}), today's loop "
        "{today:.0f} (a/c {ours_by_today:.1f}); peak {peak_mb:.0f} MB; limit: {limit}; waiting {waiting:.0%}; step "
        "{step_ms:.1f} ms, enqueued in {enqueued_ms:.1f}, watched {watched_ms:.1f}; an epoch of {train_s:.1f} s has "
        "{eval_s:.2f} s of evaluation ({evaluated:.0f} tiles/s) and {checkpoint_s:.2f} s of checkpoint"
    ).format(**figures)
    return Outcome(ok if bench.gpu else None, text, figures)


def _limit(waiting: float, step: Step) -> str:
    if waiting > _WAITING:
        return f"loading ({waiting:.0%} of the time waiting for tiles)"
    if step.enqueued > _LAUNCHING * step.seconds:
        return "Python, which enqueues no faster"
    return "the device's arithmetic and memory"


def estimate(bench: Bench) -> Outcome:
    """Compare what --dry-run predicts of an epoch with the time that it takes."""
    prepare(bench)
    config = settings(bench, 32 if bench.small else 256, "safe")
    info = scan(config)
    try:
        found = probe(config, info)
    except SegtuneError as error:
        return Outcome(False, str(error))
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    with closing(OurLoop(config, info, bench.root / "runs" / "estimate", info.counts[TRAIN])) as ours:
        last = [ours.epoch() for _ in range(2)][-1]
        peak = torch.cuda.max_memory_allocated() / MB if bench.gpu else 0.0
    took = last.train_seconds + last.eval_seconds
    ratio, memory = found.epoch_seconds / took, (found.peak_bytes or 0) / MB
    ok = 0.5 < ratio < 2 and 0.8 < memory / max(peak, 1.0) < 1.25
    text = f"{found.epoch_seconds:.2f} s an epoch (took {took:.2f}), {memory:.0f} MB (took {peak:.0f})"
    return Outcome(ok if bench.gpu else None, text, {"ratio": ratio, "memory_mb": memory, "peak_mb": peak})


SPEED: dict[str, Callable[[Bench], Outcome]] = {
    "estimate": estimate,
    "speed_256_safe": lambda bench: case(bench, 256, "safe"),
    "speed_256_hard": lambda bench: case(bench, 256, "hard"),
    "speed_512_safe": lambda bench: case(bench, 512, "safe"),
    "speed_512_hard": lambda bench: case(bench, 512, "hard"),
}
