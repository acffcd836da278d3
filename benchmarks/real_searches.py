"""Search for real, not by replay: the default, and two rivals that know nothing beforehand.

    python benchmarks/real_searches.py --sets landcover=landcover magtile=magtile --results real.csv --jobs 2

Each search has the same CPU time, on one core and with one torch thread. CPU time is what wall time would be on a quiet
machine; other work beside the searches does not change it. Runs are larger than those of the recorded curves (`SIZE`).
The portfolio of a search is chosen without the curves of its own data set. Every search is added to the file of
results; started again, the command continues there, and in the end it prints the tables. The pretrained encoders need
`SEGTUNE_WEIGHTS`, see pretrained.py.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from build_portfolio import build, read_recorded
from curves import append_row
from machine import machine_line
from recorded import COMMON, SETS, settings_of
from search_quality import CURVES

from segtune.data.scan import scan
from segtune.files.atomic import write_text
from segtune.files.folders import SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.planning.resources import Plan
from segtune.space.reader import load_space
from segtune.training.result import EpochResult
from segtune.trials import Trial
from segtune.tuning import search
from segtune.tuning.asha import make_asha

SIZE: Mapping[str, Any] = {"image_size": 96, "samples_per_epoch": 64, "threads": 1}
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the time of a search


@dataclass(frozen=True)
class Method:
    """How a search of the comparison differs from the default."""

    search: Mapping[str, Any]
    rays_asha: bool  # trials are stopped by Ray's scheduler, and never promoted


METHODS: Mapping[str, Method] = {
    "default": Method({}, rays_asha=False),
    "tpe, start none, Ray's ASHA": Method({"start": "none"}, rays_asha=True),
    "random, start none, Ray's ASHA": Method({"start": "none", "sampler": "random"}, rays_asha=True),
}


@dataclass(frozen=True)
class Key:
    """One search of the comparison."""

    set: str
    method: str
    seed: int


@dataclass(frozen=True)
class Result:
    """What a search found, and when."""

    key: Key
    trials: int  # begun
    finished: int  # that used their whole budget of epochs
    spent: tuple[float, ...]  # CPU seconds when the best mIoU rose
    best: tuple[float, ...]  # and to what

    def at(self, seconds: float) -> float:
        """Return the best mIoU after so many CPU seconds."""
        return max((best for spent, best in zip(self.spent, self.best, strict=True) if spent <= seconds), default=0.0)


class Timed:
    """Notes when the best score rises, and interrupts the search when its CPU time is used up."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._began = seconds, time.process_time()
        self.spent: list[float] = []
        self.best: list[float] = []

    def started(self, plan: Plan, trials: list[Trial]) -> None:
        """Begin to measure: what a search reads and plans beforehand is the same for all methods."""
        self._began = time.process_time()

    def epoch(self, number: int, result: EpochResult) -> None:
        """Note a score that is better than all before."""
        now = time.process_time() - self._began
        score = result.best_miou or 0.0
        if now <= self._seconds and score > max(self.best, default=0.0):
            self.spent.append(round(now, 1))
            self.best.append(round(score, 5))
        if now > self._seconds:
            os.kill(os.getpid(), signal.SIGINT)  # ends the search in order

    def ended(self, trial: Trial) -> None:
        """Do nothing: the outcome has all trials."""

    def say(self, line: str) -> None:
        """Do nothing."""


def run(key: Key, data: Path, seconds: float) -> Result:
    """Search until the CPU time is used up."""
    method = METHODS[key.method]
    fixed = settings_of(key.set) | dict(SIZE) | {"dataset": str(data)}
    with tempfile.TemporaryDirectory() as folder:
        portfolio = Path(folder) / "portfolio.yaml"
        recorded = read_recorded(sorted(CURVES.glob("*.csv")))
        write_text(portfolio, build(recorded.without(recorded.sets.index(key.set)), "").text())
        wanted = {"trials": 1000, "seed": key.seed, "start": str(portfolio)} | dict(method.search)
        space = load_space(COMMON, fixed | {"seed": 42 + key.seed}, wanted)
        timed = Timed(seconds)
        rays = patch.object(search, "make_promotion", make_asha) if method.rays_asha else nullcontext()
        with rays:
            outcome = search.run_search(
                space, scan(space.baseline), SearchFolder.named(Path(folder), "search"), timed, in_process=True
            )
    begun = [trial for trial in outcome.trials if trial.epochs_done]
    return Result(key, len(begun), sum(t.finished for t in begun), tuple(timed.spent), tuple(timed.best))


# Many of them, kept in a file


def searches(keys: Sequence[Key], data: Mapping[str, Path], seconds: float, path: Path, jobs: int) -> Iterator[Result]:
    """Yield every search: first those in the file of results, then the others, each written when done."""
    known = {result.key: result for result in read_results(path)}
    yield from (known[key] for key in keys if key in known)
    left = [key for key in keys if key not in known]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed(pool.submit(run, key, data[key.set], seconds) for key in left):
            result = future.result()
            own = {name: getattr(result.key, name) for name in ("set", "method", "seed")}
            numbers = {name: getattr(result, name) for name in ("trials", "finished")}
            curve = {name: " ".join(map(str, getattr(result, name))) for name in ("spent", "best")}
            append_row(path, own | numbers | curve)
            yield result


def read_results(path: Path) -> Iterator[Result]:
    """Yield the searches in a file of results; none where there is no file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = Key(row["set"], row["method"], int(row["seed"]))
            curve = (tuple(map(float, row[name].split())) for name in ("spent", "best"))
            yield Result(key, int(row["trials"]), int(row["finished"]), *curve)


def table(results: Sequence[Result], seconds: float) -> Iterator[str]:
    """Yield the lines of a table for each data set: the best mIoU of each seed, and their mean, by time spent."""
    for name in dict.fromkeys(result.key.set for result in results):
        yield f"{name}: best mIoU by CPU seconds spent, mean over seeds (each seed)"
        yield f"{'':32}" + "".join(f"{share * seconds:>26.0f}" for share in SHARES) + "   trials  finished"
        for method in METHODS:
            own = sorted(
                (result for result in results if (result.key.set, result.key.method) == (name, method)),
                key=lambda result: result.key.seed,
            )
            if own:
                scores = np.array([[result.at(share * seconds) for result in own] for share in SHARES])
                cells = [f"{row.mean():.3f} ({' '.join(f'{score:.3f}' for score in row)})" for row in scores]
                counts = f"{np.mean([r.trials for r in own]):9.1f} {np.mean([r.finished for r in own]):9.1f}"
                yield f"  {method:30}" + "".join(f"{cell:>26}" for cell in cells) + counts
        yield ""


def _named(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if name not in read_yaml(SETS) or not folder:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NAME=FOLDER, the name one of {', '.join(read_yaml(SETS))}"
        )
    return name, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", type=_named, required=True, metavar="NAME=FOLDER", help="data sets")
    parser.add_argument("--results", type=Path, required=True, help="CSV that every search is appended to")
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU seconds of each search [600]")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each method on each data set [3]")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time [1]")
    given = parser.parse_args()
    data = dict(given.sets)
    keys = [Key(name, method, seed) for seed in range(given.seeds) for name in data for method in METHODS]
    found = []
    for result in searches(keys, data, given.seconds, given.results, given.jobs):
        found.append(result)
        best = max(result.best, default=0.0)
        print(f"{len(found)} of {len(keys)}: {result.key}: {best:.4f}, {result.trials} trials", file=sys.stderr)
    print(machine_line())
    print(f"searches of {given.seconds:.0f} CPU seconds, {dict(SIZE)}")
    print("\n".join(table(found, given.seconds)))


if __name__ == "__main__":
    main()
