"""Rules that end a trial, or the whole search."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.clock import running_seconds
from segtune.errors import counted, duration
from segtune.space.settings import SearchSettings
from segtune.training.result import EpochResult
from segtune.tuning.study import FOLDS, PAUSED, PAUSED_AT, WARM_START, is_paused

# User attributes of the study:
_SECONDS = "seconds"  # spent so far, all starts together
_REASON = "ended_early"  # why the last start ended early; empty where it did not


class Cause(Enum):
    """Why a search ends before it has as many trials as it was asked for."""

    TIME = auto()  # the time budget is used up
    PATIENCE = auto()  # too many trials in a row brought no improvement
    EXHAUSTED = auto()  # every point of the space was tried
    FAULT = auto()  # another trial would fail in the same way


@dataclass(frozen=True)
class EarlyEnd:
    """An early end of a search, with its reason in words."""

    cause: Cause
    reason: str


class Rules:
    """The rules of `search:` that end trials and searches; the baseline, with which others are compared, is exempt."""

    def __init__(self, search: SearchSettings, study: optuna.Study) -> None:
        self._search, self._study = search, study
        self._budget = search.trials_budget()
        self._before = seconds_of(study)
        self._start = self._noted = running_seconds()

    # The search

    def seconds(self) -> float:
        """Return how long the search has run, in seconds, all starts together."""
        return self._before + running_seconds() - self._start

    def note_time(self, every: float = 0.0) -> None:
        """Record how long the search has run, for the next start; at most once in `every` seconds."""
        if running_seconds() - self._noted >= every:
            self._noted = running_seconds()
            self._study.set_user_attr(_SECONDS, self.seconds())

    def note_end(self, end: EarlyEnd | None) -> None:
        """Record why the search ended early, for --status; None while it may continue."""
        reason = end.reason if end else ""
        if self._study.user_attrs.get(_REASON, "") != reason:
            self._study.set_user_attr(_REASON, reason)

    def over(self) -> bool:
        """Return whether the trials' part of the time budget is used up; running ones then wait for the next start."""
        return self._budget is not None and self.seconds() >= self._budget

    def out_of_time(self) -> bool:
        """Return whether the whole time budget is used up, with what was kept for the confirmation."""
        return (left := self.left()) is not None and left <= 0

    def left(self) -> float | None:
        """Return the seconds that are left of the time budget; None where there is none."""
        return None if self._search.time_budget is None else self._search.time_budget - self.seconds()

    def enough(self) -> bool:
        """Return whether no new trials should start; running ones go on."""
        trials, patience = self._study.get_trials(deepcopy=False), self._search.patience
        if len(trials) - told_before(trials) >= self._search.trials:
            return True
        return patience is not None and self.without_improvement() >= patience

    def complete(self) -> bool:
        """Return whether as many trials ended as requested."""
        trials = self._study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished() and WARM_START not in trial.user_attrs]
        return len(ended) >= self._search.trials

    def without_improvement(self) -> int:
        """Return how many trials ended since the best one did."""
        return without_improvement(self._study.get_trials(deepcopy=False))

    def why_over(self) -> EarlyEnd | None:
        """Return why the search ended before it had as many trials as requested; None where it did not."""
        if self.complete():
            return None
        budget, kept = self._search.time_budget, (self._search.time_budget or 0.0) - (self._budget or 0.0)
        if budget is not None and self.over():
            but = f", but for {duration(kept)} that the confirmation of the winner has" if kept else ""
            return EarlyEnd(Cause.TIME, f"the time budget of {duration(budget)} is used up{but}")
        trials = self._study.get_trials(deepcopy=False)
        since, patience = without_improvement(trials), self._search.patience
        if patience and since >= patience and len(trials) - told_before(trials) < self._search.trials:
            return EarlyEnd(Cause.PATIENCE, f"{counted(since, 'trial')} in a row brought no improvement")
        return None

    # A trial

    def why_stop(self, number: int, result: EpochResult) -> str | None:
        """Return why a trial that reported this epoch is to end now; None where it goes on."""
        if number == 0 or result.finished:
            return None
        limit, collapse = self._search.max_trial_time, self._search.collapse_epochs
        if collapse and result.collapsed_epochs >= collapse:
            return f"predicted one class everywhere for {counted(result.collapsed_epochs, 'epoch')}"
        if limit and result.seconds >= limit:
            return f"trained for {duration(result.seconds)}, longer than max_trial_time"
        return None


def seconds_of(study: optuna.Study) -> float:
    """Return how long a search has run, in seconds, as far as it was recorded."""
    return float(study.user_attrs.get(_SECONDS, 0.0))


def reason_of(study: optuna.Study) -> str | None:
    """Return why a search ended early, as far as it was recorded; None where it did not."""
    return study.user_attrs.get(_REASON) or None


def told_before(trials: list[FrozenTrial]) -> int:
    """Count the trials that a warm start brought from other searches."""
    return sum(WARM_START in trial.user_attrs for trial in trials)


def without_improvement(trials: list[FrozenTrial]) -> int:
    """Return how many trials ended, or paused, since the best one did; 0 while none has a score."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    ended = [trial for trial in trials if trial.state in states or is_paused(trial)]
    ended = sorted((trial for trial in ended if WARM_START not in trial.user_attrs), key=_last_ran)
    best: FrozenTrial | None = None
    since = 0
    for trial in ended:
        best, since = (trial, 0) if _improves(trial, best) else (best, since + 1)
    return since


def _improves(trial: FrozenTrial, best: FrozenTrial | None) -> bool:
    """Return whether a trial is better than the best one before; by folds, than that was after as many epochs."""
    values, others = trial.intermediate_values, best.intermediate_values if best else {}
    if FOLDS in trial.user_attrs:
        others = {epoch: value for epoch, value in others.items() if epoch <= max(values, default=0)}
    return max(values.values(), default=float("-inf")) > max(others.values(), default=float("-inf"))


def _last_ran(trial: FrozenTrial) -> datetime:
    """Return when a trial ended; when it paused, if it did not run again: it may have been stopped much later."""
    if trial.user_attrs.get(PAUSED) is not None:
        return datetime.fromisoformat(trial.user_attrs[PAUSED_AT])
    return trial.datetime_complete or datetime.max
