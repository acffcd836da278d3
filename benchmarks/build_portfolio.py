"""Choose the portfolio that a search starts with (`search: start: portfolio`) from recorded learning curves.

    python benchmarks/build_portfolio.py --curves benchmarks/curves/*.csv             write the shipped portfolio.yaml
    python benchmarks/build_portfolio.py --curves benchmarks/curves/*.csv --measure   compare ways to choose

A data set that is not in sets.yaml is left out: it has another space, or the tiles of one that is. Files are named
after their data set: landcover.csv, or landcover.1.csv and landcover.2.csv for parts of a recording.
`--measure` leaves one data set out, chooses on the others, and shows how good the first k are on the one left out.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from curves import Curve, read_curves
from machine import machine_line
from numpy.typing import NDArray
from recorded import SETS, files_by_set

from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.yamlfile import read_yaml
from segtune.machine import versions
from segtune.planning.portfolio import LEAST_SCORES, PER_GROUP, Entry, Portfolio, choose, choose_by_group, regrets

Array = NDArray[np.float64]

_SHIPPED = Path(__file__).parent.parent / "segtune" / "planning" / "portfolio.yaml"
_LIBRARIES = ("segtune", "torch", "segmentation-models-pytorch", "timm", "albumentations")
_HEAD = """\
# What a search tries after its baseline (`search: start: portfolio`), the best first. A program chose these
# configurations and wrote this file, see below `about`. It chose for pretrained encoders and for random weights apart.
"""


@dataclass(frozen=True)
class Recorded:
    """What each configuration reached on each data set, the mean over its seeds; NaN where it was not recorded."""

    sets: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...]  # by configuration
    miou: Array  # (configurations, data sets), of the best epoch; 0 where training failed
    seconds: Array  # (configurations, data sets), CPU time
    curves: Mapping[str, int]  # by data set

    def group(self, pretrained: bool) -> list[int]:
        """The configurations with or without pretrained encoders."""
        kinds = [one.get("encoder_weights", "none") != "none" for one in self.settings]
        return [row for row, kind in enumerate(kinds) if kind == pretrained]

    def costs(self) -> Array:
        """(configurations,): seconds as a multiple of the data set's median, the mean over data sets; 1 if unknown."""
        relative = self.seconds / np.nanmedian(self.seconds, axis=0)
        known = ~np.isnan(relative)
        sums = np.where(known, relative, 0.0).sum(axis=1)
        return np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), 1.0)

    def without(self, left_out: int) -> Recorded:
        """All but one data set."""
        sets = [column for column in range(len(self.sets)) if column != left_out]
        return Recorded(
            tuple(self.sets[column] for column in sets),
            self.settings,
            self.miou[:, sets],
            self.seconds[:, sets],
            {name: count for name, count in self.curves.items() if name != self.sets[left_out]},
        )


def read_recorded(paths: Sequence[Path]) -> Recorded:
    """Read the recorded curves of the data sets of sets.yaml, and leave out all others.

    The same number is the same configuration on every data set. Raises InputError where a file cannot be read, or none
    is of a data set of sets.yaml.
    """
    known = read_yaml(SETS)
    files = {name: parts for name, parts in files_by_set(paths).items() if name in known}
    if not files:
        raise InputError(f"--curves: needs the curves of at least one of {', '.join(known)}")
    return recorded_of({name: read_curves(parts) for name, parts in files.items()})


def recorded_of(curves: Mapping[str, Sequence[Curve]]) -> Recorded:
    """Put the curves of several data sets together."""
    settings = {curve.number: curve.settings for found in curves.values() for curve in found}
    for found in curves.values():
        if any(settings[curve.number] != curve.settings for curve in found):
            raise InputError(
                "--curves: were not drawn from one space: a configuration has different settings in two files"
            )
    numbers = sorted(settings)
    miou = np.full((len(numbers), len(curves)), np.nan)
    seconds = miou.copy()
    for column, found in enumerate(curves.values()):
        for row, number in enumerate(numbers):
            own = [curve for curve in found if curve.number == number]
            if own:
                miou[row, column] = np.mean([0.0 if curve.failed else max(curve.miou) for curve in own])
                seconds[row, column] = np.mean([curve.seconds[-1] for curve in own if curve.seconds] or np.nan)
    counts = {name: len(found) for name, found in curves.items()}
    return Recorded(tuple(curves), tuple(settings[number] for number in numbers), miou, seconds, counts)


# The ways to choose that are compared; the first one is used

Way = Callable[[Array, Array, int], list[int]]  # scores, costs, how many -> rows


def _by_regret(scores: Array, costs: Array, count: int) -> list[int]:
    return choose(regrets(scores), count, costs)


def _by_regret_and_cost(scores: Array, costs: Array, count: int) -> list[int]:
    return choose(regrets(scores), count, costs, cost=True)


def _ranks(scores: Array) -> Array:
    filled = np.where(np.isnan(scores), -np.inf, scores)
    return np.argsort(np.argsort(-filled, axis=0, kind="stable"), axis=0) / max(1, len(scores) - 1)


def _by_rank(scores: Array, costs: Array, count: int) -> list[int]:
    return choose(_ranks(scores), count, costs)


def _by_mean(scores: Array, costs: Array, count: int) -> list[int]:
    means = np.where(np.isnan(scores), 1.0, regrets(scores)).mean(axis=1)
    return np.lexsort((costs, means))[:count].tolist()


WAYS: Mapping[str, Way] = {
    "greedy by regret per second": _by_regret_and_cost,
    "greedy by regret": _by_regret,
    "greedy by rank": _by_rank,
    "lowest mean regret": _by_mean,
}


def _left_out(recorded: Recorded) -> Iterator[tuple[list[int], int]]:
    """Each data set with the configurations of each group that were recorded on it."""
    for pretrained, column in itertools.product((True, False), range(len(recorded.sets))):
        there = [row for row in recorded.group(pretrained) if not np.isnan(recorded.miou[row, column])]
        if not np.isnan(regrets(recorded.miou[there])[:, column]).all():
            yield there, column


def measured(recorded: Recorded, way: Way, count: int) -> tuple[Array, Array]:
    """Regret of the best of the first k on the data set left out, for k = 1 ..., and the seconds until then.

    Both (groups x data sets, count). The seconds are multiples of the data set's median.
    """
    regret, time = [], []
    for there, column in _left_out(recorded):
        others = recorded.without(column)
        order = way(others.miou[there], others.costs()[there], count)
        if not order:  # too few scores on the other data sets: nothing is known, and nothing is tried
            regret.append(np.ones(count))
            time.append(np.arange(1.0, count + 1))
            continue
        losses = np.minimum.accumulate(regrets(recorded.miou[there])[order, column])
        spent = recorded.seconds[there, column][order] / np.nanmedian(recorded.seconds[:, column])
        missing = (0, count - len(order))  # where fewer configurations were recorded, the last one stands for the rest
        regret.append(np.pad(losses, missing, mode="edge"))
        time.append(np.pad(np.cumsum(spent), missing, mode="edge"))
    return np.array(regret), np.array(time)


def at_random(recorded: Recorded, count: int, draws: int = 2000) -> Array:
    """What `measured` gives for configurations drawn at random, the mean of many draws."""
    generator = np.random.default_rng(0)
    found = []
    for there, column in _left_out(recorded):
        truth = regrets(recorded.miou[there])[:, column]
        picked = np.array([generator.permutation(truth)[:count] for _ in range(draws)])
        curve = np.minimum.accumulate(picked, axis=1).mean(axis=0)
        found.append(np.pad(curve, (0, count - len(curve)), mode="edge"))
    return np.array(found)


def _area(regret: Array, time: Array, until: float) -> float:
    """Mean regret over time, from the start, where it is 1, until so many median trainings; the mean over rows."""
    grid = np.linspace(0, until, 200, endpoint=False)
    rows = [
        np.concatenate(([1.0], own))[np.searchsorted(spent, grid, side="right")]
        for own, spent in zip(regret, time, strict=True)
    ]
    return float(np.mean(rows))


def report(recorded: Recorded) -> Iterator[str]:
    """The lines of --measure."""
    yield f"{machine_line()}; {', '.join(f'{name} {count} curves' for name, count in recorded.curves.items())}"
    yield "Regret on the data set left out, as a share of best - median, of the best of the first k entries; mean over"
    yield "data sets, pretrained and random weights apart. Last column: mean regret during the time of 5 trainings."
    yield ""
    ks = [k for k in (1, 2, 3, 5, PER_GROUP) if k <= PER_GROUP]
    yield f"| way | {' | '.join(f'k={k}' for k in ks)} | during 5 |"
    yield f"|---|{'---|' * (len(ks) + 1)}"
    for name, way in WAYS.items():
        regret, time = measured(recorded, way, PER_GROUP)
        cells = [f"{regret[:, k - 1].mean():.3f}" for k in ks]
        yield f"| {name} | {' | '.join(cells)} | {_area(regret, time, 5.0):.3f} |"
    random = at_random(recorded, PER_GROUP)
    during = _area(random, np.arange(1, PER_GROUP + 1) * np.ones_like(random), 5.0)
    yield f"| at random | {' | '.join(f'{random[:, k - 1].mean():.3f}' for k in ks)} | {during:.3f} |"


def entries(recorded: Recorded) -> tuple[Entry, ...]:
    """The entries of the portfolio of all recorded data sets."""
    groups = [recorded.group(pretrained) for pretrained in (True, False)]
    chosen = choose_by_group(groups, lambda rows: regrets(recorded.miou[rows]), recorded.costs(), PER_GROUP)
    losses = regrets(recorded.miou)
    found = []
    for row in chosen:
        good = [name for name, loss in zip(recorded.sets, losses[row], strict=True) if loss < 0.5]
        found.append(Entry(recorded.settings[row], tuple(good)))
    return tuple(found)


def build(recorded: Recorded, command: str) -> Portfolio:
    """The portfolio of all recorded data sets, with where it comes from."""
    known = versions()
    about = {
        "written": datetime.date.today().isoformat(),
        "from": {name: f"{count} curves" for name, count in recorded.curves.items()},
        "learnt_from": "the data sets on which it is nearer to the best configuration than to the median",
        "rebuild": command,
        "versions": {name: known[name] for name in _LIBRARIES if name in known},
    }
    return Portfolio(entries(recorded), about)


def main(arguments: list[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    try:
        _run(given)
    except InputError as error:
        sys.exit("\n".join(f"error: {mistake}" for mistake in error.mistakes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", type=Path, required=True, metavar="CSV", help="recorded curves")
    parser.add_argument("--to", type=Path, default=_SHIPPED, metavar="FILE", help="file to write [the shipped one]")
    parser.add_argument("--without", metavar="SET", help="leave a data set out, as a replay on it must")
    parser.add_argument("--measure", action="store_true", help="compare ways to choose; write nothing")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    recorded = read_recorded(arguments.curves)
    if arguments.measure:
        print("\n".join(report(recorded)))
        return
    if arguments.without:
        if arguments.without not in recorded.sets:
            raise InputError(f"--without: {arguments.without!r} is none of {', '.join(recorded.sets)}")
        recorded = recorded.without(recorded.sets.index(arguments.without))
    command = "python benchmarks/build_portfolio.py --curves benchmarks/curves/*.csv"
    portfolio = build(recorded, command)
    if not portfolio.entries:
        kinds = "all with pretrained encoders or all with random weights"
        raise InputError(f"--curves: no data set has {LEAST_SCORES} configurations, {kinds}")
    write_text(arguments.to, _HEAD + portfolio.text())
    print(f"{arguments.to}: written")


if __name__ == "__main__":
    main()
