"""What replayed searches show: tables of best mIoU by training spent, with confidence bands, and a picture of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from replay import BUDGETS, DEFAULT, METHODS, Replay
from scipy import stats
from surrogate import Recorded, cross_validate

Array = npt.NDArray[np.float64]
RIVAL = "random+asha"  # what every method is held against
PLAIN = "random"  # whose training time is 1
DECISIVE = tuple(budget for budget in BUDGETS if budget >= 20)  # full trainings: what searches are usually given
_TARGETS = (20, 50)  # full trainings: what `PLAIN` has reached by then is to be reached
_CONFIDENCE = 0.95
_NAME = 30  # characters of a method's name


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

    def difference(self) -> str:
        """As the mean of paired differences: with a star where the interval excludes 0."""
        return f"{self.mean:+.4f} ±{self.half:.4f}{'*' if abs(self.mean) > self.half else ' '}"

    def __str__(self) -> str:
        return f"{self.mean:.4f} ±{self.half:.4f}"


class Results:
    """Replays by method and number of workers, each in the order of their seeds."""

    def __init__(self, replays: Iterable[Replay]) -> None:
        self._found: dict[tuple[str, int], list[Replay]] = {}
        for replay in sorted(replays, key=lambda replay: replay.seed):
            self._found.setdefault((replay.method, replay.workers), []).append(replay)
        self.methods = [method for method in METHODS if any(method == found for found, _ in self._found)]
        self.workers = sorted({workers for _, workers in self._found})
        self.seeds = min(map(len, self._found.values()))

    def of(self, method: str, workers: int) -> list[Replay]:
        """One replay for each seed."""
        return self._found[method, workers]

    def at(self, method: str, workers: int, budget: float) -> Array:
        """The best mIoU by seed when so many full trainings were spent."""
        return np.array([replay.at(budget) for replay in self.of(method, workers)])

    def decisive(self, method: str) -> Array:
        """The best mIoU by seed, mean over the decisive budgets and all numbers of workers."""
        return np.mean([self.at(method, workers, b) for workers in self.workers for b in DECISIVE], axis=0)


def report(results: Results, recorded: Recorded) -> Iterator[str]:
    """The tables, line by line."""
    yield from _about(recorded)
    seconds = recorded.full_training()
    budgets = "".join(f"{f'{budget} ({budget * seconds:.0f} s)':>18}" for budget in BUDGETS)
    for workers in results.workers:
        yield ""
        yield f"{_count(workers, 'worker')}, {results.seeds} seeds: best mIoU by full trainings spent (seconds)"
        yield f"{'':{_NAME}}{budgets}"
        yield from _rows({method: _scores(results, method, workers) for method in results.methods})
        if RIVAL in results.methods:
            yield f"  less {RIVAL}, paired by seed"
            rivals = [method for method in results.methods if method != RIVAL]
            yield from _rows({method: _differences(results, method, workers) for method in rivals})
        if PLAIN in results.methods:
            yield from _until(results, workers)
    if RIVAL in results.methods:
        yield from _verdict(results)


def _about(recorded: Recorded) -> Iterator[str]:
    curves, failed = len(recorded.curves), int(recorded.failed.sum())
    yield (
        f"{curves} configurations recorded, {len(recorded.noise)} of them with two seeds, {failed} failed; "
        f"{recorded.epochs} epochs; a full training: {recorded.full_training():.0f} s of CPU time"
    )
    yield "surrogate, on curves that it was not fitted to:"
    thirds = [max(1, recorded.epochs // 9), max(1, recorded.epochs // 3), recorded.epochs]
    yield from (f"  {quality}" for quality in cross_validate(recorded, thirds))
    best = recorded.best[:, -1]
    yield f"  recorded best mIoU: median {np.median(best):.4f}, highest {best.max():.4f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rows(cells: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for method, row in cells.items():
        name = f"  {method}{' (default)' if method == DEFAULT else ''}"
        yield f"{name:{_NAME}}" + "".join(f"{cell:>18}" for cell in row)


def _scores(results: Results, method: str, workers: int) -> list[str]:
    return [f"{Band.of(results.at(method, workers, budget))} " for budget in BUDGETS]


def _differences(results: Results, method: str, workers: int) -> list[str]:
    rival = [results.at(RIVAL, workers, budget) for budget in BUDGETS]
    ours = [results.at(method, workers, budget) for budget in BUDGETS]
    return [Band.of(mine - other).difference() for mine, other in zip(ours, rival, strict=True)]


def _until(results: Results, workers: int) -> Iterator[str]:
    """Training seconds until an mIoU is reached, medians, as ratios: what is spent, summed over workers."""
    targets = [float(np.median(results.at(PLAIN, workers, budget))) for budget in _TARGETS]
    named = ", ".join(f"{target:.4f}" for target in targets)
    yield f"  training seconds until mIoU {named} ({PLAIN}'s after {', '.join(map(str, _TARGETS))}), ratio to {PLAIN}"

    spent = {m: [_median_spent(results, m, workers, target) for target in targets] for m in results.methods}
    yield from _rows({m: list(map(_ratio, spent[m], spent[PLAIN])) for m in results.methods})


def _median_spent(results: Results, method: str, workers: int, miou: float) -> float:
    return statistics.median_high(replay.reached(miou) for replay in results.of(method, workers))


def _ratio(spent: float, plain: float) -> str:
    return f"{spent / plain:.2f}" if np.isfinite(spent) and np.isfinite(plain) else "not reached"


def _verdict(results: Results) -> Iterator[str]:
    """Over all decisive budgets and numbers of workers: which method wins, and what the default loses or wins."""
    yield ""
    budgets, default = ", ".join(map(str, DECISIVE)), DEFAULT
    yield f"mean over {budgets} full trainings and {', '.join(map(str, results.workers))} workers, paired by seed"
    against = [RIVAL, default] if default in results.methods else [RIVAL]
    yield f"{'':{_NAME}}{'best mIoU ':>18}" + "".join(f"  {f'less {method}':>24}" for method in against)
    for method in sorted(results.methods, key=lambda method: -results.decisive(method).mean()):
        ours = results.decisive(method)
        cells = ["" if method == other else Band.of(ours - results.decisive(other)).difference() for other in against]
        name = f"  {method}{' (default)' if method == default else ''}"
        yield f"{name:{_NAME}}{f'{Band.of(ours)} ':>18}" + "".join(f"  {cell:>24}" for cell in cells)
    yield "±: 95 % confidence interval of the mean over seeds; *: it excludes 0"


def draw(results: Results, recorded: Recorded, path: Path) -> None:
    """Write a picture of the best mIoU over spent training seconds, a panel for each number of workers, as PNG."""
    seconds = recorded.full_training()
    figure = Figure(figsize=(5 * len(results.workers), 4.5), dpi=90, layout="constrained")
    panels = figure.subplots(1, len(results.workers), sharey=True, squeeze=False)[0]
    spent = np.geomspace(2, BUDGETS[-1], 80)
    lowest = 1.0
    for panel, workers in zip(panels, results.workers, strict=True):
        for number, method in enumerate(results.methods):
            bands = [Band.of(results.at(method, workers, budget)) for budget in spent]
            mean, half = (np.array([getattr(band, name) for band in bands]) for name in ("mean", "half"))
            label = f"{method} (default)" if method == DEFAULT else method
            # Dashes on every other line: methods that find the same cover each other.
            panel.plot(spent * seconds, mean, "--" if number % 2 else "-", color=f"C{number}", label=label, lw=1.6)
            if results.seeds > 1:
                panel.fill_between(spent * seconds, mean - half, mean + half, color=f"C{number}", alpha=0.15, lw=0)
            lowest = min(lowest, float(mean[spent >= BUDGETS[0]].min()))
        panel.set(xscale="log", title=_count(workers, "worker"), xlabel="training seconds spent, all workers together")
        panel.set_xticks([budget * seconds for budget in BUDGETS], [f"{budget * seconds:.0f}" for budget in BUDGETS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"best mIoU (mean of {results.seeds} seeds, 95 % band)")
    panels[0].set_ylim(bottom=lowest - 0.01)
    panels[-1].legend(loc="lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
