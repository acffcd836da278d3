"""A portfolio: configurations that did well on earlier data sets, in the order in which a new search tries them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.errors import InputError, short
from segtune.fields import NOT_SEARCHABLE, check_setting
from segtune.files.yamlfile import Document, read_document, yaml_of
from segtune.mistakes import SettingsError
from segtune.space.settings import NO_PORTFOLIO, SHIPPED

Array = NDArray[np.float64]

PER_GROUP = 8  # entries for pretrained encoders, and as many for random weights
LEAST_SCORES = 3  # of a data set; fewer do not tell what is good on it

_ENTRY = ("settings", "learnt_from")  # the keys of an entry; the second one is optional
_UNKNOWN = 1.0  # regret of a configuration that was not tried on a data set, and the largest one
_NO_BETTER = 0.6  # mean regret from which on a random configuration, which has about 0.7, is hardly worse


@dataclass(frozen=True)
class Entry:
    """A configuration of a portfolio."""

    settings: Mapping[str, Any]
    learnt_from: tuple[str, ...] = ()  # where it did well: data sets, or trials


@dataclass(frozen=True)
class Portfolio:
    """Configurations, the one to be tried first first."""

    entries: tuple[Entry, ...]
    about: Mapping[str, Any]  # how, when and from what it was made

    def text(self) -> str:
        """Return it as a YAML file."""
        entries = [{"settings": dict(entry.settings), "learnt_from": list(entry.learnt_from)} for entry in self.entries]
        plain = {"about": dict(self.about), "entries": entries}
        return yaml_of(plain, width=120)


def portfolio_of(start: str) -> Portfolio | None:
    """Return the portfolio that `search: start:` names; None for none. Raise InputError for a wrong file."""
    if start == NO_PORTFOLIO:
        return None
    return shipped_portfolio() if start == SHIPPED else read_portfolio(Path(start))


def shipped_portfolio() -> Portfolio:
    """Return the portfolio that comes with the package."""
    with as_file(files("segtune.planning") / "portfolio.yaml") as path:
        return read_portfolio(path)


def read_portfolio(path: Path) -> Portfolio:
    """Read a portfolio; raise InputError with all mistakes of the file, each with its line."""
    document = read_document(path)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("entries"), list):
        raise InputError(f"{path}: is no portfolio: expected a mapping with a list of entries:")
    mistakes = [f"{path}:{line}: {text}" for line, text in document.repeated]
    entries: list[Entry] = []
    for number, plain in enumerate(data["entries"]):
        try:
            entries.append(_entry(plain))
        except SettingsError as error:
            mistakes += _told(document, number, error.mistakes, *error.settings)
        except InputError as error:
            mistakes += _told(document, number, error.mistakes)
    if not (entries or mistakes):
        mistakes.append(f"{path}: its list of entries: is empty")
    if mistakes:
        raise InputError(mistakes)
    return Portfolio(tuple(entries), data.get("about") or {})


def _told(document: Document, number: int, mistakes: Sequence[str], *names: Hashable) -> Iterator[str]:
    steps = ("entries", number, *(("settings", names[0]) if names else ()))
    return (f"{document.path}:{document.line(*steps)}: entry {number + 1}: {mistake}" for mistake in mistakes)


def _entry(plain: Any) -> Entry:
    settings = plain.get("settings") if isinstance(plain, dict) else None
    if not settings or not isinstance(settings, dict):
        raise InputError(f"expected settings: with the settings of a run, but got {short(plain)}")
    if others := [str(key) for key in plain if key not in _ENTRY]:
        raise InputError(f"unknown key {others[0]!r}; an entry has {' and '.join(_ENTRY)}")
    if fixed := sorted(NOT_SEARCHABLE.intersection(settings)):
        raise InputError(f"{fixed[0]}: is the same in all runs of a search, and no part of a configuration")
    checked = {str(name): check_setting(str(name), value) for name, value in settings.items()}
    learnt_from = plain.get("learnt_from") or []
    return Entry(checked, tuple(map(str, learnt_from if isinstance(learnt_from, list) else [learnt_from])))


# The choice


def regrets(scores: Array) -> Array:
    """Return how far each score is from the best one on its data set, as a share of the distance best - median.

    So data sets count alike, whatever their scores; from the median down, all are equally bad.

    Parameters
    ----------
    scores: (configurations, data sets), NaN where a configuration was not tried.

    Returns
    -------
    the regrets in the same shape, from 0 to 1; NaN stays NaN, and so is all of a data set with too few scores.
    """
    found = np.full(scores.shape, np.nan)
    for column in np.flatnonzero((~np.isnan(scores)).sum(axis=0) >= LEAST_SCORES):
        own = scores[:, column]
        best, median = np.nanmax(own), np.nanmedian(own)
        found[:, column] = np.minimum((best - own) / (best - median if best > median else 1.0), _UNKNOWN)
    return found


def choose(losses: Array, count: int, seconds: Array | None = None, cost: bool = False) -> list[int]:
    """Choose configurations greedily: the mean over data sets of the best of the first k is as low as possible.

    Greedy portfolios: Wistuba et al. 2015, "Sequential Model-Free Hyperparameter Tuning"; Feurer et al. 2022,
    "Auto-sklearn 2.0"; Salinas and Erickson 2023, "TabRepo". Of equally good ones, also where none brings anything
    more, the one with the lowest mean comes first, then the cheaper one, then the one with the lower number. What
    brings nothing more and is no good on average is not chosen: a random draw is not worse.

    Parameters
    ----------
    losses: (configurations, data sets), such as `regrets`; NaN, where a configuration was not tried, counts as 1.
    count: number of configurations to choose, at most.
    seconds: (configurations,), the cost of each.
    cost: choose by the improvement per second instead of the improvement.

    Returns
    -------
    numbers of configurations (rows), in the order in which they should be tried.
    """
    known = np.where(np.isnan(losses), _UNKNOWN, losses)
    costs = np.ones(len(known)) if seconds is None else seconds
    reached = np.full(known.shape[1], _UNKNOWN)
    chosen: list[int] = []
    while len(chosen) < min(count, len(known)):
        gains = np.maximum(reached - known, 0.0).mean(axis=1) / (costs if cost else 1.0)
        order = sorted(
            set(range(len(known))) - set(chosen),
            key=lambda row: (-round(gains[row], 9), round(known[row].mean(), 9), costs[row], row),
        )
        if round(gains[order[0]], 9) <= 0 and known[order[0]].mean() > _NO_BETTER:
            break
        chosen.append(order[0])
        reached = np.minimum(reached, known[order[0]])
    return chosen


def choose_by_group(
    groups: Iterable[Sequence[int]], losses_of: Callable[[Sequence[int]], Array], seconds: Array, each: int
) -> list[int]:
    """Choose in each group of configurations apart, such as those with pretrained encoders, and merge the orders.

    They are chosen by improvement per second, which benchmarks/build_portfolio.py compares with other ways. A search
    has the configurations of one group only, if its space fixes what tells them apart.

    Parameters
    ----------
    groups: the rows of each group.
    losses_of: returns the losses of some rows, compared with each other.
    seconds: (configurations,), the cost of each.
    each: number of configurations to choose in each group, at most.
    """
    chosen = ((rows, choose(losses_of(rows), each, seconds[rows], cost=True)) for rows in groups if len(rows))
    orders = [[rows[k] for k in order] for rows, order in chosen]
    return merge(orders, losses_of(range(len(seconds))))


def merge(orders: Sequence[Sequence[int]], losses: Array) -> list[int]:
    """Merge several orders into one, in which each keeps its own; what improves most comes first.

    Each order is for some spaces, such as those of pretrained encoders. The merged one is for all of them.
    """
    known = np.where(np.isnan(losses), _UNKNOWN, losses)
    reached = np.full(known.shape[1], _UNKNOWN)
    left = [list(order) for order in orders]
    merged: list[int] = []
    while any(left):
        heads = [order[0] for order in left if order]
        best = min(heads, key=lambda row: (np.minimum(reached, known[row]).mean(), known[row].mean()))
        next(order for order in left if order and order[0] == best).pop(0)
        reached = np.minimum(reached, known[best])
        merged.append(best)
    return merged
