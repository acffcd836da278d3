"""What replayed searches found, by method: scores at budgets, and the training time until a score is reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from methods import METHODS, PLAIN
from recorded import Recorded
from scipy import stats
from simulation import BUDGETS, TABLE, Replay

Array = npt.NDArray[np.float64]
_CONFIDENCE = 0.95
_TARGETS = (10, 20, 50)  # full trainings: what `PLAIN` has reached by then is to be reached
# A table holds so few configurations that methods try most of them sooner or later; then all find the same.
_BUDGETS_IN_TABLE, _TARGETS_IN_TABLE = (5, 10), (10, 20)
GEOMETRIC, ARITHMETIC = "geometric mean", "mean"
_RESAMPLED = 1000  # bootstrap samples of seeds


@dataclass(frozen=True)
class Band:
    """A mean over seeds, and half of its confidence interval: Student's t, 95 %."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float] | Array) -> Band:
        """The band of one value per seed; of a single one, the half is infinite."""
        if len(values) < 2:
            return cls(float(np.mean(values)), float("inf"))
        quantile = stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)
        return cls(float(np.mean(values)), float(quantile * np.std(values, ddof=1) / np.sqrt(len(values))))

    @property
    def sign(self) -> str:
        """``+`` or ``-`` where the interval excludes 0, else a space."""
        if abs(self.mean) <= self.half:
            return " "
        return "+" if self.mean > 0 else "-"

    def __str__(self) -> str:
        return f"{self.mean:.4f} ±{self.half:.4f}"


class Results:
    """Replays on one landscape with one number of workers, by data set and method, each in the order of their seeds.

    Methods are compared where all of them were replayed: a data set or seed that one of them lacks is left out.
    """

    def __init__(self, replays: Iterable[Replay], sets: Mapping[str, Recorded]) -> None:
        self._found: dict[tuple[str, str], dict[int, Replay]] = {}
        replays = list(replays)
        self.in_table = any(replay.key.landscape == TABLE for replay in replays)
        # Full trainings after which methods are compared.
        self.budgets = _BUDGETS_IN_TABLE if self.in_table else BUDGETS
        self.targets = _TARGETS_IN_TABLE if self.in_table else _TARGETS
        for replay in replays:
            self._found.setdefault((replay.key.set, replay.key.method), {})[replay.key.seed] = replay
        self.methods = [method for method in METHODS if any(method == found for _, found in self._found)]
        self._sets = {
            name: recorded
            for name, recorded in sets.items()
            if all((name, method) in self._found for method in self.methods)
        }
        seeds = [set(self._found[name, method]) for name in self._sets for method in self.methods]
        self._seeds = sorted(set.intersection(*seeds)) if seeds else []
        self.seeds = len(self._seeds)

    @property
    def sets(self) -> list[str]:
        """The names of the data sets."""
        return list(self._sets)

    def of(self, name: str, method: str) -> list[Replay]:
        """One replay for each seed."""
        return [self._found[name, method][seed] for seed in self._seeds]

    def at(self, name: str, method: str, budget: float) -> Array:
        """The best mIoU by seed when so many full trainings were spent."""
        return np.array([replay.at(budget) for replay in self.of(name, method)])

    def share_tried(self, method: str, budget: int) -> float:
        """The share of a table's configurations begun until one of `BUDGETS`, mean over data sets and seeds."""
        column = BUDGETS.index(budget)
        shares = [
            np.mean([replay.trials[column] for replay in self.of(name, method)]) / len(recorded.curves)
            for name, recorded in self._sets.items()
        ]
        return float(np.mean(shares))

    def mean_at(self, method: str, budget: float) -> Array:
        """The same as mean over data sets."""
        return np.mean([self.at(name, method, budget) for name in self.sets], axis=0)

    def regret(self, name: str, method: str, budget: float) -> Array:
        """What is missing to the best recorded mIoU, as a share of its distance from the median recorded one."""
        return 1 - self._sets[name].normalized(self.at(name, method, budget))

    def mean_regret(self, method: str, budget: float) -> Array:
        """The same as mean over data sets."""
        return np.mean([self.regret(name, method, budget) for name in self.sets], axis=0)

    def equal_regret(self, method: str, rival: str, budget: int) -> int | None:
        """The full trainings after which a rival's mean regret is that of a method after a budget; None if never."""
        own = self.mean_regret(method, budget).mean()
        return next((b for b in range(1, BUDGETS[-1] + 1) if self.mean_regret(rival, b).mean() <= own), None)

    def equal_miou(self, method: str, rival: str, budget: int) -> int | None:
        """The same by the mean mIoU."""
        own = self.mean_at(method, budget).mean()
        return next((b for b in range(1, BUDGETS[-1] + 1) if self.mean_at(rival, b).mean() >= own), None)

    def until(self, name: str, method: str, targets: Sequence[float]) -> Array:
        """The full trainings spent until each target was reached, a row per seed; at most the largest budget."""
        reached = [[replay.reached(target) for target in targets] for replay in self.of(name, method)]
        return np.minimum(np.array(reached), BUDGETS[-1])


@dataclass(frozen=True)
class Ratio:
    """Training time until a score is reached, as a multiple of the time that `PLAIN` takes, with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Array) -> Ratio:
        """The first value, with the interval that holds 95 % of the others."""
        low, high = np.quantile(values[1:], [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
        return cls(float(values[0]), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f} {self.high:.2f}]"


def ratios(results: Results, budget: int) -> dict[str, dict[str, Ratio]]:
    """The training time until what `PLAIN` has after a budget of full trainings, by method and data set, and means.

    The score and the times are medians over seeds. A time that is longer than the largest budget counts as that one,
    so a ratio is never too good. The interval holds 95 % of the ratios of seeds drawn with replacement.
    """
    random = np.random.default_rng(0)
    drawn = random.integers(results.seeds, size=(_RESAMPLED, results.seeds))
    samples = np.vstack([np.arange(results.seeds), drawn])  # the seeds as they are come first
    spent: dict[tuple[str, str], Array] = {}
    for name in results.sets:
        targets, ranks = np.unique(results.at(name, PLAIN, budget), return_inverse=True)
        target = _medians(ranks[samples])
        for method in results.methods:
            times = results.until(name, method, targets.tolist())
            spent[name, method] = _medians(times[samples, target[:, None]])
    found: dict[str, dict[str, Ratio]] = {}
    for method in results.methods:
        by_set = {name: spent[name, method] / spent[name, PLAIN] for name in results.sets}
        logs = np.log(np.array(list(by_set.values())))
        by_set[GEOMETRIC] = np.exp(logs.mean(0))
        by_set[ARITHMETIC] = np.exp(logs).mean(0)
        found[method] = {name: Ratio.of(values) for name, values in by_set.items()}
    return found


def _medians(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The upper median of every row: a value that occurs."""
    return np.sort(rows, axis=1)[:, rows.shape[1] // 2]
