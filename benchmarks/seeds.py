"""How much do scores of one configuration with two seeds differ, and does a run's own curve show it?

    python benchmarks/seeds.py benchmarks/curves/s2india64.csv

A search says of a winner that gains less over the baseline than `segtune.trials.seed_margin` that another seed may
bring as much. Here that margin is held against recorded configurations that were trained with two seeds.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections import defaultdict
from pathlib import Path

from segtune.trials import Trial, seed_margin, wobble

Curve = list[float]


def pairs(path: Path) -> list[tuple[Curve, Curve]]:
    """The curves of configurations that were recorded with two seeds, the best configuration first."""
    found: dict[str, list[Curve]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["number"]].append([float(value) for value in row["miou"].split()])
    twice = [(curves[0], curves[1]) for curves in found.values() if len(curves) > 1]
    return sorted(twice, key=lambda pair: -max(pair[0]) - max(pair[1]))


def compared(found: list[tuple[Curve, Curve]]) -> str:
    """What the seeds make of these configurations, and what their curves let expect."""
    differences = [abs(max(one) - max(other)) for one, other in found]
    trials = [[Trial(0, "finished", {}, wobble=wobble(curve)) for curve in pair] for pair in found]
    margins = [seed_margin(one, other) for one, other in trials]
    deviation = math.sqrt(statistics.fmean(difference**2 for difference in differences) / 2)
    within = sum(difference < margin for difference, margin in zip(differences, margins, strict=True))
    return (
        f"{len(found)} configurations: differ by {statistics.median(differences):.4f} (median), deviation "
        f"{deviation:.4f}; margin {statistics.median(margins):.4f} (median), {within} of {len(found)} within it"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path)
    recorded = pairs(parser.parse_args().curves)
    half = len(recorded) // 2
    print(f"the better half:  {compared(recorded[:half])}")
    print(f"the other half:   {compared(recorded[half:])}")
