"""Write the charts of a page as PNG and SVG files for papers, with a file of captions."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segtune.errors import counted, printable
from segtune.files.atomic import replaced_file, write_text
from segtune.report.charts import Sides, best_over_time, best_over_trials, learning_curves, parallel_coordinates
from segtune.report.front import front_charts
from segtune.report.plot import Chart, Line, Tick
from segtune.report.record import Candidate, Influence, Report
from segtune.report.sentences import named, sentences

_INCHES, _DPI = (6.3, 3.6), 200
_ROW = 0.24  # inches of a row
# Colour, line style, width and size of a mark, as on the page: print keeps them apart in grey as well.
_STYLES: dict[str, tuple[str, str, float, float]] = {
    "unfinished": ("#b9c0c8", "-", 0.8, 3),
    "running": ("#2b8a6e", "-", 1.0, 3),
    "finished": ("#6f93b3", "-", 1.0, 3),
    "baseline": ("#c2570c", "--", 1.8, 5),
    "winner": ("#0b5cad", "-", 2.2, 5),
    "best": ("#18202a", "-", 1.4, 3),
}
_LONGEST = 12  # characters of a value beside an axis: names of one family differ at their ends
_MOST_ROWS = 40  # values of settings in one figure


@dataclass(frozen=True)
class _Drawn:
    name: str
    figure: Figure
    caption: str


def write_figures(report: Report, folder: Path) -> list[Path]:
    """Write every chart that the search has data for as NAME.png and NAME.svg, and captions.md; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written, captions = [], [f"# Figures of the search {printable(report.name)}", "", " ".join(sentences(report)), ""]
    # Text in an SVG stays text, and the same search gives the same file.
    options = {"svg.fonttype": "none", "svg.hashsalt": "segtune"}
    with style.context("default"), matplotlib.rc_context(options):
        for drawn in _figures(report):
            for suffix in ("png", "svg"):
                path = folder / f"{drawn.name}.{suffix}"
                _save(drawn.figure, path, suffix)
                written.append(path)
            captions += [f"**{drawn.name}.** {printable(drawn.caption)}", ""]
    write_text(folder / "captions.md", "\n".join(captions))
    return [*written, folder / "captions.md"]


def _figures(report: Report) -> Iterator[_Drawn]:
    best = f"Blue: {named(report.winner)}, the best. " if report.winner else ""
    colours = f"{best}Orange: the baseline. Grey: trials that were stopped, paused or failed."
    count = counted(len(report.order), "trial")
    measure = report.measure
    over = f"of {count} of a hyperparameter search, and the best value so far (line). {colours}"
    if chart := best_over_trials(report):
        yield _Drawn("best_over_trials", _drawn(chart), f"Best validation {measure} {over}")
    if chart := best_over_time(report):
        yield _Drawn("best_over_time", _drawn(chart), f"Best validation {measure}, when each ended or paused, {over}")
    if chart := learning_curves(report):
        yield _Drawn("learning_curves", _drawn(chart), f"Validation {measure} over the epochs of {count}. {colours}")
    for chart in front_charts(report):
        line = "The line joins the trials that no other one beats in both. " if chart.lines else ""
        caption = f"Best validation {measure} over a cost ({chart.x.title}), of {count}. {line}{colours}"
        yield _Drawn(chart.name.replace("-", "_"), _drawn(chart), caption)
    if shares := [(one.key, one.share) for one in report.influences if one.share is not None]:
        caption = f"Importance of the searched settings (PED-ANOVA, arXiv:2304.10255), from {count}."
        yield _Drawn("importance", _bars(shares), caption)
    if any(len(one.effects) > 1 for one in report.influences):
        caption = (
            f"Mean validation {measure} after {report.compared_after} epochs of the trials with each value of a "
            f"setting, with 95% intervals (Student's t) for three trials or more; from {count}."
        )
        yield _Drawn("effects", _effects(report.influences, measure), caption)
    if sides := parallel_coordinates(report):
        caption = f"Each line is a trial, over its settings and its best validation {measure}; {count}. {colours}"
        yield _Drawn("trials", _parallel(sides), caption)
    if rows := [(row.title, row.winner, row.baseline) for row in report.classes if row.winner is not None]:
        caption = "IoU of each class on the validation tiles. Blue: the best trial. Orange: the baseline."
        yield _Drawn("classes", _classes(rows), caption)
    if report.confirmation:
        caption = (
            f"Validation {measure} of the candidates that were trained again with fresh seeds (grey: each seed; blue: "
            "the mean), best mean first."
        )
        yield _Drawn("seeds", _seeds(report.confirmation.candidates, measure), caption)


def _drawn(chart: Chart) -> Figure:
    figure, axes = _new(_INCHES)
    _lines(axes, chart.lines)
    for dot in chart.dots:
        colour, _, _, size = _STYLES[dot.kind]
        face = "white" if dot.kind == "baseline" else colour
        axes.plot(dot.x, dot.y, "o", color=colour, markerfacecolor=face, markersize=size, clip_on=False, zorder=3)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel=chart.x.title, ylabel=chart.y.title)
    _label(axes.set_xticks, chart.x.ticks)
    _label(axes.set_yticks, chart.y.ticks)
    return figure


def _lines(axes: Any, lines: Iterable[Line]) -> None:
    for line in lines:
        colour, dashes, width, _ = _STYLES[line.kind]
        axes.plot(*zip(*line.points, strict=True), color=colour, linestyle=dashes, linewidth=width)


def _label(setter: Any, ticks: Sequence[Tick]) -> None:
    setter([tick.place for tick in ticks], [tick.text for tick in ticks])


def _bars(shares: Sequence[tuple[str, float]]) -> Figure:
    figure, axes = _new((_INCHES[0], 0.9 + _ROW * len(shares)))
    places = range(len(shares))
    axes.barh(places, [100 * share for _, share in shares], color=_STYLES["finished"][0], height=0.6)
    _rows(axes, [name for name, _ in shares])
    axes.set_xlabel("share of importance, %")
    return figure


def _effects(influences: Sequence[Influence], measure: str) -> Figure:
    shown = [(one.key, effect) for one in influences if len(one.effects) > 1 for effect in one.effects][:_MOST_ROWS]
    figure, axes = _new((_INCHES[0], 0.9 + _ROW * len(shown)))
    for place, (_, effect) in enumerate(shown):
        colour = _STYLES["winner"][0]
        if effect.interval:
            axes.plot(effect.interval, (place, place), color=colour, linewidth=2, alpha=0.55)
        axes.plot(effect.mean, place, "o", color=colour, markersize=5)
    _rows(axes, [f"{key} = {effect.value}" for key, effect in shown])
    axes.set_xlabel(measure)
    return figure


def _classes(rows: Sequence[tuple[str, float | None, float | None]]) -> Figure:
    figure, axes = _new((_INCHES[0], 0.9 + _ROW * len(rows)))
    for place, (_, winner, baseline) in enumerate(rows):
        for kind, value in (("baseline", baseline), ("winner", winner)):
            if value is not None:
                face = "white" if kind == "baseline" else _STYLES[kind][0]
                axes.plot(value, place, "o", color=_STYLES[kind][0], markerfacecolor=face, markersize=6)
    _rows(axes, [title for title, *_ in rows])
    axes.set(xlim=(0, 1), xlabel="IoU")
    return figure


def _parallel(sides: Sides) -> Figure:
    figure, axes = _new(_INCHES)
    _lines(axes, sides.lines)
    for side in sides.sides:
        axes.axvline(side.place, color="0.6", linewidth=0.8, zorder=0)
        for tick in side.ticks:
            at = {"xy": (side.place, tick.place), "xytext": (3, 0), "textcoords": "offset points"}
            text = tick.text if len(tick.text) <= _LONGEST else f"…{tick.text[1 - _LONGEST :]}"
            axes.annotate(printable(text), **at, fontsize=6, va="center", parse_math=False, zorder=4)
    names = [printable(side.name) for side in sides.sides]
    axes.set_xticks([side.place for side in sides.sides], names, parse_math=False, rotation=20, ha="right")
    axes.set(xlim=(-1, 108), ylim=(-3, 103), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    return figure


def _seeds(candidates: Sequence[Candidate], measure: str) -> Figure:
    figure, axes = _new((_INCHES[0], 0.9 + _ROW * len(candidates)))
    for place, one in enumerate(candidates):
        axes.plot(one.seeds, [place] * len(one.seeds), "o", color=_STYLES["unfinished"][0], markersize=5)
        axes.plot(statistics.fmean(one.seeds), place, "D", color=_STYLES["winner"][0], markersize=5)
    _rows(axes, [one.name for one in candidates])
    axes.set_xlabel(measure)
    return figure


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [printable(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _new(inches: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=inches, dpi=_DPI, layout="constrained", facecolor="white")
    axes: Any = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path, suffix: str) -> None:
    FigureCanvasAgg(figure)
    data = io.BytesIO()
    figure.savefig(data, format=suffix, metadata={"Date": None} if suffix == "svg" else {})
    with replaced_file(path) as temporary:
        temporary.write_bytes(data.getvalue())
