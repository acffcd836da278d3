"""How much do scores of one configuration with two seeds differ, and how often is a winner one by chance?

    python benchmarks/seeds.py benchmarks/curves/s2india64.csv

A search names a winner only if it gains more over the baseline than `segtune.margin.seed_margin`. Here the deviation
that the margin is made from is held against recorded configurations that were trained with several seeds, and searches
of configurations with known true scores are simulated, with trials that pause.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segtune.margin import seed_margin
from segtune.trials import Trial, ranked, wobble

Curve = list[float]


def pairs(path: Path) -> list[tuple[Curve, Curve]]:
    """The curves of each two seeds that a configuration was recorded with, those with the best scores first."""
    found: dict[str, list[Curve]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["status"] == "finished":
                found[row["number"]].append([float(value) for value in row["miou"].split()])
    twice = [pair for curves in found.values() for pair in itertools.combinations(curves, 2)]
    return sorted(twice, key=lambda pair: -max(pair[0]) - max(pair[1]))


def compared(found: list[tuple[Curve, Curve]]) -> str:
    """What the seeds make of these configurations, and what their curves let expect."""
    differences = [abs(max(one) - max(other)) for one, other in found]
    margins = [seed_margin(ranked(_trials(pair, len(pair[0])))) for pair in found]
    deviation = math.sqrt(statistics.fmean(difference**2 for difference in differences) / 2)
    within = sum(difference < margin for difference, margin in zip(differences, margins, strict=True))
    return (
        f"{len(found)} pairs of seeds: differ by {statistics.median(differences):.4f} (median), deviation "
        f"{deviation:.4f}; margin {statistics.median(margins):.4f} (median), {within} of {len(found)} within it"
    )


def _trials(curves: Iterable[Curve], budget: int) -> list[Trial]:
    """Trials with these curves; the first one is the baseline."""
    return [
        Trial(number, "finished", {"epochs": budget}, len(curve), max(curve), wobble=wobble(curve))
        for number, curve in enumerate(curves)
    ]


def cut(curves: np.ndarray) -> list[Curve]:
    """The curves (trials, epochs) as far as successive halving trains them.

    A third goes on after a ninth of the epochs, and a third of these after a third. The baseline, the first, always
    does, and at least one other trial.
    """
    epochs = curves.shape[1]
    lengths, going = np.full(len(curves), epochs), np.arange(1, len(curves))
    for rung in (epochs // 9, epochs // 3):
        order = going[np.argsort(-curves[going, :rung].max(axis=1), kind="stable")]
        going, stopped = np.split(order, [max(1, len(order) // 3)])
        lengths[stopped] = rung
    return [curve[:length].tolist() for curve, length in zip(curves, lengths, strict=True)]


def named(true: Sequence[float], noise: float, searches: int, epochs: int = 27, paused: bool = True) -> float:
    """The share of simulated searches that name a winner; `true` are the scores without noise, the baseline's first.

    A curve rises to its true score. It has a deviation from seed to seed and one from epoch to epoch, such that the
    best epoch's deviation from seed to seed is about `noise`, as that from epoch to epoch is. With `paused`, most
    trials do not use their budget; see `cut`.
    """
    random = np.random.default_rng(0)
    rise = -0.4 * np.exp(-9 * np.arange(epochs) / epochs)
    winners = 0
    for _ in range(searches):
        ends = np.array(true)[:, None] + 0.8 * noise * random.standard_normal((len(true), 1))
        curves = ends + rise + noise * random.standard_normal((len(true), epochs))
        order = ranked(_trials(cut(curves) if paused else curves.tolist(), epochs))
        baseline = next(trial for trial in order if trial.baseline)
        winners += (order[0].miou or 0.0) - (baseline.miou or 0.0) >= seed_margin(order)
    return winners / searches


def simulated() -> Iterator[str]:
    """Lines with the share of searches that name a winner, by what their trials are worth."""
    for count in (2, 10, 30, 80):
        yield f"{count} equal trials: {_shares([0.8] * count)} of the searches name a winner"
    for better in (1, 5, 10):
        true = [0.8] * (30 - better) + [0.83] * better
        yield f"30 trials, {better} better by 0.03: {_shares(true)}"


def _shares(true: Sequence[float]) -> str:
    full, paused = (named(true, 0.008, 2000, paused=each) for each in (False, True))
    return f"{paused:.1%} ({full:.1%} without a scheduler)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path)
    recorded = pairs(parser.parse_args().curves)
    half = len(recorded) // 2
    print(f"the better half:  {compared(recorded[:half])}")
    print(f"the other half:   {compared(recorded[half:])}")
    print("simulated, deviation from seed to seed 0.008:")
    for line in simulated():
        print(f"  {line}")
