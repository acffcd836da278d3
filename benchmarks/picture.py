"""A picture of replayed searches: regret by training spent, for all data sets and for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from found import Array, Band, Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from methods import DEFAULT, METHODS
from recorded import Recorded
from report import count
from simulation import Replay

_FIRST = 1.0  # full trainings: where the axis begins
_SHOWN = 2.0  # full trainings from which on every mean is inside the panel


def draw(replays: Sequence[Replay], sets: Mapping[str, Recorded], path: Path) -> None:
    """Write a panel for the mean over the data sets and one for each, a column per number of workers, as PNG.

    Oracles are not drawn.
    """
    shown = [replay for replay in replays if not METHODS[replay.key.method].oracle]
    found = {
        workers: Results([replay for replay in shown if replay.key.workers == workers], sets)
        for workers in sorted({replay.key.workers for replay in shown})
    }
    names = next(iter(found.values())).sets
    rows = [*([None] if len(names) > 1 else []), *names]  # None: the mean
    heights = [1.4 if name is None else 1 for name in rows]
    size = (1 + 4.2 * len(found), 1 + 2.3 * sum(heights))
    figure = Figure(figsize=size, dpi=90, layout="constrained")
    panels = figure.subplots(len(rows), len(found), squeeze=False, sharex=True, sharey="row", height_ratios=heights)
    for row, name in enumerate(rows):
        for column, (workers, results) in enumerate(found.items()):
            panel = panels[row][column]
            _lines(panel, results, name)
            title = f"mean over {count(len(names), 'data set')}" if name is None else name
            panel.set_title(f"{title}, {count(workers, 'worker')}", fontsize=9)
    for panel in panels[:, 0]:
        panel.set_ylabel("regret", fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("full trainings spent, all workers together", fontsize=8)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * len(found), fontsize=8)
    seeds = next(iter(found.values())).seeds
    what = "0 is the best recorded configuration, 1 the median one"
    figure.suptitle(f"regret ({what})\nmean of {count(seeds, 'seed')}, 95 % band", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _lines(panel: Axes, results: Results, name: str | None) -> None:
    last = results.budgets[-1]
    spent = np.geomspace(_FIRST, last, 60)
    shown: list[float] = []
    for number, method in enumerate(results.methods):
        bands = [Band.of(_regret(results, name, method, budget)) for budget in spent]
        mean, half = (np.array([getattr(band, part) for band in bands]) for part in ("mean", "half"))
        label = f"{method} (default)" if method == DEFAULT else method
        # Dashes on every other line: methods that find the same cover each other.
        panel.plot(spent, mean, "--" if number % 2 else "-", color=f"C{number % 10}", label=label, lw=1.4)
        if results.seeds > 1:
            panel.fill_between(spent, mean - half, mean + half, color=f"C{number % 10}", alpha=0.13, lw=0)
        shown += mean[spent >= _SHOWN].tolist()
    panel.set(xscale="log", xlim=(_FIRST, last))
    margin = 0.1 * (max(shown) - min(shown)) + 1e-3
    panel.set_ylim(min(shown) - margin, max(shown) + margin)
    panel.set_xticks([1, 2, *results.budgets], [str(tick) for tick in (1, 2, *results.budgets)])
    panel.minorticks_off()
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)


def _regret(results: Results, name: str | None, method: str, budget: float) -> Array:
    return results.mean_regret(method, budget) if name is None else results.regret(name, method, budget)
