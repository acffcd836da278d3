"""Build a portfolio from one's own searches: what did well on earlier data is what a new search tries first."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from segtune.errors import InputError, counted
from segtune.fields import NOT_SEARCHABLE
from segtune.files.atomic import write_text
from segtune.files.folders import INDEX, SearchFolder
from segtune.machine import versions
from segtune.objectives import MIOU
from segtune.planning.portfolio import (
    LEAST_SCORES,
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
from segtune.space.space import WEIGHTS, defaults
from segtune.trials import Trial
from segtune.tuning.status import search_state
from segtune.vocabulary import is_number

_ALWAYS = (WEIGHTS, "optimizer", "model", "encoder", "loss", "lr")  # part of every configuration
# Scores after different epochs cannot be compared; part of a configuration only where a search chooses them.
_BUDGET = ("epochs", "samples_per_epoch", "image_size")
_NOT_KEPT = NOT_SEARCHABLE | {*_BUDGET, "channels", "precision"}  # the data and the machine decide the last two
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

    settings: Mapping[str, Any]  # those that the search chose, _ALWAYS, and others that differ from their defaults
    data: str  # fingerprint of the data set
    score: float
    seconds: float  # of all epochs of its budget, as far as it did not train them, too
    name: str  # search and trial
    budget: tuple[Any, ...] = ()  # _BUDGET, as far as the search did not choose it

    @property
    def compared(self) -> tuple[Any, ...]:
        """What trials have in common whose scores are compared as they are."""
        return self.data, self.budget


def write_portfolio(searches: Sequence[Path], file: Path, with_shipped: bool, say: Say) -> None:
    """Write the portfolio of some searches; `say` gets a line about each search, and one about the file.

    Raises InputError where the file may not be written, and where no search has a trial with a score.
    """
    _check_file(file)
    # ray_results/* names the table of all searches too.
    folders = [path for path in dict.fromkeys(searches) if path.name != INDEX]
    tried = [one for path in folders for one in _tried(path, say)]
    if not tried:
        raise InputError("no trial of these searches has a score; give the folders of searches, such as ray_results/*")
    portfolio = own_portfolio(tried)
    if not portfolio.entries:
        raise InputError(
            f"no data set has {LEAST_SCORES} trials with a score that can be compared: with the same epochs, image_size"
            " and samples_per_epoch, and all with pretrained encoders or all with random weights"
        )
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
    known = trial.score is not None and (trial.ended or trial.status == "paused")
    return known and (trial.folds == 1 or trial.folds_done == trial.folds)


def _tried_by(trial: Trial, search: str) -> Tried:
    kept = {
        name: trial.settings[name]
        for name, usual in defaults().items()
        if name in (*_ALWAYS, *trial.searched) or (name not in _NOT_KEPT and trial.settings.get(name, usual) != usual)
    }
    budget = tuple(None if name in trial.searched else trial.settings.get(name) for name in _BUDGET)
    if trial.objective != MIOU:
        budget = (*budget, trial.objective)  # other scores are not compared with mIoU
    if trial.folds > 1:
        budget = (*budget, trial.folds)
    seconds = (trial.seconds or 0.0) / max(trial.epochs_done, 1) * trial.epochs
    return Tried(kept, trial.fingerprint, trial.score or 0.0, seconds, f"{search} #{trial.number}", budget)


def own_portfolio(tried: Sequence[Tried]) -> Portfolio:
    """Choose a portfolio from trials on any number of data sets, also if no two of them tried the same.

    Scores are compared among trials on one data set with the same budget (`Tried.compared`). The regret of a
    configuration where it was not tried is predicted from the three nearest ones that were: the mean of their regrets,
    weighted by inverse distance, and the further away they are, the nearer to 1. Of several budgets on a data set, the
    mean counts. Of configurations that are nearly the same, only the one with the lowest mean regret can be chosen. It
    has no entries where there are too few scores anywhere.
    """
    known = {repr(sorted(one.settings.items())): one.settings for one in tried}
    rows, row_of = list(known.values()), {key: row for row, key in enumerate(known)}
    distances = _distances(rows)
    groups = list(dict.fromkeys(one.compared for one in tried))
    scores, seconds = np.full((len(rows), len(groups)), np.nan), np.ones(len(rows))
    usual = {group: np.median([one.seconds for one in tried if one.compared == group]) or 1.0 for group in groups}
    names: list[list[str]] = [[] for _ in rows]
    for one in tried:
        row, column = row_of[repr(sorted(one.settings.items()))], groups.index(one.compared)
        scores[row, column] = np.nanmax([scores[row, column], one.score])
        seconds[row] = max(one.seconds / usual[one.compared], _LEAST_SECONDS)
        names[row].append(one.name)

    pretrained = [settings[WEIGHTS] != "none" for settings in rows]
    sets = [data for data, _ in groups]

    def losses_of(some: Sequence[int]) -> Array:
        """Compare with all that began with such weights, also with those that cannot be chosen."""
        kinds = {pretrained[row] for row in some}
        among = [row for row, kind in enumerate(pretrained) if kind in kinds]
        losses = _of_sets(_predicted(regrets(scores[among]), distances[np.ix_(among, among)]), sets)
        places = {row: place for place, row in enumerate(among)}
        return losses[[places[row] for row in some]]

    different = _different(losses_of(range(len(rows))).mean(axis=1), distances)
    kinds = [[row for row in different if pretrained[row] == kind] for kind in (True, False)]
    chosen = choose_by_group(kinds, losses_of, seconds, PER_GROUP)
    return Portfolio(tuple(Entry(rows[row], tuple(names[row])) for row in chosen), _about(tried))


def _about(tried: Sequence[Tried]) -> dict[str, Any]:
    counts = Counter(one.data for one in tried)
    return {
        "written": datetime.date.today().isoformat(),
        "from": {data: counted(count, "trial") for data, count in counts.items()},
        "rebuild": "python -m segtune.tools portfolio FOLDER ... --to FILE",
        "versions": {"segtune": versions()["segtune"]},
    }


def _of_sets(losses: Array, sets: Sequence[str]) -> Array:
    """Return the mean losses on each data set that has any, from columns of these data sets; 1 where none has."""
    there = [column for column in range(len(sets)) if not np.isnan(losses[:, column]).any()]
    columns = [losses[:, [k for k in there if sets[k] == data]] for data in dict.fromkeys(sets[k] for k in there)]
    means = [column.mean(axis=1) for column in columns]
    return np.stack(means, axis=1) if means else np.ones((len(losses), 1))


def _distances(rows: Sequence[Mapping[str, Any]]) -> Array:
    """Return the mean differences of configurations over the settings in which any two differ, from 0 to 1.

    Numbers differ by the logarithm of their ratio. A setting that a configuration does not name has its default.
    """
    usual, found, count = defaults(), np.zeros((len(rows), len(rows))), 0
    for name in sorted(set(chain.from_iterable(rows))):
        values = [row.get(name, usual[name]) for row in rows]
        words = list(dict.fromkeys(map(repr, values)))
        if len(words) > 1:
            codes = np.array([words.index(repr(value)) for value in values])
            logs = np.log([value if _is_positive(value) else np.nan for value in values])
            steps = np.minimum(1.0, np.abs(logs[:, None] - logs) / _FACTOR)
            different = codes[:, None] != codes
            found += np.where(different, np.where(np.isnan(steps), 1.0, steps), 0.0)
            count += 1
    return found / max(count, 1)


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _predicted(losses: Array, distances: Array) -> Array:
    """Fill in the losses of configurations that were not tried somewhere; a column without a loss stays NaN."""
    filled = losses.copy()
    for column in range(losses.shape[1]):
        known = np.flatnonzero(~np.isnan(losses[:, column]))
        for row in np.flatnonzero(np.isnan(losses[:, column])) if len(known) else ():
            near = known[np.argsort(distances[row, known], kind="stable")[:_NEIGHBOURS]]
            weights = 1.0 / (distances[row, near] + _CLOSE)
            loss, far = (np.average(values, weights=weights) for values in (losses[near, column], distances[row, near]))
            filled[row, column] = loss + (1.0 - loss) * far
    return filled


def _different(means: Array, distances: Array) -> list[int]:
    """Return the rows without those that are nearly the same as a row with a lower mean loss."""
    kept: list[int] = []
    for row in np.argsort(means, kind="stable").tolist():
        if (distances[row, kept] > _SAME).all():
            kept.append(row)
    return sorted(kept)
