"""Measure which sampler finds the front of score and training time soonest, among recorded configurations.

    python benchmarks/front.py                    all sets, 10 seeds; about ten minutes
    python benchmarks/front.py --seeds 2          a quick look

Each method tries 40 of the configurations of a set, one after another and to the end. The costs are the CPU seconds of
a training. Printed is the hypervolume: the area that the trials so far dominate, over scores and the logarithm of
seconds, as a share of what all recorded configurations dominate together. 1 means that the whole front was found.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from recorded import Recorded, read_sets
from table import FromTable

from segtune.space.space import Space
from segtune.tuning.points import FromTrial
from segtune.tuning.sampler import Inner, SpaceSampler, tpe
from segtune.tuning.teaching import AsComplete

_CURVES = Path(__file__).with_name("curves")
_AFTER = (10, 20, 40)  # trials
_POPULATION = 10  # of NSGA-II; Optuna's own default, 50, would be more than these searches have

Point = tuple[float, float]  # score, and minus the logarithm of seconds: both are better when larger


def nsga2(space: Space, seed: int) -> BaseSampler:
    """Make Optuna's NSGA-II (Deb et al. 2002)."""
    return NSGAIISampler(seed=seed, population_size=_POPULATION)


def both(space: Space, seed: int) -> BaseSampler:
    """Make TPE for several objectives (Ozaki et al. 2022), with the settings of the product's own."""
    made = tpe(space, seed)
    assert isinstance(made, TPESampler)
    return made


# What draws, and whether it learns of the seconds.
METHODS: dict[str, tuple[Inner, bool]] = {
    "random": (tpe, False),
    "tpe by score": (tpe, False),
    "tpe by both": (both, True),
    "nsga2 by both": (nsga2, True),
}

_USUAL = "tpe by score"


def tried(recorded: Recorded, method: str, seed: int, trials: int) -> list[Point]:
    """Return what the trials of a search among recorded configurations reached, in their order."""
    inner, costs = METHODS[method]
    space = recorded.space.with_search({"seed": seed, "trials": trials})
    sampler = SpaceSampler(space, inner, AsComplete(space))
    found = FromTable(sampler, space, recorded, uniform=method == "random")
    directions = [StudyDirection.MAXIMIZE, *([StudyDirection.MINIMIZE] if costs else [])]
    study = optuna.create_study(directions=directions, sampler=found)
    points = []
    for _ in range(trials):
        trial = study.ask()
        settings = space.draw(FromTrial(trial))
        score, seconds = outcome(recorded, settings)
        study.tell(trial, [score, math.log(seconds)] if costs else score)
        points.append((score, -math.log(seconds)))
    return points


def outcome(recorded: Recorded, settings: dict[str, object]) -> tuple[float, float]:
    """Return the best score of a recorded configuration, and the seconds of its whole training."""
    number = recorded.number_of(settings)
    assert number is not None, f"not recorded: {settings}"
    row = recorded.numbers.index(number)
    return float(recorded.best[row, -1]), float(recorded.seconds[row]) * recorded.epochs


def hypervolume(points: Sequence[Point], worst: Point) -> float:
    """Return the area between the front of some points and the worst point."""
    area, height = 0.0, worst[1]
    for score, saved in sorted(points, reverse=True):  # the best score first
        if saved > height and score > worst[0]:
            area += (score - worst[0]) * (saved - height)
            height = saved
    return area


def shares(recorded: Recorded, method: str, seed: int) -> list[float]:
    """Return the share of the whole hypervolume after some numbers of trials."""
    every = [
        (float(score), -math.log(seconds * recorded.epochs))
        for score, seconds in zip(recorded.best[:, -1], recorded.seconds, strict=True)
    ]
    worst = (min(score for score, _ in every), min(saved for _, saved in every))
    whole = hypervolume(every, worst)
    points = tried(recorded, method, seed, max(_AFTER))
    return [hypervolume(points[:count], worst) / whole for count in _AFTER]


def main(seeds: int, sets: Callable[[str], bool], methods: Sequence[str]) -> None:
    """Print a table of all sets and methods."""
    known = {name: found for name, found in read_sets(sorted(_CURVES.glob("*.csv"))).items() if sets(name)}
    print(f"share of the hypervolume after {', '.join(map(str, _AFTER))} trials: mean over {seeds} seeds (error)")
    total: dict[str, list[list[float]]] = {method: [] for method in methods}
    for name, recorded in known.items():
        for method in methods:
            rows = [shares(recorded, method, seed) for seed in range(seeds)]
            total[method] += rows
            print(f"{name:10} {method:14} {_text(rows)}", flush=True)
    for method, rows in total.items():
        print(f"{'all':10} {method:14} {_text(rows)}")
    if _USUAL in methods:
        print(f"more than {_USUAL}, of the same set and seed:")
        for method in methods:
            gains = [
                [a - b for a, b in zip(*pair, strict=True)] for pair in zip(total[method], total[_USUAL], strict=True)
            ]
            print(f"{'all':10} {method:14} {_text(gains)}")


def _text(rows: Sequence[Sequence[float]]) -> str:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return "  ".join(f"{np.mean(c):.3f} ({_error(c):.3f})" for c in columns)


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="searches per method and set [10]")
    parser.add_argument("--set", help="one data set alone")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="the methods [all]")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    main(arguments.seeds, lambda name: arguments.set in (None, name), arguments.methods)
