"""What a search found: one decision, from which the console's last lines and the page's first sentences are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from segtune.margin import seed_margin
from segtune.trials import Trial, ranked


class Verdict(Enum):
    """What may be said of the best trial."""

    NO_SCORE = auto()  # no trial has a score
    ALL_FAILED = auto()
    NOTHING_LEARNT = auto()
    BY_CHANCE = auto()  # it may be better than the baseline by chance alone
    SO_FAR = auto()  # the search goes on
    WINNER = auto()


@dataclass(frozen=True)
class Answer:
    """What a search found."""

    verdict: Verdict
    best: Trial | None
    baseline: Trial | None
    gain: float | None  # over the baseline; None where one of them has no score, and for the baseline itself
    # What other seeds alone may bring; None where the gain means nothing, or where fresh seeds showed how sure it is.
    margin: float | None
    over: bool = False  # whether a trial that is over the limits of costs has a better score than the best within them


def answer(trials: Sequence[Trial], ended: bool) -> Answer:
    """Return what a search found; `ended` is false for one that was interrupted or still runs."""
    order = ranked(trials)
    best, baseline = next(iter(order), None), next((trial for trial in trials if trial.baseline), None)
    gain = margin = None
    if best and baseline and best is not baseline and best.score is not None and baseline.score is not None:
        gain = best.score - baseline.score
        if best.confirmed:
            gain = best.confirmed.mean - baseline.confirmed.mean if baseline.confirmed else None
        elif comparable(baseline) and baseline.fits:
            margin = seed_margin([trial for trial in order if trial.fits])
    if best is None:
        verdict = Verdict.NO_SCORE
    elif ended and not has_winner(trials):
        verdict = Verdict.ALL_FAILED
    elif not best.learnt:
        verdict = Verdict.NOTHING_LEARNT
    elif not ended:
        verdict = Verdict.SO_FAR
    elif best.confirmed:
        limited = baseline is not None and best.fits and not baseline.fits  # it could not have won
        doubtful = gain is not None and not best.confirmed.gained and not limited
        verdict = Verdict.BY_CHANCE if doubtful else Verdict.WINNER
    else:
        by_chance = gain is not None and margin is not None and gain < margin
        verdict = Verdict.BY_CHANCE if by_chance else Verdict.WINNER
    reached = best.score or 0.0 if best and best.fits else math.inf
    over = any(not trial.fits and (trial.score or 0.0) > reached for trial in order)
    return Answer(verdict, best, baseline, gain, margin, over)


def comparable(baseline: Trial) -> bool:
    """Return whether a gain over the baseline means anything: it learnt something, in all of its epochs."""
    return baseline.finished and baseline.learnt


def has_winner(trials: Iterable[Trial]) -> bool:
    """Return whether a search that ended has a winner: a trial with a score, and not only failed trials."""
    found = list(trials)
    return bool(ranked(found)) and any(trial.status != "failed" for trial in found)
