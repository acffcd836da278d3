"""Say what a search found in plain sentences, for readers who do not know its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segtune.errors import counted, duration
from segtune.objectives import MIOU
from segtune.report.answer import Answer, Verdict
from segtune.report.record import Report
from segtune.report.text import limit_text, training_line, value_text, where_text
from segtune.space.prefer import Preference
from segtune.trials import Trial

_FEW = 4  # settings that a sentence names
_IOU = (
    "mean IoU, the overlap of predicted and true areas as the mean over the classes, "
    "where 0 means no overlap and 1 a perfect prediction"
)


def headline(report: Report) -> str:
    """Return what was found, in a few words."""
    found = report.answer
    best = found.best
    if best is None or found.verdict in (Verdict.NO_SCORE, Verdict.ALL_FAILED, Verdict.NOTHING_LEARNT):
        if report.trials and all(trial.status == "failed" for trial in report.trials):
            return "Every trial failed"
        return "No trial learnt anything" if report.state.over else "No trial learnt anything yet"
    if found.verdict is Verdict.SO_FAR:
        return f"Best so far: {named(best)} with {_score_of(best)} {_reached(best):.3f}"
    if found.verdict is Verdict.BY_CHANCE:
        return "No winner: the best trial may be better than the baseline by chance"
    return f"Winner: {named(best)} with {_score_of(best)} {_reached(best):.3f}"


def sentences(report: Report) -> list[str]:
    """Return the answer: what is the best and how good it is, what that gains and how sure it is, what it took."""
    found = report.answer
    confirmed = report.confirmation.sentence if report.confirmation else None
    return [_best(report, found), confirmed or _gained(found, report.state.over), _took(report)]


def named(trial: Trial) -> str:
    """Return a trial as people call it: the baseline, or its number and encoder."""
    if trial.baseline:
        return "the baseline"
    encoder = trial.settings.get("encoder")
    return f"trial #{trial.number}" + (f" ({encoder})" if encoder else "")


def _best(report: Report, found: Answer) -> str:
    best, tried = found.best, counted(len(report.trials), "configuration")
    if best is None:
        return f"Of {tried}, none has a score." if report.trials else "No trial has started yet."
    if not best.learnt:
        return f"The best of {tried} reached a {_explained(best)}, of {best.score:.3f}: it learnt nothing."
    subject = "the baseline" if best.baseline else f"trial #{best.number} ({_main_settings(best.searched)})"
    where = f"{where_text(best)}{limit_text(best.settings)}"
    if best.confirmed:
        where = ", the mean over fresh random seeds"
    so_far = "So far, the" if found.verdict is Verdict.SO_FAR else "The"
    tiles = "validation tiles" if best.folds == 1 else "tiles of train and val"
    reached = f"on the {tiles} it reaches {_reached(best):.3f}{where}"
    limits = Preference.of_setting(report.prefer)
    within = f" within the limits of costs ({limits.limits_text})" if limits and found.over else ""
    return f"{so_far} best of {tried}{within} is {subject}: {reached} ({_explained(best)})."


def _score_of(best: Trial) -> str:
    return "a mean IoU of" if best.objective == MIOU else f"{best.objective}"


def _explained(best: Trial) -> str:
    return _IOU if best.objective == MIOU else f"score, {best.objective}, where 1 is a perfect prediction"


def _reached(best: Trial) -> float:
    """Return the score of the best trial: over fresh seeds, where there are some."""
    return best.confirmed.mean if best.confirmed else best.score or 0.0


def _gained(found: Answer, ended: bool) -> str:
    best, baseline, gain, margin = found.best, found.baseline, found.gain, found.margin
    if best is None or not best.learnt:
        return "Nothing can be said about a gain."
    if baseline is None:
        return "There is no baseline to compare it with."
    if best is baseline:
        return (
            "The baseline is the first trial, with the settings that one would have used without a search; "
            f"nothing that was tried{' within the limits' if found.over else ''} beats it{'' if ended else ' yet'}."
        )
    if gain is None or baseline.score is None:
        how = "failed" if baseline.status == "failed" else "has no score yet"
        return f"What it gains over the baseline, the settings without a search, is unknown: the baseline {how}."
    more = "more" if gain >= 0 else "less"
    base = "the baseline, the settings without a search"
    start = f"That is {abs(gain):.3f} {more} than {base}, which reaches {baseline.score:.3f}"
    if not baseline.learnt:
        return f"{start} and learnt nothing."
    if not baseline.fits:
        return f"{start}; the baseline costs more than the limits of this search allow."
    if margin is None:
        done = f"after {baseline.epochs_done} of {counted(baseline.epochs, 'epoch')}"
        return f"{start} {done}, so the two cannot be compared."
    luck = "the random start of a training, and choosing the best of many, alone may bring"
    if gain < margin:
        return f"{start}; but {luck} {margin:.3f}, so the gain may be chance."
    return f"{start}; {luck} {margin:.3f}, so the gain is larger than chance explains."


def _took(report: Report) -> str:
    state = report.state
    what = "search with its confirmation" if report.confirmation else "search"
    time = f"The {what} {'took' if state.over else 'has run for'} {duration(state.seconds)}"
    spent = training_line(report.trials)
    text = f"{time} ({spent})" if spent else time
    if not state.over:
        ended = sum(trial.ended for trial in report.trials)
        return f"{text}; {ended} of {state.wanted} trials {'has' if ended == 1 else 'have'} ended."
    return f"{text}; it ended early: {state.reason}." if state.reason else f"{text}."


def _main_settings(settings: Mapping[str, Any]) -> str:
    first = list(settings.items())[:_FEW]
    return ", ".join(f"{name} {value_text(value)}" for name, value in first)
