"""Compare the speed of segtune's training with that of its step alone and with the loop of most scripts.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --quick                  three rounds instead of seven
    python benchmarks/throughput.py --cases hard-1 hard-2    some of the cases
    python benchmarks/throughput.py --try                    what else was tried, and what it gave

Images per second of (a) `train` from end to end: loading, augmentation, steps and bookkeeping; (b) its step alone, on a
batch that lies on the device; (c) the loop of most scripts: fp32, contiguous memory, one loader process that decodes,
augments at full size, resizes and normalizes each tile anew, and the IoU of each batch. The loops run in turns, so that
other work on the machine hits all alike; the ratios are medians over the rounds. hard-2 is augmentation hard with two
trials at a time, each on half of the cores. The data set is s2india of $SEGTUNE_DATA, or the demo.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from loops import OurLoop, StepAlone, TodaysLoop
from machine import machine_line
from tried import show_tried

from segtune.cli.assignments import parse_assignments
from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.demo import write_demo
from segtune.data.scan import scan
from segtune.data.tiles import VAL
from segtune.machine import available_cpus
from segtune.models.device import resolve_device

_WAIT_S = 600.0  # for the other processes, at most
_SPINS = "300000"  # libgomp's default: how often a thread of today's loop looks for work before it sleeps


@dataclass(frozen=True)
class Case:
    """What is measured: an augmentation level, and the number of trials at a time."""

    augmentation: str
    trials: int

    def __str__(self) -> str:
        return f"{self.augmentation}-{self.trials}"


CASES = {str(case): case for case in (Case(level, trials) for trials in (1, 2) for level in ("safe", "hard"))}


@dataclass(frozen=True)
class Ours:
    """Images per second of our loop and of its step alone in a round, and what else an epoch showed."""

    loop: float
    step: float
    waiting: float  # share of the time of training that waited for tiles
    evaluated: float  # tiles per second of the evaluation
    saving: float  # seconds of the checkpoint


@dataclass(frozen=True)
class Round:
    """The three loops in one round: our parts and today's, of each trial."""

    ours: Sequence[Ours]
    today: Sequence[float]

    def speeds(self) -> tuple[float, float, float]:
        """Return the images per second of (a), (b) and (c), all trials together."""
        return sum(part.loop for part in self.ours), sum(part.step for part in self.ours), sum(self.today)


def settings(root: Path) -> dict[str, Any]:
    """Return the settings of the runs, on s2india or on the demo data, which is then written to `root`."""
    usual: dict[str, Any] = {
        "model": "unet",
        "encoder": "resnet18",
        "encoder_weights": "none",
        "image_size": 128,
        "batch_size": 6,
        "worst": 0,
    }
    usual |= {"cache_dir": str(root / "cache"), "val_samples": 12, "channels": ["nir"]}
    if data := os.environ.get("SEGTUNE_DATA"):
        return usual | {"dataset": f"{data}/s2india", "classes": [1, 2, 3], "ignore": [0]}
    write_demo(root / "demo", 64, 12)
    return usual | {"dataset": str(root / "demo")}


@dataclass(frozen=True)
class Share:
    """What a trial of a case gets: its cores, and how much it measures."""

    cores: int
    rounds: int
    steps: int  # of each loop in a round


def measure_ours(given: dict[str, Any], folder: Path, share: Share, turn: threading.Barrier) -> list[Ours]:
    """Measure (a) and (b) in turns with (c), which has a process of its own; the first round does not count."""
    cv2.setNumThreads(0)
    config, info = prepared(given, share)
    tiles = share.steps * config.batch_size
    found: list[Ours] = []
    with (
        closing(OurLoop(config, info, folder / "a", tiles, share.cores)) as ours,
        closing(StepAlone(config, info, folder / "b")) as alone,
    ):
        for _ in range(1 + share.rounds):
            turn.wait(_WAIT_S)
            epoch = ours.epoch()
            turn.wait(_WAIT_S)
            step = tiles / alone.seconds(share.steps)
            turn.wait(_WAIT_S)
            waiting, evaluated = epoch.data_seconds / epoch.train_seconds, info.counts[VAL] / epoch.eval_seconds
            found.append(Ours(tiles / epoch.train_seconds, step, waiting, evaluated, epoch.checkpoint_seconds))
            turn.wait(_WAIT_S)
    return found[1:]


def measure_today(given: dict[str, Any], share: Share, turn: threading.Barrier) -> list[float]:
    """Measure (c) in turns with (a) and (b): images per second in each round but the first."""
    config, info = prepared(given, share)
    found: list[float] = []
    with closing(TodaysLoop(config, info, resolve_device(config.device))) as today:
        for _ in range(1 + share.rounds):
            for _ in range(3):  # for (a), for (b), and for (c) to begin
                turn.wait(_WAIT_S)
            found.append(share.steps * config.batch_size / today.seconds(share.steps))
            turn.wait(_WAIT_S)
    return found[1:]


def prepared(given: dict[str, Any], share: Share) -> tuple[RunConfig, DataInfo]:
    """Set up this process for its share of the cores; return the settings and the scan of the data."""
    torch.set_num_threads(share.cores)
    config = RunConfig.from_settings(given | {"threads": share.cores})
    return config, scan(config)


def measured(case: Case, given: dict[str, Any], folder: Path, rounds: int, steps: int) -> list[Round]:
    """Measure a case in fresh processes, two for each trial: one for (a) and (b), one for (c)."""
    share = Share(max(1, available_cpus() // case.trials), rounds, steps)
    changed = given | {"augmentation": case.augmentation}
    prepared(changed, share)  # so that the tiles are decoded
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(case.trials, context) as pool,
        ProcessPoolExecutor(case.trials, context) as todays,
    ):
        turn = manager.Barrier(2 * case.trials)
        ours = [
            pool.submit(measure_ours, changed, folder / f"{case}-{number}", share, turn)
            for number in range(case.trials)
        ]
        os.environ["GOMP_SPINCOUNT"] = _SPINS  # read by the processes that begin now
        today = [todays.submit(measure_today, changed, share, turn) for _ in range(case.trials)]
        results = [trial.result() for trial in ours], [trial.result() for trial in today]
    del os.environ["GOMP_SPINCOUNT"]
    return [
        Round(parts, others)
        for parts, others in zip(zip(*results[0], strict=True), zip(*results[1], strict=True), strict=True)
    ]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format a median with its range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def line(case: Case, rounds: Sequence[Round]) -> str:
    """Return the row of a case."""
    speeds = [one.speeds() for one in rounds]
    columns = [f"{case!s:8}", *(f"{statistics.median(values):6.1f}" for values in zip(*speeds, strict=True))]
    columns += [f"{spread([a / b for a, b, _ in speeds]):21}", f"{spread([a / c for a, _, c in speeds]):21}"]
    parts = [part for one in rounds for part in one.ours]
    columns.append(f"{statistics.median(part.waiting for part in parts):5.0%}")
    columns.append(f"{statistics.median(sum(part.evaluated for part in one.ours) for one in rounds):6.1f}")
    return "  ".join([*columns, f"{statistics.median(part.saving for part in parts):6.2f} s"])


HEAD = f"{'':8}  {'a':>6}  {'b':>6}  {'c':>6}  {'a/b (range)':21}  {'a/c (range)':21}  waits  {'eval.':>6}    saving"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings of the runs")
    parser.add_argument("--try", action="store_true", dest="tried", help="measure what else was tried")
    asked = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as folder:
        given = settings(Path(folder)) | parse_assignments(asked.set)
        print(", ".join(f"{name} {value}" for name, value in given.items() if name != "cache_dir"), flush=True)
        if asked.tried:
            show_tried(given, Path(folder), 3 if asked.quick else 7)
            return
        print(HEAD, flush=True)
        for name in asked.cases:
            rounds = measured(CASES[name], given, Path(folder), *((3, 5) if asked.quick else (7, 8)))
            print(line(CASES[name], rounds), flush=True)


if __name__ == "__main__":
    main()
