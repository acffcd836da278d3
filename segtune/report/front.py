"""The charts of the front of a search: the trials that are not beaten in score and costs together."""

from __future__ import annotations

from segtune.report.charts import kind_of
from segtune.report.plot import Chart, Dot, Line, axis, score_axis
from segtune.report.record import Report
from segtune.space.prefer import UNITS
from segtune.trials import Trial, front

_SCALES = {"parameters": (1e6, "parameters, in millions")}  # of axes


def front_charts(report: Report) -> list[Chart]:
    """Return a chart for each cost: the score of the trials over it, and the front of these two as a line."""
    charts = (_chart(report, name) for name in report.costs)
    return [chart for chart in charts if chart]


def _chart(report: Report, name: str) -> Chart | None:
    known = [trial for trial in report.order if trial.costs[name] is not None]
    if not known:
        return None
    scale, text = _SCALES.get(name, (1.0, f"{name}, in {next(iter(UNITS[name]))}"))

    def cost(trial: Trial) -> float:
        return (trial.costs[name] or 0.0) / scale

    x = axis(text, map(cost, known), from_zero=True)
    y = score_axis(report.measure, [trial.score or 0.0 for trial in known])
    dots = [
        Dot(x.place(cost(trial)), y.place(trial.score or 0.0), kind_of(trial, report.winner), trial.number)
        for trial in reversed(known)
    ]
    steps: list[tuple[float, float]] = []
    for trial in reversed(front(report.trials, [name])):  # the cheapest first
        place, score = x.place(cost(trial)), y.place(trial.score or 0.0)
        steps += [(place, steps[-1][1])] if steps else []
        steps.append((place, score))
    lines = (Line(tuple(steps), "best"),) if len(steps) > 1 else ()
    return Chart(f"front-{name}", f"{report.measure} over {name}", x, y, lines, tuple(dots))
