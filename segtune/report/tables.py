"""Tables of the trials of a search. They are made of plain data and need neither Ray nor Optuna."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from segtune.errors import counted, duration
from segtune.objectives import MIOU, title
from segtune.report.costs import cost_text, front_lines
from segtune.report.text import (
    failures,
    paused_line,
    spent_line,
    summary,
    training_line,
    value_text,
    weights_text,
)
from segtune.space.space import Space
from segtune.trials import ENDED, SearchState, Trial, front, ranked

_SHOWN = 10  # trials in the ranking; all are in trials.csv
_SHOWN_OF_STATE = 3  # of a search as it stands
_WORDS = ("run", "status", "origin", "on")  # columns of text
_ANY_WIDTH = 10_000  # wider than any table, in characters
_INDENT = " " * 6  # before the settings below a run


def ranking(trials: Sequence[Trial], most: int = _SHOWN, costs: Sequence[str] = ()) -> SettingsTable:
    """Return a table of the best trials, best first, with their scores, intervals and searched settings.

    It has at most so many rows, one of the baseline, and with costs those of the front. Columns of what no row has are
    left out.
    """
    order = ranked(trials)
    best = [trial.number for trial in front(trials, costs)] if costs else []
    objective = _objective(trials)
    first = "; the winner over fresh seeds first" if order and order[0].confirmed else ""
    folds = order[0].folds if order else 1
    mean = f", the mean over {folds} folds: one that was not trained counts 0" if folds > 1 else ""
    heading = f"Trials by {title(objective)} ({min(most, len(order))} of {len(trials)}; all in trials.csv{first}){mean}"
    shown = [
        (place, trial)
        for place, trial in enumerate(order, start=1)
        if place <= most or trial.baseline or trial.number in best
    ]
    rows = [
        {
            "rank": str(place),
            "trial": f"#{trial.number}",
            **_scores_of(trial),
            **{name: cost_text(name, trial.costs[name]) for name in costs if name != "seconds"},  # time has these
            "front": "*" if trial.number in best else "",
            "limits": "" if trial.fits else "over",
            "status": "baseline" if trial.baseline else trial.status,
            "folds": f"{trial.folds_done}/{trial.folds}" if trial.folds > 1 else "",
            "epochs": f"{trial.epochs_done}/{trial.epochs}",
            "time": duration(trial.seconds or 0.0),
            "origin": trial.origin,
        }
        for place, trial in shown
    ]
    planned = any(trial.origin in ("portfolio", "prior") for trial in order)
    head = (
        [name for name in rows[0] if any(row[name] for row in rows) and (planned or name != "origin")] if rows else []
    )
    table = SettingsTable(heading, head)
    for row, (_, trial) in zip(rows, shown, strict=True):
        table.add([row[name] for name in head], trial.searched)
    return table


def _scores_of(trial: Trial) -> dict[str, str]:
    """Return the score of a trial, its mean over fresh seeds, and the interval of that mean, else of the score."""
    seeds = trial.confirmed
    interval = seeds.interval if seeds else trial.interval
    return {
        trial.objective: f"{trial.score:.4f}",
        "mean": f"{seeds.mean:.4f}" if seeds else "",
        "deviation": f"{seeds.deviation:.4f}" if seeds and seeds.deviation is not None else "",
        "95%": f"{interval.low:.4f} to {interval.high:.4f}" if interval else "",
    }


def comparison(trials: Sequence[Trial], space: Space) -> Table:
    """Return a table with best and median score, parameters and seconds for each value of `search.compare`.

    Only finished trials count, and only configurations that finished with every value of the setting.
    """
    name = str(space.search.compare)
    by_configuration: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        configuration = space.configuration(trial.searched)
        if trial.finished and configuration is not None:
            by_configuration.setdefault(configuration, {})[value_text(trial.searched[name])] = trial
    values = list(dict.fromkeys(value for group in by_configuration.values() for value in group))
    shared = [group for group in by_configuration.values() if len(group) == len(values)]
    table = plain_table(f"{name}: {counted(len(shared), 'configuration')} that each one finished, equal budget")
    table.add_column(name, overflow="fold")
    for column in (f"best {_objective(trials)}", f"median {_objective(trials)}", "parameters", "seconds"):
        add_figures(table, column)
    if not shared:
        return table
    columns = {value: [group[value] for group in shared] for value in values}
    for value, members in sorted(columns.items(), key=lambda item: -max(_scores(item[1]))):
        table.add_row(
            value,
            f"{max(_scores(members)):.4f}",
            f"{statistics.median(_scores(members)):.4f}",
            f"{(members[0].parameters or 0) / 1e6:.1f} M",
            f"{statistics.median(trial.seconds or 0.0 for trial in members):.1f}",
        )
    return table


def _objective(trials: Sequence[Trial]) -> str:
    return trials[0].objective if trials else MIOU


def _scores(trials: Iterable[Trial]) -> list[float]:
    return [trial.score or 0.0 for trial in trials]


def search_results(trials: Sequence[Trial], space: Space, ended: bool) -> list[str | RenderableType]:
    """Return tables and lines with the results of a search; `ended` is false if it was interrupted."""
    tables: list[str | RenderableType] = [comparison(trials, space)] if space.search.compare else []
    if ranked(trials):
        tables.append(ranking(trials, costs=space.search.costs))
        tables += front_lines(trials, space.search.costs, space.search.prefer)
        tables.append(weights_text(trial.settings for trial in trials))
    times = filter(None, (training_line(trials), spent_line(trials)))
    return [*tables, *summary(trials, ended), *failures(trials), *times]


def state_of(search: SearchState, now: float) -> list[str | RenderableType]:
    """Return lines and tables with the state of a search: running trials, the best so far, and failures.

    `now` is the present time, in seconds since the epoch.
    """
    counts = Counter(trial.status for trial in search.trials)
    ended = [trial for trial in search.trials if trial.ended]
    running = [trial for trial in search.trials if trial.status == "running"] if search.holder else []
    waiting = counts["pending"] + counts["running"] - len(running)
    paused = counts["paused"]
    how = f"running ({search.holder})" if search.holder else "not running"
    if not search.holder and search.reason:
        how += f"; ended early: {search.reason}"
    elif not (search.holder or search.over):
        how += f"; --{'confirm' if search.searched else 'resume'} goes on with it"
    when = "in all" if search.over else "so far"
    split = ", ".join(f"{counts[status]} {status}" for status in ENDED if counts[status])
    lines: list[str | RenderableType] = [f"{search.path}: {how}"]
    lines.append(
        f"{len(ended)} of {search.wanted} trials ended{f' ({split})' if split else ''}, {len(running)} running, "
        f"{f'{paused} paused, ' if paused else ''}{waiting} waiting; {duration(search.seconds)} {when}"
        f"{_left(search, len(ended) + paused, running)}"
    )
    if paused:
        lines.append(paused_line(search.trials))
    if running:
        table = SettingsTable("Running", ("trial", "epoch", _objective(running), "since", "origin", "on"))
        for trial in running:
            score = "" if trial.score is None else f"{trial.score:.4f}"
            since = duration(max(0.0, now - trial.since)) if trial.since else ""
            epoch = f"{trial.epochs_done}/{trial.epochs}"
            table.add((f"#{trial.number}", epoch, score, since, trial.origin, trial.where or ""), trial.searched)
        lines.append(table)
    time = training_line(search.trials)
    return [
        *lines,
        *summary(search.trials, search.over),
        *([ranking(search.trials, _SHOWN_OF_STATE, search.costs)] if ranked(search.trials) else []),
        *front_lines(search.trials, search.costs, search.prefer),
        *search.confirmation,
        *failures(search.trials),
        *([time] if time else []),
        *search.remarks,
    ]


def _left(search: SearchState, over: int, running: Sequence[Trial]) -> str:
    """Return the estimated time left, or an empty text; running trials count by the share of epochs they did.

    `over` is the number of trials that ended or are paused: few of these go on.
    """
    done = over + sum(trial.epochs_done / trial.epochs for trial in running)
    if not search.holder or done < 1 or done >= search.wanted:
        return ""
    left = search.seconds / done * (search.wanted - done)
    if search.budget is not None:
        left = min(left, search.budget - search.seconds)
    return f", about {duration(max(0.0, left))} left"


def plain_table(title: str | None = None) -> Table:
    """Return an empty table in the common style."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def add_figures(table: Table, name: str) -> None:
    """Add a column of numbers, which are wrapped only when columns of text cannot become narrower."""
    table.add_column(name, justify="right", no_wrap=True, overflow="fold")


class SettingsTable:
    """A table with a row per run: figures, and its settings, in columns or, if too wide, in lines below the row."""

    def __init__(self, title: str, figures: Sequence[str]) -> None:
        self._title, self._head = title, tuple(figures)
        self._rows: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def add(self, figures: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Add the row of a run."""
        self._rows.append((tuple(figures), {name: value_text(value) for name, value in settings.items()}))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the form that fits the console; rich calls this."""
        table = self._table()
        if console.measure(table, options=options.update_width(_ANY_WIDTH)).maximum <= options.max_width:
            yield table
        else:
            yield from self._lines(options.max_width)

    def _table(self) -> Table:
        names = list(dict.fromkeys(name for _, settings in self._rows for name in settings))
        table = plain_table(self._title)
        for name in self._head:
            table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
        for name in names:
            table.add_column(name, no_wrap=True)
        for figures, settings in self._rows:
            table.add_row(*figures, *(settings.get(name, "") for name in names))
        return table

    def _lines(self, room: int) -> Iterator[str]:
        widths = [max(map(len, column)) for column in zip(self._head, *(row for row, _ in self._rows), strict=True)]

        def line(cells: Sequence[str]) -> str:
            places = zip(self._head, cells, widths, strict=True)
            return " " + "  ".join(c.ljust(w) if n in _WORDS else c.rjust(w) for n, c, w in places).rstrip()

        yield from (self._title, "", line(self._head))
        for figures, settings in self._rows:
            yield line(figures)
            yield from _filled([f"{name} {value}" for name, value in settings.items()], room)
        yield ""


def _filled(items: Sequence[str], room: int) -> Iterator[str]:
    """Yield lines of items with commas, each line as full as possible."""
    line = ""
    for position, item in enumerate(items, start=1):
        text = item if position == len(items) else f"{item},"
        if line and len(line) + len(text) >= room:
            yield line
            line = ""
        line = f"{line} {text}" if line else f"{_INDENT}{text}"
    if line:
        yield line
