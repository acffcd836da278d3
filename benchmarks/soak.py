"""Measure whether a long search costs more and more: its process, and the overhead of its trials, over 300 trials.

    python benchmarks/soak.py

One search of short trials on the demo data, one at a time, with the default sampler and scheduler. Some finish,
others are stopped after an epoch, and a few with a huge learning rate fail when their loss becomes NaN: each kind of
end needs another clean-up. After every trial the script records what the search's process holds (resident memory,
threads, open files) and the overhead of the trial: the time from the end of the trial before it to its own end, without
its epochs. It compares two stretches of 21 trials, around the 30th and at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine_line
from overhead import Clock

from segtune.data.demo import write_demo
from segtune.files.folders import SearchFolder
from segtune.planning.feasibility import scan_data
from segtune.space.reader import load_space
from segtune.tuning.search import run_search

SPACE = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, encoder_weights: none, image_size: 32, epochs: 3,
  samples_per_epoch: 16, val_samples: 8, workers: 0, worst: 0}
space:
  loss: [dice, bce, focal]
  optimizer:
    adamw: {lr: {low: 1e-4, high: 1e-1, log: true}}
    sgd: {lr: [1e-3, 1e-2, 1e-1, 1e30]}
  augmentation: [none, safe, medium]
  batch_size: [4, 8]
search: {grace_period: 1, max_concurrent: 1, cpus_per_trial: 1, gpus_per_trial: 0}
"""
EARLY = 30
_AROUND = 10  # trials before and after one that its figure is the median of


@dataclass(frozen=True)
class Held:
    """Resources that a process holds."""

    memory_mb: float
    threads: int
    files: int


def held() -> Held:
    """Return the resources that this process holds now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Held(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(os.listdir("/proc/self/fd")))


class Watch(Clock):
    """A clock that also records what the process holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Held] = []

    def ended(self, trial: Any) -> None:
        super().ended(trial)
        self.held.append(held())


def _row(name: str, values: Sequence[float], late: int, form: str) -> str:
    def median(number: int) -> float:
        return statistics.median(values[max(number - 1 - _AROUND, 0) : number + _AROUND])

    early, end = median(EARLY), median(late)
    return f"  {name:38} {early:10{form}} {end:10{form}}   ratio {end / early:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300, help="trials of the search [300]")
    trials = parser.parse_args().trials
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_demo(root / "demo")
        (root / "space.yaml").write_text(f"dataset: {root / 'demo'}\n{SPACE}")
        space = load_space(root / "space.yaml", search_overrides={"trials": trials})
        ended = run_search(space, scan_data(space), SearchFolder(root / "soak"), watch).trials
        size = sum(path.stat().st_size for path in (root / "soak").rglob("*") if path.is_file())
    late = len(watch.costs) - _AROUND
    counts = {status: sum(trial.status == status for trial in ended) for status in ("finished", "stopped", "failed")}
    print(machine_line())
    print(f"{len(ended)} trials ({', '.join(f'{count} {status}' for status, count in counts.items())})", end="")
    print(f"; the search's folder takes {size / 1e6:.0f} MB")
    print(f"{'median of the 21 trials around the':40} {EARLY:>8}th {late:>8}th")
    print(_row("seconds besides its epochs", watch.costs, late, ".2f"))
    print(_row("memory of the search's process, MB", [now.memory_mb for now in watch.held], late, ".0f"))
    print(_row("its threads", [now.threads for now in watch.held], late, ".0f"))
    print(_row("its open files", [now.files for now in watch.held], late, ".0f"))


if __name__ == "__main__":
    main()
