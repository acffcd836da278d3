"""What a trial costs besides its training: segtune's warm trials against bare Ray Tune on fresh processes.

    python benchmarks/overhead.py

Both sides train the same configurations on the demo data, one trial at a time, in one run of this script. The cost of
a trial is the time from the end of the trial before it to its own end, less the seconds that its epochs took
(training and evaluation as measured inside). It holds everything else: the process and its imports, decoding,
building the model, the study, the logs, the checkpoints. The first trial of each side, which starts Ray's first
worker, is left out on both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from machine import machine_line
from ray import tune

from segtune.data.dataset import DataInfo
from segtune.data.demo import write_demo
from segtune.files.folders import SearchFolder
from segtune.planning.feasibility import scan_data
from segtune.planning.resources import Plan
from segtune.space.reader import load_space
from segtune.training.result import EpochResult
from segtune.tuning.search import run_search

SPACE = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, encoder_weights: none, image_size: 64,
  epochs: 2, workers: 0, augmentation: safe}
space: {lr: {low: 1e-3, high: 1e-2, log: true}}
search: {sampler: random, scheduler: none, max_concurrent: 1, cpus_per_trial: 1, gpus_per_trial: 0}
"""


class Clock:
    """Notes when each trial ended and what its epochs took."""

    def __init__(self) -> None:
        self.costs: list[float] = []
        self._last = 0.0

    def started(self, plan: Plan, trials: list[Any]) -> None:
        self._last = time.perf_counter()

    def epoch(self, number: int, result: EpochResult) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def ended(self, trial: Any) -> None:
        now = time.perf_counter()
        self.costs.append(now - self._last - (trial.seconds or 0.0))
        self._last = now


def segtune_costs(root: Path, info: DataInfo, trials: int) -> list[float]:
    """Seconds per trial besides its epochs, in a segtune search."""
    clock = Clock()
    space = load_space(root / "space.yaml", search_overrides={"trials": trials})
    run_search(space, info, SearchFolder(root / "ours"), clock)
    return clock.costs


def train_plainly(config: dict[str, Any]) -> None:
    """What a trainable looks like without segtune's search: import, train, report."""
    from segtune.config import RunConfig
    from segtune.files.folders import RunFolder
    from segtune.training.train import train

    folder = RunFolder(Path(config["folder"]) / str(config["number"]))
    for result in train(RunConfig.from_settings(config["settings"]), config["info"], folder, threads=1):
        tune.report({"epoch": result.epoch, "miou": result.best_miou, "seconds": result.seconds})


class PlainClock(tune.Callback):  # type: ignore[misc]
    """The same clock for bare Ray Tune."""

    def __init__(self) -> None:
        self.costs: list[float] = []
        self.last = time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ray's call when a trial ended."""
        now = time.perf_counter()
        self.costs.append(now - self.last - trial.last_result["seconds"])
        self.last = now


def bare_costs(root: Path, info: DataInfo, trials: int) -> list[float]:
    """Seconds per trial besides its epochs, in plain Ray Tune with its defaults: a fresh process per trial."""
    settings = load_space(root / "space.yaml").baseline.settings()
    clock = PlainClock()
    tune.Tuner(
        tune.with_resources(train_plainly, {"cpu": 1}),
        param_space={
            "number": tune.grid_search(list(range(trials))),
            "settings": settings,
            "info": info,
            "folder": str(root / "bare"),
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="tune", storage_path=str(root / "ray"), verbose=0, callbacks=[clock]),
    ).fit()
    return clock.costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12, help="trials on each side [12]")
    trials = parser.parse_args().trials
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_demo(root / "demo")
        (root / "space.yaml").write_text(f"dataset: {root / 'demo'}\n{SPACE}")
        info = scan_data(load_space(root / "space.yaml"))
        ray.init(
            address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        ours, bare = segtune_costs(root, info, trials)[1:], bare_costs(root, info, trials)[1:]
        ray.shutdown()
    print(machine_line())
    print("seconds per trial besides its epochs (median, lowest to highest):")
    for name, costs in (("segtune, warm", ours), ("bare Ray Tune, fresh process", bare)):
        print(
            f"  {name:30} {statistics.median(costs):6.2f}  ({min(costs):.2f} to {max(costs):.2f}), {len(costs)} trials"
        )
    print(f"ratio of the medians: {statistics.median(ours) / statistics.median(bare):.3f}")


if __name__ == "__main__":
    main()
