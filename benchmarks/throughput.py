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
from segtune.data.demo import write_demo
from segtune.data.scan import scan
from segtune.data.tiles import VAL
from segtune.machine import available_cpus
from segtune.models.device import resolve_device

_WAIT_S = 600.0  # for the other trials, at most


@dataclass(frozen=True)
class Case:
    """What is measured: an augmentation level, and the number of trials at a time."""

    augmentation: str
    trials: int

    def __str__(self) -> str:
        return f"{self.augmentation}-{self.trials}"


CASES = {str(case): case for case in (Case(level, trials) for trials in (1, 2) for level in ("safe", "hard"))}


@dataclass(frozen=True)
class Round:
    """Images per second of the three loops in one round, and what else an epoch showed."""

    ours: float
    step: float
    today: float
    waiting: float  # share of the time of training that waited for tiles
    evaluated: float  # tiles per second of the evaluation
    saving: float  # seconds of the checkpoint

    def __add__(self, other: Round) -> Round:
        """Add another trial's round; it ran at the same time."""
        together = (self.ours + other.ours, self.step + other.step, self.today + other.today)
        mean = (self.waiting + other.waiting) / 2
        return Round(*together, mean, self.evaluated + other.evaluated, max(self.saving, other.saving))


def settings(root: Path) -> dict[str, Any]:
    """Return the settings of the runs, on s2india or on the demo data, which is then written to `root`."""
    usual: dict[str, Any] = {"model": "unet", "encoder": "resnet18", "image_size": 128, "batch_size": 6, "worst": 0}
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


def measure(given: dict[str, Any], folder: Path, share: Share, barrier: threading.Barrier) -> list[Round]:
    """Measure the three loops in turns, beside the other trials of the case; the first round does not count."""
    torch.set_num_threads(share.cores)
    cv2.setNumThreads(0)
    config = RunConfig.from_settings(given | {"threads": share.cores})
    info, tiles = scan(config), share.steps * config.batch_size
    rounds: list[Round] = []
    ours = OurLoop(config, info, folder / "a", tiles, share.cores)
    today = TodaysLoop(config, info, resolve_device(config.device))
    with closing(ours), closing(StepAlone(config, info, folder / "b")) as alone, closing(today):
        for _ in range(1 + share.rounds):
            barrier.wait(_WAIT_S)
            epoch = ours.epoch()
            barrier.wait(_WAIT_S)
            step = tiles / alone.seconds(share.steps)
            barrier.wait(_WAIT_S)
            todays = tiles / today.seconds(share.steps)
            waiting, evaluated = epoch.data_seconds / epoch.train_seconds, info.counts[VAL] / epoch.eval_seconds
            rounds.append(
                Round(tiles / epoch.train_seconds, step, todays, waiting, evaluated, epoch.checkpoint_seconds)
            )
    return rounds[1:]


def measured(case: Case, given: dict[str, Any], folder: Path, rounds: int, steps: int) -> list[Round]:
    """Measure a case in fresh processes, one for each trial; return the rounds, with the trials added up."""
    share = Share(max(1, available_cpus() // case.trials), rounds, steps)
    changed = given | {"augmentation": case.augmentation}
    os.environ["OMP_NUM_THREADS"] = str(share.cores)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(case.trials, context) as pool:
        barrier = manager.Barrier(case.trials)
        trials = [
            pool.submit(measure, changed, folder / f"{case}-{number}", share, barrier) for number in range(case.trials)
        ]
        results = [trial.result() for trial in trials]
    first, *others = results
    return [sum(together, start=one) for one, *together in zip(first, *others, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format a median with its range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def line(case: Case, rounds: Sequence[Round]) -> str:
    """Return the row of a case."""
    columns = [f"{case!s:8}"]
    speeds = ([r.ours for r in rounds], [r.step for r in rounds], [r.today for r in rounds])
    columns += [f"{statistics.median(values):6.1f}" for values in speeds]
    columns += [f"{spread([r.ours / r.step for r in rounds]):21}", f"{spread([r.ours / r.today for r in rounds]):21}"]
    columns.append(f"{statistics.median(r.waiting for r in rounds):5.0%}")
    columns.append(f"{statistics.median(r.evaluated for r in rounds):6.1f}")
    return "  ".join([*columns, f"{statistics.median(r.saving for r in rounds):6.2f} s"])


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
