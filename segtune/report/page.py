"""Write a search as one HTML page that needs nothing else: report.html."""

from __future__ import annotations

import math
import statistics
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from segtune.errors import counted, duration
from segtune.report.charts import best_over_time, best_over_trials, kind_of, learning_curves, parallel_coordinates
from segtune.report.costs import cost_text, latency_note, limits_line
from segtune.report.front import front_charts
from segtune.report.plot import LAST, Axis, score_axis
from segtune.report.record import Report
from segtune.report.sentences import headline, sentences
from segtune.report.text import failures, settings_text, spent_line, training_line, value_text
from segtune.training.stopwatch import PHASES
from segtune.trials import Trial, front

_TEMPLATES = Path(__file__).with_name("templates")
_SECTIONS = {
    "settings": "Settings",
    "progress": "Best {measure}",
    "front": "Score and costs",
    "curves": "Learning curves",
    "importance": "What matters",
    "trials": "All trials",
    "classes": "Classes",
    "tiles": "Tiles",
    "seeds": "Other seeds",
    "failures": "Failures",
    "time": "Time",
    "data": "Data",
    "repeat": "Repeat it",
}
_FEW_TRIALS = 50  # below, the importance of settings is rough
_NONE = "-"
_LONGEST, _END = 15, 10  # characters of a value beside an axis, and of its end where it is longer


def page(report: Report) -> str:
    """Return the page of a search as HTML. Its charts are drawn in it; a program in it makes them interactive."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            headline=headline(report),
            sentences=sentences(report),
            contents=list(_contents(report)),
            figures=_figures(report),
            tips={trial.number: _tip(report, trial) for trial in report.trials},
            kinds=[kind for kind in reversed(LAST) if any(kind == _kind(report, trial) for trial in report.trials)],
            kind_of=partial(_kind, report),
            rows=[*report.order, *(trial for trial in report.trials if trial.score is None)],
            failures=failures(report.trials),
            **_charts(report),
            **_settings(report),
            **_classes(report),
            **_importance(report),
            **_times(report.trials),
        )
    )


def _contents(report: Report) -> Iterable[tuple[str, str]]:
    """Yield the id and the title of each section."""
    for name, text in _SECTIONS.items():
        if name != "front" or report.costs:
            yield name, text.format(measure=report.measure)


def rendered(template: str, **content: Any) -> str:
    """Return another page in the same style."""
    return _environment().get_template(template).render(**content)


def _environment() -> Environment:
    """Return the templates; every text that they get is escaped, because names and errors may hold anything."""
    found = Environment(
        loader=PackageLoader("segtune.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "score": _score,
        "signed": lambda value: _NONE if _missing(value) else f"{value:+.4f}",
        "percent": lambda share: _NONE if _missing(share) else f"{share:.1%}",
        "millions": lambda count: _NONE if _missing(count) else f"{count / 1e6:.1f} M",
        "amount": lambda value: _NONE if _missing(value) else f"{value:,.4g}",
        "duration": lambda seconds: _NONE if _missing(seconds) else duration(seconds),
        "value": value_text,
        "shortened": _shortened,
        "setting": _setting,
        "moment": lambda seconds: f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}",
        "webp": lambda data: f"data:image/webp;base64,{b64encode(data).decode('ascii')}",
        "mean": statistics.fmean,
        "deviation": lambda values: statistics.stdev(values) if len(values) > 1 else None,
    }
    # Own files, which hold nothing from outside.
    for name, file in (("style", "page.css"), ("script", "page.js")):
        found.globals[name] = Markup((_TEMPLATES / file).read_text(encoding="utf-8"))
    return found


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _score(value: float | None) -> str:
    return _NONE if value is None or not math.isfinite(value) else f"{value:.4f}"


def _shortened(text: str) -> str:
    """Return the beginning and the end of a long text: names of one family differ at their ends."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _END - 1]}…{text[-_END:]}"


def _setting(key: str) -> str:
    """Return the key of a parameter as people read it: ``momentum (sgd)`` for optimizer.sgd.momentum."""
    *branches, name = key.split(".")
    return f"{name} ({', '.join(branches[1::2])})" if branches else name


def _kind(report: Report, trial: Trial) -> str:
    return kind_of(trial, report.winner)


def _tip(report: Report, trial: Trial) -> str:
    """Return what is shown of a trial where somebody points at it."""
    name = "baseline" if trial.baseline else trial.origin
    how = f"{trial.status}, {trial.epochs_done} of {counted(trial.epochs, 'epoch')}"
    settings = settings_text(trial.searched).replace(", ", "\n")
    return f"#{trial.number} ({name})  {report.measure} {_score(trial.score)}\n{how}\n{settings}"


def _figures(report: Report) -> list[dict[str, str]]:
    """Return the few numbers that stand below the first sentences."""
    found = report.answer
    figures = []
    if found.best and found.best.score is not None:
        figures.append({"name": f"best {report.measure}"} | _value(report, found.best))
    if found.baseline and found.baseline.score is not None and found.baseline is not found.best:
        figures.append({"name": "baseline"} | _value(report, found.baseline))
    if found.gain is not None:
        figures.append({"name": "gain", "value": f"{found.gain:+.4f}", "note": _sure(report)})
    ended = sum(trial.ended for trial in report.trials)
    figures.append({"name": "trials ended", "value": f"{ended} of {report.state.wanted}", "note": _how_ended(report)})
    figures.append({"name": "time of the search", "value": duration(report.state.seconds), "note": _began(report)})
    return figures


def _value(report: Report, trial: Trial) -> dict[str, str]:
    """Return the score of a trial: over fresh seeds where it was confirmed, as the sentences have it."""
    if trial.confirmed:
        over = "" if trial.fits else "; over the limits"
        own = "" if trial.folds > 1 else f"; {_score(trial.score)} in the search"
        return {"value": _score(trial.confirmed.mean), "note": f"mean over fresh seeds{own}{over}"}
    interval = report.examples.interval if report.examples and not trial.baseline else None
    why = (report.examples and report.examples.unsure) or ""
    of_tiles = f"95% over the tiles: {interval.low:.4f} to {interval.high:.4f}" if interval else why
    return {"value": _score(trial.score), "note": "settings without a search" if trial.baseline else of_tiles}


def _sure(report: Report) -> str:
    """Return how sure the gain over the baseline is."""
    margin, confirmed = report.answer.margin, report.confirmation
    if margin is not None:
        return f"chance alone: up to {margin:.4f}"
    gains = [row.gain for row in confirmed.candidates[:1]] if confirmed else []
    return "".join(f"95%: {gain.low:+.4f} to {gain.high:+.4f}" for gain in gains if gain)


def _how_ended(report: Report) -> str:
    states = [trial.status for trial in report.trials]
    return ", ".join(f"{states.count(status)} {status}" for status in dict.fromkeys(states))


def _began(report: Report) -> str:
    return "" if report.began is None else f"since {datetime.fromtimestamp(report.began):%Y-%m-%d %H:%M}"


def _charts(report: Report) -> dict[str, Any]:
    return {
        "over_trials": best_over_trials(report),
        "over_time": best_over_time(report),
        "curves": learning_curves(report),
        "front": front(report.trials, report.costs) if report.costs else [],
        "front_charts": front_charts(report),
        "cost_text": cost_text,
        "latency_note": latency_note(report.trials, report.costs),
        "limits_line": limits_line(report.trials, report.prefer),
        "sides": parallel_coordinates(report),
    }


def _settings(report: Report) -> dict[str, Any]:
    """Return the rows of the settings of winner and baseline: those that were searched, and the others."""
    best, baseline = report.winner or next(iter(report.order), None), report.baseline
    if best is None:
        return {"settings": [], "fixed": []}
    ours, theirs = ({} if trial is None else report.values(trial) for trial in (best, baseline))
    rows = []
    for name in report.searched:
        winner, other = (value_text(side[name]) if name in side else _NONE for side in (ours, theirs))
        rows.append(
            {
                "name": name,
                "winner": winner,
                "baseline": other,
                "differs": winner != other and _NONE not in (winner, other),
            }
        )
    fixed = [(name, value_text(value)) for name, value in best.settings.items() if name not in report.searched]
    return {"settings": rows, "fixed": fixed}


def _classes(report: Report) -> dict[str, Any]:
    return {
        "unit": Axis("IoU", 0.0, 1.0, ()),
        "intervals": any(row.interval for row in report.classes),
        "shares": any(row.share is not None for row in report.classes),
    }


def _importance(report: Report) -> dict[str, Any]:
    effects = [effect for one in report.influences for effect in one.effects]
    ends = [bound for effect in effects for bound in (*(effect.interval or ()), effect.mean)]
    count = len(report.order)
    rough = f"With {counted(count, 'trial')}, the order is rough: another search may give another one."
    return {
        "ranked_influences": [one for one in report.influences if one.share is not None],
        "effects_axis": score_axis(report.measure, ends),
        "compared": [one for one in report.influences if len(one.effects) > 1],
        "few_trials": rough if count < _FEW_TRIALS else "",
    }


def _times(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return where the time of the trials went: by how they ended, and by what they did."""
    by_status: dict[str, float] = {}
    for trial in trials:
        by_status[trial.status] = by_status.get(trial.status, 0.0) + (trial.seconds or 0.0)
    by_phase = {name: sum(trial.spent.get(name, 0.0) for trial in trials) for name in PHASES}
    tables = [("Training time, by how trials ended", by_status), ("Time of the trials, by what they did", by_phase)]
    lines = [line for line in (training_line(trials), spent_line(trials)) if line]
    found = [(title, list(_shares(seconds))) for title, seconds in tables if sum(seconds.values()) > 0]
    return {"times": found, "time_lines": lines}


def _shares(seconds: Mapping[str, float]) -> Iterable[tuple[str, float, float]]:
    total = sum(seconds.values())
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        if value > 0:
            yield name, value / total, value
