"""The charts of a search: its best score, its learning curves, and its settings side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from segtune.report.plot import LAST, Axis, Chart, Dot, Kind, Line, Tick, axis, score_axis
from segtune.report.record import Report
from segtune.report.text import value_text
from segtune.trials import Trial
from segtune.vocabulary import is_number

Mark = TypeVar("Mark", Line, Dot)
_MOST_AXES = 8  # of the settings side by side, with the score
_MOST_TICKS = 7  # values of a setting that are named on its axis
_UNUSED = 0.0  # place of a setting that a trial does not have
_LOWEST = 10.0  # place of the lowest value above it
_HOUR, _MINUTE = 3600.0, 60.0


def kind_of(trial: Trial, winner: Trial | None) -> Kind:
    """Return how a trial is drawn: stopped, paused, waiting and failed ones are grey."""
    if trial is winner:
        return "winner"
    if trial.baseline:
        return "baseline"
    if trial.status in ("finished", "running"):
        return "finished" if trial.status == "finished" else "running"
    return "unfinished"


def best_over_trials(report: Report) -> Chart | None:
    """Return the best score so far over the trials in their order, with each trial's own score."""
    scored = [trial for trial in report.trials if trial.score is not None]
    return _best_so_far(report, "trials", "trial", scored, lambda trial: float(trial.number), whole=True)


def best_over_time(report: Report) -> Chart | None:
    """Return the best score so far over the time of the search, with each trial's score when it ended or paused."""
    ends = report.ended_after
    scored = [trial for trial in report.trials if trial.score is not None and trial.number in ends]
    longest = max((ends[trial.number] for trial in scored), default=0.0)
    unit, name = (_HOUR, "hours") if longest >= 2 * _HOUR else (_MINUTE, "minutes")
    scored.sort(key=lambda trial: ends[trial.number])
    return _best_so_far(report, "time", name, scored, lambda trial: ends[trial.number] / unit, whole=False)


def _best_so_far(
    report: Report, name: str, unit: str, trials: Sequence[Trial], at: Callable[[Trial], float], whole: bool
) -> Chart | None:
    if not trials:
        return None
    x = axis(unit, map(at, trials), whole, from_zero=not whole)
    y = score_axis(report.measure, [trial.score or 0.0 for trial in trials])
    steps: list[tuple[float, float]] = []
    best = -math.inf
    for trial in trials:
        place, score = x.place(at(trial)), trial.score or 0.0
        if steps:
            steps.append((place, y.place(best)))
        if score > best:
            best = score
            steps.append((place, y.place(best)))
    steps.append((100.0, y.place(best)))
    dots = [
        Dot(x.place(at(trial)), y.place(trial.score or 0.0), kind_of(trial, report.winner), trial.number)
        for trial in trials
    ]
    title = f"Best {report.measure} over {'the trials' if whole else 'time'}"
    return Chart(name, title, x, y, (Line(tuple(steps), "best"),), tuple(_ordered(dots)))


def learning_curves(report: Report) -> Chart | None:
    """Return the score of every trial over its epochs."""
    found = ((trial, report.curves.get(trial.number)) for trial in report.trials)
    curves = [(trial, curve) for trial, curve in found if curve and curve.epochs]
    if not curves:
        return None
    x = axis("epoch", [float(epoch) for _, curve in curves for epoch in curve.epochs], whole=True)
    y = score_axis(report.measure, [score for _, curve in curves for score in curve.scores])
    lines, ends = [], []
    for trial, curve in curves:
        points = tuple(
            (x.place(epoch), y.place(score)) for epoch, score in zip(curve.epochs, curve.scores, strict=True)
        )
        kind = kind_of(trial, report.winner)
        lines.append(Line(points, kind, trial.number))
        ends.append(Dot(*points[-1], kind, trial.number))
    return Chart(
        "curves", f"{report.measure} of each trial over its epochs", x, y, tuple(_ordered(lines)), tuple(_ordered(ends))
    )


@dataclass(frozen=True)
class Side:
    """An axis of the settings side by side: its name, its place from the left, and its named values."""

    name: str
    place: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Sides:
    """The trials as lines over their settings and their score."""

    sides: tuple[Side, ...]
    lines: tuple[Line, ...]


def parallel_coordinates(report: Report) -> Sides | None:
    """Return the trials over their settings, the most important first, and their score on the right."""
    trials = [trial for trial in report.trials if trial.score is not None and trial.searched]
    ranked_names = dict.fromkeys(influence.key.rpartition(".")[2] for influence in report.influences)
    names = [name for name in dict.fromkeys((*ranked_names, *report.searched)) if name in report.searched]
    names = [name for name in names if len({_text(trial, name) for trial in trials}) > 1][: _MOST_AXES - 1]
    if len(trials) < 2 or not names:
        return None
    scores = score_axis(report.measure, [trial.score or 0.0 for trial in trials])
    places, sides = {}, []
    for number, name in enumerate(names):
        places[name], ticks = _scale(trials, name)
        sides.append(Side(name, round(100 * number / len(names), 2), ticks))
    sides.append(Side(report.measure, 100.0, scores.ticks))
    lines = []
    for trial in trials:
        points = [(side.place, places[side.name](trial)) for side in sides[:-1]]
        points.append((100.0, scores.place(trial.score or 0.0)))
        lines.append(Line(tuple(points), kind_of(trial, report.winner), trial.number))
    return Sides(tuple(sides), tuple(_ordered(lines)))


def _scale(trials: Sequence[Trial], name: str) -> tuple[Callable[[Trial], float], tuple[Tick, ...]]:
    """Return where a trial's value of a setting lies, and the named values."""
    known = [trial.searched[name] for trial in trials if name in trial.searched]
    unused = (Tick(_UNUSED, "not used"),) if len(known) < len(trials) else ()
    lowest = _LOWEST if unused else 0.0
    room = 100 - lowest
    if all(is_number(value) for value in known):
        low, high = min(known), max(known)
        if low == high:
            middle = lowest + room / 2
            return lambda trial: middle if name in trial.searched else _UNUSED, (
                *unused,
                Tick(middle, value_text(low)),
            )
        scale = Axis(name, low, high, (), log=low > 0 and high / low > 20)
        ends = [Tick(lowest, value_text(low)), Tick(100.0, value_text(high))]
        if len(shown := sorted(set(known))) <= _MOST_TICKS:
            ends = [Tick(lowest + room / 100 * scale.place(value), value_text(value)) for value in shown]

        def at_number(trial: Trial) -> float:
            return lowest + room / 100 * scale.place(trial.searched[name]) if name in trial.searched else _UNUSED

        return at_number, (*unused, *ends)
    values = sorted({value_text(value) for value in known})
    step = room / max(1, len(values) - 1)
    rows: Mapping[Any, float] = {value: lowest + step * row for row, value in enumerate(values)}

    def at_choice(trial: Trial) -> float:
        return round(rows[value_text(trial.searched[name])], 2) if name in trial.searched else _UNUSED

    shown = values if len(values) <= _MOST_TICKS else [values[0], values[-1]]
    return at_choice, (*unused, *(Tick(round(rows[value], 2), value) for value in shown))


def _text(trial: Trial, name: str) -> str:
    return value_text(trial.searched[name]) if name in trial.searched else ""


def _ordered(marks: Sequence[Mark]) -> list[Mark]:
    """Return marks in the order in which they are drawn: grey ones below, the winner above all others."""
    return sorted(marks, key=lambda mark: LAST.index(mark.kind) if mark.kind in LAST else len(LAST))
