"""Optuna's ask and tell under Ray Tune: what is tried next, and what becomes of it in the study."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from ray.tune.search import Searcher

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import OF_THE_MACHINE
from segtune.files.folders import SearchFolder
from segtune.models.weights import weights_file
from segtune.space.space import Space
from segtune.training.stopwatch import PHASES
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.failures import DISK, LOST, NONFINITE, PLACE, SETTINGS, TRANSIENT, Fault
from segtune.tuning.points import FromTrial, encode, signature
from segtune.tuning.recovery import catch_up
from segtune.tuning.sampler import SpaceSampler
from segtune.tuning.stopping import Rules
from segtune.tuning.study import ERROR, NOTE, REPEATS, SPENT, WARM_START, tell, wait, waiting
from segtune.tuning.teaching import DIVERGED

_SAME_CAUSE = 3  # trials, the first ones, that fail for one cause before the search gives up
_IN_A_ROW = 10  # trials, later ones, that fail for one cause, and nothing else ends, before it gives up
_NOTE_EVERY_S = 30.0  # seconds between notes of the time spent, which a kill would lose


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the study for trials and tells it how they ended.

    A trial of the study becomes COMPLETE only when it used its budget of epochs, PRUNED when the scheduler or a rule
    stopped it, FAIL when it failed, and WAITING when the search was interrupted or when it is to be repeated: asked
    again, it comes back with its number, its settings and its values. Every epoch's objective is reported as an
    intermediate value. While the first trials fail one after another, they are not told of as failed: when their cause
    is one and the same, and none is left that may still show that trials can train here, they wait until it is gone.

    Parameters
    ----------
    study: the Optuna study; its trial 0 is the baseline.
    space: where settings are drawn from.
    folder: the search's folder, which names each trial's own.
    complete: fills in the settings that depend on the data.
    concurrent: trials at a time; the study is asked for the next one only when one of them has ended, so that
        nothing is drawn before it is known what the others showed.
    stopped_early: ids of Ray's trials that the scheduler ended; asked when a trial ends.
    rules: when a trial or the search has had enough.
    on_end: called with a trial's number when the study knows its end.
    on_repeat: called with a trial's number and its fault when it failed and is to come back.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        folder: SearchFolder,
        complete: Callable[[RunConfig], RunConfig],
        concurrent: int,
        stopped_early: Callable[[], set[str]],
        rules: Rules,
        on_end: Callable[[int], None],
        on_repeat: Callable[[int, str], None],
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._study, self._space, self._folder, self._complete = study, space, folder, complete
        self._concurrent, self._stopped_early, self._rules = concurrent, stopped_early, rules
        self._on_end, self._on_repeat = on_end, on_repeat
        self._live: dict[str, optuna.Trial] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._grid: Iterator[dict[str, Any]] | None = space.grid() if space.search.sampler == "grid" else None
        self._first_failures: list[tuple[optuna.Trial, str, Fault]] | None = [] if not _any_score(study) else None
        self._failures: list[tuple[int, str]] = []  # the last trials that failed in a row for one cause
        self.interrupted = False  # set it, and trials that end now are waiting, not stopped
        self.halted = ""  # why the search cannot go on
        self.exhausted = ""  # that nothing is left to be tried, before there are as many trials as were asked for
        self.broken: Exception | None = None  # what a write to the study, or what is told of it, failed with
        if not study.get_trials(deepcopy=False):
            self._enqueue_baseline()

    # Ray Tune's side

    def interrupt(self) -> None:
        """End the search in order: trials that end from now on are waiting, and no more are asked for."""
        self.interrupted = True

    def halt(self, reason: str) -> None:
        """End it in order because nothing good can come of going on."""
        self.halted = self.halted or reason
        self.interrupt()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles its searchers for a restore that is never made."""
        return {}

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """End the search in order when the study cannot be written: Ray swallows such an error, or buries it."""
        try:
            yield
        except Exception as error:
            self.broken = self.broken or error
            self.interrupt()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config; None for "not now", which is an answer only while a trial lives.

        While none does, Ray does nothing but ask again: it neither consults its stopper nor handles what happened.
        """
        config = None
        with self._guarded():
            config = self._suggest(trial_id)
        return config if config or self._live else self._finish()

    def _suggest(self, trial_id: str) -> dict[str, Any] | None:
        while self._room():
            trial = self._ask()
            if trial is None:
                return None  # one of those that still run may fail and be repeated
            settings, mistake = self._settings(trial)
            trial.set_user_attr("settings", settings)
            if mistake is None:
                return self._begin(trial_id, trial, settings)
            self._fail(trial, mistake)  # values that do not go together were drawn together
        return None

    def _room(self) -> bool:
        """Whether a trial may start now."""
        if self.interrupted or len(self._live) >= self._concurrent:
            return False
        if self._rules.over():  # time is up
            self.interrupt()
            return False
        return not (self._live and self._in_doubt())

    def _begin(self, trial_id: str, trial: optuna.Trial, settings: dict[str, Any]) -> dict[str, Any]:
        self._live[trial_id] = trial
        return {
            "number": trial.number,
            "baseline": trial.number == 0,
            "settings": settings,
            "folder": str(self._folder.trial(trial.number).path),
            "asked": time.time(),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch's objective to the study."""
        with self._guarded():
            self._on_result(trial_id, result)

    def _on_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial = self._live.get(trial_id)
        if trial is None or OBJECTIVE not in result:
            return
        if result["epoch"] <= self._results.get(trial.number, {}).get("epoch", 0):
            return  # Ray repeats a trial's last result when the trial ends
        self._results[trial.number] = result
        trial.report(result[OBJECTIVE], step=result["epoch"])
        self._tell_first_failures()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how a trial ended. The last result is new here when the scheduler stopped the trial."""
        with self._guarded():
            self._on_complete(trial_id, result or {}, error)

    def _on_complete(self, trial_id: str, result: dict[str, Any], error: bool) -> None:
        self._on_result(trial_id, result)
        trial = self._live.pop(trial_id, None)
        if trial is None:
            return
        self._rules.note_time()
        if spent := {name: result[f"spent_{name}"] for name in PHASES if f"spent_{name}" in result}:
            trial.set_user_attr(SPENT, {**spent, "micro_batch": result["micro_batch"]})
        if error or result.get("error"):
            reason, fault = result.get("error"), result.get("fault", TRANSIENT)
            self._failed(trial, reason or self._folder.trial(trial.number).fault() or LOST, fault)
        elif result.get("epoch", 0) >= result.get("epochs", 1):
            self._end(trial, TrialState.COMPLETE, result[OBJECTIVE])
        elif trial_id in self._stopped_early():
            self._end(trial, TrialState.PRUNED)
        elif reason := self._rules.stopped(trial_id):
            trial.set_user_attr(NOTE, reason)
            self._end(trial, TrialState.PRUNED)
        else:
            wait(self._study, trial._trial_id)
            self._on_end(trial.number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state, and it is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    def look_at_the_clock(self) -> None:
        """Note the time spent, now and then; end the search when it is used up."""
        with self._guarded():
            self._rules.note_time(_NOTE_EVERY_S)
            if self._rules.over():
                self.interrupt()

    def is_live(self, trial_id: str) -> bool:
        """Whether one of Ray's trials was asked for and has not ended."""
        return trial_id in self._live

    def is_baseline(self, trial_id: str) -> bool:
        """Whether one of Ray's trials is the baseline."""
        return trial_id in self._live and self._live[trial_id].number == 0

    # How trials end

    def _end(self, trial: optuna.Trial, state: TrialState, value: float | None = None) -> None:
        if state is not TrialState.FAIL:
            self._failures.clear()
        tell(self._study, trial.number, state, value)
        self._on_end(trial.number)

    def _fail(self, trial: optuna.Trial, reason: str, fault: Fault = SETTINGS) -> None:
        trial.set_user_attr(ERROR, reason)
        if fault == NONFINITE:
            trial.set_user_attr(DIVERGED, True)
        self._end(trial, TrialState.FAIL)
        if fault != NONFINITE:
            self._count_failure(trial.number, reason)

    def _count_failure(self, number: int, reason: str) -> None:
        """Give up when many in a row failed for one cause: the machine changed, and all that are left would be lost."""
        if self._failures and _cause(self._failures[-1][1]) != _cause(reason):
            self._failures.clear()
        self._failures.append((number, reason))
        if len(self._failures) >= _IN_A_ROW:
            first, last = self._failures[0][0], self._failures[-1][0]
            self.halt(f"{len(self._failures)} trials in a row (#{first} to #{last}) failed: {reason}")

    def _failed(self, trial: optuna.Trial, reason: str, fault: Fault) -> None:
        """A trial failed: it is repeated, or it ends, or nothing makes sense before the cause is gone."""
        catch_up(self._study, trial.number, self._folder.trial(trial.number))  # it may have died before it told
        repeats = [*self._study.trials[trial.number].user_attrs.get(REPEATS, ())]
        again = len(repeats) < self._space.search.retries
        if fault == DISK or (fault == PLACE and not again):
            self.halt(reason)
        if self.interrupted:
            wait(self._study, trial._trial_id)
            self._on_end(trial.number)
        elif fault in (TRANSIENT, PLACE) and again:
            trial.set_user_attr(REPEATS, [*repeats, reason])
            wait(self._study, trial._trial_id)
            self._on_repeat(trial.number, reason)
        elif self._first_failures is not None and fault != NONFINITE:  # a loss that is no number is the settings' fault
            self._first_failures.append((trial, reason, fault))
            self._judge_first_failures()
        else:
            self._fail(trial, reason, fault)

    def _judge_first_failures(self) -> None:
        """Before any trial reached a score: give up when several failed for one cause, and leave them waiting."""
        assert self._first_failures is not None
        causes = {_cause(reason) for _, reason, _ in self._first_failures}
        if len(causes) > 1:
            self._tell_first_failures()
        elif self._in_doubt() and not self._live:
            numbers = ", ".join(f"#{trial.number}" for trial, _, _ in self._first_failures)
            self.halt(f"the first trials ({numbers}) all failed: {self._first_failures[0][1]}")
            for trial, _, _ in self._first_failures:
                wait(self._study, trial._trial_id)
                self._on_end(trial.number)
            self._first_failures = None

    def _in_doubt(self) -> bool:
        """Whether several failed for one cause, and no more are tried before those that still run have shown more."""
        return len(self._first_failures or ()) >= _SAME_CAUSE

    def _tell_first_failures(self) -> None:
        failures, self._first_failures = self._first_failures or [], None
        for trial, reason, fault in failures:
            self._fail(trial, reason, fault)

    def _finish(self) -> str:
        """Note that no more trials come, and that none runs."""
        with self._guarded():
            if not self.interrupted:  # else they wait, as all that did not end
                self._tell_first_failures()
        return str(Searcher.FINISHED)

    # What is tried next

    def _ask(self) -> optuna.Trial | None:
        """The next trial, one that waits before a new one; None when there are as many as were asked for."""
        if not waiting(self._study):
            if self._rules.enough():
                return None
            if self._grid is not None:
                point = self._next_point(self._grid)
                if point is None:
                    return None
                self._study.enqueue_trial(point)
            elif isinstance(self._study.sampler, SpaceSampler) and self._study.sampler.exhausted(self._study):
                self.exhausted = "the space is exhausted: every configuration that can be run was tried"
                return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._study.ask()

    def _next_point(self, grid: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        trials = self._study.get_trials(deepcopy=False)
        known = {signature(trial.params) for trial in trials if WARM_START not in trial.user_attrs}
        return next((point for point in map(encode, grid) if signature(point) not in known), None)

    def _settings(self, trial: optuna.Trial) -> tuple[dict[str, Any], str | None]:
        """A trial's settings, those that it had before or newly drawn ones, and what is wrong with them."""
        kept = trial.user_attrs.get("settings")
        if kept is not None:
            # It may repeat epochs that the study knows already, if it died before its state was written.
            values = self._study.trials[trial.number].intermediate_values
            self._results[trial.number] = {"epoch": max(values, default=0)}
            return self._moved(kept, trial.number), None
        drawn = self._space.baseline.settings() if trial.number == 0 else {}
        if trial.number > 0 or self._space.locate(drawn) is not None:
            drawn |= self._space.draw(FromTrial(trial))
        try:
            return self._complete(RunConfig.from_settings(drawn)).settings(), None
        except InputError as error:
            return RunConfig.from_settings({}).settings() | drawn, error.mistakes[0]

    def _moved(self, settings: dict[str, Any], number: int) -> dict[str, Any]:
        """A trial's settings where data and machine are now, which is not where they were on another machine."""
        here = self._complete(self._space.baseline).settings()
        moved = settings | {name: here[name] for name in OF_THE_MACHINE}
        moved |= {"threads": here["threads"]} if self._space.baseline.threads else {}
        if not self._folder.trial(number).state.is_file():  # whose weights are those to go on with
            known = (*self._space.values_of("encoder_weights"), self._space.baseline.encoder_weights)
            moved["encoder_weights"] = _found_again(settings["encoder_weights"], known)
        return moved

    def _enqueue_baseline(self) -> None:
        point = self._space.locate(self._space.baseline.settings())
        # Outside the space, the first trial has no parameters in the study: the sampler learns nothing from it.
        self._study.enqueue_trial(encode(point or {}))


def _found_again(kept: str, known: Iterable[str]) -> str:
    """A trial's file of weights where the space has it now: under its name, and its path as far as that is relative."""
    file = weights_file(kept)
    if file is None or file.is_file():
        return kept
    same = [path for path in map(weights_file, known) if path is not None and path.name == file.name]
    return str(max(same, key=lambda path: kept.endswith(f"{os.sep}{path}"), default=file).absolute())


def _cause(reason: str) -> str:
    """What reasons have in common that differ in a number, of a trial or a process, alone."""
    return re.sub(r"\d+", "N", reason)


def _any_score(study: optuna.Study) -> bool:
    trials = study.get_trials(deepcopy=False)
    return any(trial.intermediate_values and WARM_START not in trial.user_attrs for trial in trials)
