"""Build a portfolio from one's own searches: what did well on earlier data is what a new search tries first."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from segtune.errors import InputError, counted
from segtune.files.atomic import write_text
from segtune.files.folders import SearchFolder
from segtune.machine import versions
from segtune.planning.portfolio import (
    PER_GROUP,
    Array,
    Entry,
    Portfolio,
    choose_by_group,
    read_portfolio,
    regrets,
    shipped_portfolio,
)
from segtune.remarks import Say
from segtune.space.space import WEIGHTS
from segtune.trials import Trial
from segtune.tuning.status import search_state

_ALWAYS = (WEIGHTS, "optimizer")  # part of every configuration: they decide which learning rates are good
_NEIGHBOURS = 3
_LEAST_SECONDS = 0.01  # of a trial, as a share of the median on its data
_CLOSE = 0.02  # distance below which a neighbour counts hardly more
_SAME = 0.1  # of configurations that are nearer than this, one is enough
_FACTOR = math.log(10.0)  # numbers that differ by this factor are as different as two words
_HEAD = """\
# Configurations that did well in earlier searches, the best first: `search: start: THIS FILE` tries them after the
# baseline. You may delete entries, or write some of your own.
"""


@dataclass(frozen=True)
class Tried:
    """A configuration that a trial of a search tried."""

    settings: Mapping[str, Any]  # those that the search chose, and _ALWAYS
    data: str  # fingerprint of the data set
    miou: float
    seconds: float  # of all epochs of its budget, as far as it did not train them, too
    name: str  # search and trial


def write_portfolio(searches: Sequence[Path], file: Path, with_shipped: bool, say: Say) -> None:
    """Write the portfolio of some searches; `say` gets a line about each search, and one about the file.

    Raises InputError where the file may not be written, and where no search has a trial with a score.
    """
    _check_file(file)
    tried = [one for path in dict.fromkeys(searches) for one in _tried(path, say)]
    if not tried:
        raise InputError("no trial of these searches has a score; give the folders of searches, such as ray_results/*")
    portfolio = own_portfolio(tried)
    if with_shipped:
        pairs = zip_longest(portfolio.entries, shipped_portfolio().entries)
        portfolio = Portfolio(tuple(filter(None, chain.from_iterable(pairs))), portfolio.about)
    write_text(file, _HEAD + portfolio.text())
    sets = counted(len({one.data for one in tried}), "data set")
    number = len(portfolio.entries)
    entries = "1 entry" if number == 1 else f"{number} entries"
    say(f"{file}: {entries} from {counted(len(tried), 'trial')} on {sets}; search: {{start: {file}}} uses it")


def _check_file(file: Path) -> None:
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"--to: the name of a portfolio ends in .yaml or .yml, but got {file}")
    if file.exists():
        try:
            read_portfolio(file)
        except InputError as error:
            raise InputError(f"--to: only a portfolio is replaced, but {error.mistakes[0]}") from None


def _tried(path: Path, say: Say) -> list[Tried]:
    """Return the trials of a search that have a score; say how many there are, or why it is left out."""
    try:
        trials = [trial for trial in search_state(SearchFolder(path)).trials if _has_score(trial)]
    except InputError as error:
        say(f"left out: {error.mistakes[0]}")
        return []
    found = [_tried_by(trial, path.name) for trial in trials]
    data = f" on {trials[0].settings['dataset']}" if trials else ""
    say(f"{path}: {counted(len(found), 'trial')}{data}")
    return found


def _has_score(trial: Trial) -> bool:
    """Return whether a trial ended or is paused, and has a score; one that runs will soon have a better one."""
    return trial.miou is not None and (trial.ended or trial.status == "paused")


def _tried_by(trial: Trial, search: str) -> Tried:
    kept = {name: trial.settings[name] for name in _ALWAYS} | dict(trial.searched)
    seconds = (trial.seconds or 0.0) / max(trial.epochs_done, 1) * trial.epochs
    return Tried(kept, trial.fingerprint, trial.miou or 0.0, seconds, f"{search} #{trial.number}")


def own_portfolio(tried: Sequence[Tried]) -> Portfolio:
    """Choose a portfolio from trials on any number of data sets, also if no two of them tried the same.

    The regret of a configuration on a data set where it was not tried is predicted from the three nearest ones that
    were: the mean of their regrets, weighted by inverse distance, and the further away they are, the nearer to 1. Of
    configurations that are nearly the same, only the one with the lowest mean regret can be chosen.
    """
    rows = list({repr(sorted(one.settings.items())): one.settings for one in tried}.values())
    distances = np.array([[_distance(one, other) for other in rows] for one in rows])
    sets = list(dict.fromkeys(one.data for one in tried))
    scores, seconds = np.full((len(rows), len(sets)), np.nan), np.ones(len(rows))
    usual = {data: np.median([one.seconds for one in tried if one.data == data]) or 1.0 for data in sets}
    names: list[list[str]] = [[] for _ in rows]
    for one in tried:
        row, column = rows.index(one.settings), sets.index(one.data)
        scores[row, column] = np.nanmax([scores[row, column], one.miou])
        seconds[row] = max(one.seconds / usual[one.data], _LEAST_SECONDS)
        names[row].append(one.name)

    pretrained = [settings[WEIGHTS] != "none" for settings in rows]

    def losses_of(some: Sequence[int]) -> Array:
        """Compare with all that began with such weights, also with those that cannot be chosen."""
        kinds = {pretrained[row] for row in some}
        among = [row for row, kind in enumerate(pretrained) if kind in kinds]
        losses = _predicted(regrets(scores[among]), distances[np.ix_(among, among)])
        return losses[[among.index(row) for row in some]]

    different = _different(losses_of(range(len(rows))).mean(axis=1), distances)
    groups = [[row for row in different if pretrained[row] == kind] for kind in (True, False)]
    chosen = choose_by_group(groups, losses_of, seconds, PER_GROUP)
    counts = {data: sum(one.data == data for one in tried) for data in sets}
    about = {
        "written": datetime.date.today().isoformat(),
        "from": {data: counted(count, "trial") for data, count in counts.items()},
        "rebuild": "python -m segtune.tools portfolio FOLDER ... --to FILE",
        "versions": {"segtune": versions()["segtune"]},
    }
    return Portfolio(tuple(Entry(rows[row], tuple(names[row])) for row in chosen), about)


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the mean difference of two configurations over their settings, from 0 to 1."""
    names = one.keys() | other.keys()
    return sum(_difference(one.get(name), other.get(name)) for name in names) / len(names)


def _difference(one: Any, other: Any) -> float:
    if one == other:
        return 0.0
    numbers = [value for value in (one, other) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2 or min(numbers) <= 0:
        return 1.0
    return min(1.0, abs(math.log(numbers[0] / numbers[1])) / _FACTOR)


def _predicted(losses: Array, distances: Array) -> Array:
    """Fill in the losses of configurations that were not tried on a data set."""
    filled = losses.copy()
    for column in range(losses.shape[1]):
        known = np.flatnonzero(~np.isnan(losses[:, column]))
        for row in np.flatnonzero(np.isnan(losses[:, column])) if len(known) else ():
            near = known[np.argsort(distances[row, known], kind="stable")[:_NEIGHBOURS]]
            weights = 1.0 / (distances[row, near] + _CLOSE)
            loss, far = (np.average(values, weights=weights) for values in (losses[near, column], distances[row, near]))
            filled[row, column] = loss + (1.0 - loss) * far
    return np.where(np.isnan(filled), 1.0, filled)


def _different(means: Array, distances: Array) -> list[int]:
    """Return the rows without those that are nearly the same as a row with a lower mean loss."""
    kept: list[int] = []
    for row in np.argsort(means, kind="stable").tolist():
        if all(distances[row, other] > _SAME for other in kept):
            kept.append(row)
    return sorted(kept)
