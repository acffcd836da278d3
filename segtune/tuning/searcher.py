"""Decide which trial is next, whether it goes on, how it ended, and when the search is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.training.result import EpochResult
from segtune.tuning.failures import Failure, Fault
from segtune.tuning.feed import OrderlyEnd
from segtune.tuning.giving_up import FailuresInARow, FirstFailures
from segtune.tuning.proposals import Proposals, TrialStart
from segtune.tuning.recovery import catch_up
from segtune.tuning.scheduler import Decision, Scheduler
from segtune.tuning.stopping import Cause, EarlyEnd, Rules
from segtune.tuning.study import (
    COSTS,
    ERROR,
    MICRO_BATCH,
    NOTE,
    REPEATS,
    SPENT,
    WARM_START,
    begun,
    budget_of,
    go_on,
    note_pause,
    stop_paused,
    tell,
    wait,
    waiting,
)
from segtune.tuning.teaching import DIVERGED

_NOTE_EVERY_S = 30.0  # seconds between records of the time spent; a kill loses less than that
_EXHAUSTED = "the space is exhausted: every configuration that can be run was tried"


class Watcher(Protocol):
    """Receives what happens to trials, after it is in the study."""

    def epoch(self, number: int, result: EpochResult) -> None:
        """Receive an epoch of a trial."""

    def ended(self, number: int) -> None:
        """Receive the end, the pause or the interruption of a trial."""

    def repeated(self, number: int, reason: str) -> None:
        """Receive the failure of a trial that is to be repeated."""


class Searcher(OrderlyEnd):
    """Asks the study for trials and tells it how they ended; a backend calls it.

    A backend calls `next_trial` whenever there is room for one, `epoch` for each epoch of a trial and `ended` when a
    trial ended, for whatever reason; and `poll` now and then. It ends when `next_trial` returns None while no trial
    runs, or soon after `interrupted` is set.

    A trial of the study becomes COMPLETE only when it used its budget of epochs, PRUNED when the scheduler or a rule
    stopped it, and FAIL when it failed. It becomes WAITING when it pauses at a rung, when the search was interrupted or
    when it is to be repeated: later it goes on with its number, its settings and its values. Every epoch's objective is
    reported as an intermediate value.

    Next is an interrupted trial, then a paused one that is promoted, then a new one. When nothing is left, the trials
    that are still paused are stopped.

    Parameters
    ----------
    study: the Optuna study; its trial 0 is the baseline.
    folder: the search's folder.
    proposals: what is tried next.
    concurrent: trials at a time; the study is asked for the next one only when one of them has ended, so that
        nothing is drawn before it is known what the others showed.
    retries: how often a failed trial is repeated.
    scheduler: compares trials at rungs; None: every trial may use its budget.
    rules: when a trial or the search has had enough.
    watcher: who is told.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: SearchFolder,
        proposals: Proposals,
        concurrent: int,
        retries: int,
        scheduler: Scheduler | None,
        rules: Rules,
        watcher: Watcher,
    ) -> None:
        super().__init__()
        self.study = study
        self._folder, self._proposals = folder, proposals
        self._concurrent, self._retries = concurrent, retries
        self._scheduler, self._rules, self._watcher = scheduler, rules, watcher
        self._trials: dict[int, optuna.Trial] = {}
        self._live: set[int] = set()
        self._known: dict[int, int] = {}  # by trial: the last epoch that the study knows
        self._last: dict[int, EpochResult] = {}  # by trial: the last epoch of this start
        self._stopped: dict[int, str | None] = {}  # by trial that was told to stop: the reason
        self._first_failures = None if _any_score(study) else FirstFailures()
        self._failures = FailuresInARow()

    # What a backend calls

    def next_trial(self) -> TrialStart | None:
        """Return the next trial to start; None for "not now", and, while no trial is `live`, for "no more"."""
        start = None
        with self.guarded():
            start = self._next()
            if start is None and not self._live and not self.interrupted:  # when interrupted, they wait
                self._tell_first_failures()
                self._stop_paused(sorted(self._paused()))
        return start

    def epoch(self, number: int, result: EpochResult) -> Decision:
        """Record an epoch of a trial, and decide whether the trial goes on."""
        decision = Decision.CONTINUE
        with self.guarded():
            if number in self._live:
                decision = self._decide(number, result)
                self._report(number, result)
                self._watcher.epoch(number, result)
        return decision

    def ended(self, number: int, failure: Failure | None = None) -> None:
        """Record that a trial no longer runs: by itself, after a decision or an interruption, or by a failure."""
        with self.guarded():
            if number in self._live:
                self._ended(number, failure)

    def poll(self) -> None:
        """Note the time spent, now and then; end the search when its time is used up."""
        with self.guarded():
            self._rules.note_time(_NOTE_EVERY_S)
            if self._rules.over():
                self.interrupt()

    @property
    def live(self) -> frozenset[int]:
        """The numbers of the trials that were started and have not ended."""
        return frozenset(self._live)

    # What ends a search early

    def early_end(self) -> EarlyEnd | None:
        """Return why the search ends before it has as many trials as were asked for; None where it does not."""
        exhausted = EarlyEnd(Cause.EXHAUSTED, _EXHAUSTED) if self._proposals.exhausted else None
        fault = EarlyEnd(Cause.FAULT, self.fault) if self.fault else None
        return fault or self._rules.why_over() or exhausted

    # How a trial starts and goes on

    def _next(self) -> TrialStart | None:
        while self._room():
            self._stop_paused([number for number in self._hopeless() if number not in self._live])
            trial = self._proposed()
            if trial is None:
                return None  # one of those that still run may fail and be repeated
            self._trials[trial.number] = trial
            # A trial that died before its state was written repeats epochs that the study knows already.
            values = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
            self._known[trial.number] = max(values, default=0)
            try:
                start = self._proposals.start(trial)
            except InputError as error:  # values that do not go together were drawn together
                self._fail(trial, Failure(error.mistakes[0], Fault.SETTINGS))
                continue
            self._live.add(trial.number)
            self._stopped.pop(trial.number, None)
            if self._scheduler:
                self._scheduler.add(trial.number, values)
            return start
        return None

    def _proposed(self) -> optuna.Trial | None:
        """Return the next trial from the study; None where there is none at this time."""
        paused = self._paused()
        waits: dict[int | None, FrozenTrial] = {trial.number: trial for trial in waiting(self.study) if begun(trial)}
        interrupted = [trial for number, trial in waits.items() if number not in paused]
        if interrupted:
            return go_on(self.study, interrupted[0])
        if self._scheduler and (best := waits.get(self._scheduler.promotable(last=False))):
            return go_on(self.study, best)
        if new := self._proposals.next(self._rules.enough):
            return new
        if self._scheduler and not self._live and (best := waits.get(self._scheduler.promotable(last=True))):
            return go_on(self.study, best)
        return None

    def _paused(self) -> Sequence[int]:
        return self._scheduler.paused if self._scheduler else ()

    def _hopeless(self) -> Collection[int]:
        return self._scheduler.hopeless() if self._scheduler else ()

    def _room(self) -> bool:
        """Whether a trial may start now."""
        if self.interrupted or len(self._live) >= self._concurrent:
            return False
        if self._rules.over():
            self.interrupt()
            return False
        return not (self._live and self._first_failures and self._first_failures.doubtful)

    def _decide(self, number: int, result: EpochResult) -> Decision:
        self._last[number] = result
        if note := self._rules.why_stop(number, result):
            self._stopped[number] = note
            return Decision.STOP
        if self._scheduler is None:
            return Decision.CONTINUE
        decision = self._scheduler.decide(number, result)
        if decision is Decision.PAUSE and self._only(number) and self._scheduler.promotable(last=True) == number:
            self._scheduler.add(number, {})  # it would be the next one anyway
            return Decision.CONTINUE
        if decision is Decision.STOP:
            self._stopped[number] = self._scheduler.why(number)
        return decision

    def _only(self, number: int) -> bool:
        """Whether a trial is the only one that runs, and nothing but paused ones can run after it."""
        if len(self._live) > 1 or not self._rules.enough():
            return False
        return all(trial.number in self._paused() for trial in waiting(self.study))

    def _report(self, number: int, result: EpochResult) -> None:
        if result.epoch > self._known[number] and result.best_score is not None:
            self._known[number] = result.epoch
            self._trials[number].report(result.best_score, step=result.epoch)
            self._tell_first_failures()

    # How a trial ends

    def _ended(self, number: int, failure: Failure | None) -> None:
        trial, last = self._trials[number], self._last.pop(number, None)
        self._live.discard(number)
        self._rules.note_time()
        if failure is not None:
            self._failed(trial, failure)
            return
        if last is not None:
            trial.set_user_attr(SPENT, dict(last.spent))
            trial.set_user_attr(MICRO_BATCH, last.micro_batch)
            if last.costs:
                trial.set_user_attr(COSTS, {**last.costs, "seconds": last.seconds / last.epoch * last.epochs})
        if last is not None and last.finished:
            self._end(trial, TrialState.COMPLETE, last)
        elif number in self._stopped:
            if note := self._stopped[number]:
                trial.set_user_attr(NOTE, note)
            self._end(trial, TrialState.PRUNED, last)
        else:
            self._wait(trial)
            self._watcher.ended(number)

    def _end(self, trial: optuna.Trial, state: TrialState, last: EpochResult | None = None) -> None:
        if state is not TrialState.FAIL:
            self._failures.clear()
        if self._scheduler:
            self._scheduler.ended(trial.number, last)
        tell(self.study, trial.number, state, last.best_score if last and state is TrialState.COMPLETE else None)
        self._watcher.ended(trial.number)

    def _wait(self, trial: optuna.Trial) -> None:
        """Set a trial to WAITING, at a rung if it is at one."""
        if (epochs := self._rung(trial)) is not None:
            self._failures.clear()
            note_pause(self.study, trial, epochs)
        wait(self.study, trial._trial_id)

    def _rung(self, trial: optuna.Trial) -> int | None:
        """Return the epochs after which a trial that no longer runs waits at a rung; None where it does not."""
        if self._scheduler is None:
            return None
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        return self._scheduler.pause(trial.number, frozen.intermediate_values, budget_of(frozen))

    def give_up_worst(self, note: str) -> bool:
        """Stop the paused trial that is the least likely to go on, with a note; return whether there was one."""
        worst = [number for number in self._paused() if number not in self._live and number > 0]
        self._stop_paused(worst[:1], note)
        return bool(worst)

    def _stop_paused(self, numbers: Collection[int], note: str | None = None) -> None:
        """Stop paused trials that are not to go on: with a note, or with the scheduler's reason."""
        for number in numbers:
            if self._scheduler:
                why = note or self._scheduler.why(number)
                stop_paused(self.study, self.study.get_trials(deepcopy=False)[number], why)
                self._scheduler.ended(number, None)
                self._watcher.ended(number)

    def _fail(self, trial: optuna.Trial, failure: Failure) -> None:
        trial.set_user_attr(ERROR, failure.reason)
        if failure.fault is Fault.DIVERGED:
            trial.set_user_attr(DIVERGED, True)
        self._end(trial, TrialState.FAIL)
        if failure.fault is not Fault.DIVERGED:
            self._failures.add(trial.number, failure)
            if self._failures.too_many:
                self.halt(str(self._failures))

    def _failed(self, trial: optuna.Trial, failure: Failure) -> None:
        """Repeat a trial that failed, or record its failure, or end the search until the cause is gone."""
        catch_up(self.study, trial.number, self._folder.trial(trial.number))  # it may have died before it reported
        repeats = trial.user_attrs.get(REPEATS, [])
        again = len(repeats) < self._retries
        if failure.fault is Fault.DISK or (failure.fault is Fault.PLACE and not again):
            self.halt(failure.reason)
        transient = failure.fault in (Fault.TRANSIENT, Fault.PLACE)
        if self.interrupted or (transient and self._rung(trial) is not None):
            self._wait(trial)
            self._watcher.ended(trial.number)
        elif transient and again:
            trial.set_user_attr(REPEATS, [*repeats, failure.reason])
            self._wait(trial)
            self._watcher.repeated(trial.number, failure.reason)
        elif self._first_failures is not None and failure.fault is not Fault.DIVERGED:
            self._first_failures.hold(trial.number, failure)
            self._judge_first_failures(self._first_failures)
        else:
            self._fail(trial, failure)

    def _judge_first_failures(self, failures: FirstFailures) -> None:
        """Give up when several trials failed for one cause before any had a score; leave these trials waiting."""
        if failures.differ:
            self._tell_first_failures()
        elif failures.doubtful and not self._live:
            self.halt(str(failures))
            for number, _ in failures.release():
                self._wait(self._trials[number])
                self._watcher.ended(number)
            self._first_failures = None

    def _tell_first_failures(self) -> None:
        failures, self._first_failures = self._first_failures, None
        for number, failure in failures.release() if failures else ():
            self._fail(self._trials[number], failure)


def _any_score(study: optuna.Study) -> bool:
    trials = study.get_trials(deepcopy=False)
    return any(trial.intermediate_values and WARM_START not in trial.user_attrs for trial in trials)
