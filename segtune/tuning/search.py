"""Run a search: from a space to a folder with trials and a winner."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import optuna
from optuna.exceptions import StorageInternalError

from segtune.config import RunConfig
from segtune.confirmed import Confirmation
from segtune.data.dataset import DataInfo
from segtune.data.splits import split_places
from segtune.errors import InputError, SegtuneError
from segtune.files.folders import SearchFolder
from segtune.machine import signals_noted
from segtune.models.build import initial_file
from segtune.models.pretrained import cached_file
from segtune.planning.feasibility import check_precision, why_impossible, with_weights_decided
from segtune.planning.first_runs import planned_runs
from segtune.planning.resources import Plan, local_resources, make_plan, trial_threads
from segtune.remarks import Say
from segtune.space.space import Space
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.trials import Trial, ranked
from segtune.tuning.cluster import check_nodes, ray_runtime
from segtune.tuning.confirm import AS_SET, Asked, Confirming
from segtune.tuning.confirm_looks import check_groups, no_look, trials_search
from segtune.tuning.failures import LOST
from segtune.tuning.feed import Backend
from segtune.tuning.finals import Finals
from segtune.tuning.in_process import InProcess
from segtune.tuning.promotion import make_promotion
from segtune.tuning.proposals import Planned, Proposals
from segtune.tuning.ray_backend import OnRay
from segtune.tuning.ray_messages import RayMessages
from segtune.tuning.recovery import catch_up_all, check_drawn_from, reconcile
from segtune.tuning.results import Results, with_intervals
from segtune.tuning.retention import Retention
from segtune.tuning.sampler import build_sampler
from segtune.tuning.search_yaml import store_space
from segtune.tuning.searcher import Searcher
from segtune.tuning.stopping import Cause, EarlyEnd, Rules
from segtune.tuning.study import open_study, same_data, same_folds, settle, threads_so_far, trouble
from segtune.tuning.warm_start import tell_earlier

_NO_ROOM = "its state would have taken the folder above disk_gb"
_LOOK_EVERY_S = 10.0  # seconds between updates of the table and checks of the folder's size


class Listener(Protocol):
    """Receives what happens in a search."""

    def started(self, plan: Plan, trials: list[Trial]) -> None:
        """Receive the plan and the known trials, before the first trial starts."""

    def epoch(self, number: int, result: EpochResult) -> None:
        """Receive an epoch of a trial."""

    def ended(self, trial: Trial) -> None:
        """Receive a trial that ended, paused or was interrupted."""

    def say(self, line: str) -> None:
        """Receive another message for the user."""


@dataclass(frozen=True)
class Outcome:
    """The end of a search."""

    trials: list[Trial]
    folder: SearchFolder
    signal: int | None  # the signal that interrupted it
    early: EarlyEnd | None  # why it ended before it had as many trials as requested
    confirmation: Confirmation | None = None  # of its winner, as far as there is one

    @property
    def halted(self) -> bool:
        """Return whether it ended because of a fault that would hit the next trial as well."""
        return self.early is not None and self.early.cause is Cause.FAULT


def run_search(
    space: Space,
    info: DataInfo,
    folder: SearchFolder,
    listener: Listener,
    address: str | None = None,
    resume: bool = False,
    warm_start: Sequence[Path] = (),
    in_process: bool = False,
    confirm: Asked = AS_SET,
) -> Outcome:
    """Search a space that `check_space` accepted, on the data that `scan_data` read; confirm the winner at the end.

    Parameters
    ----------
    space, info: what is searched, and the scan of its data.
    folder: the search's folder; must not exist unless the search in it continues.
    listener: receives what happens.
    address: the Ray cluster to join; None starts Ray here, unless the process is already connected to one.
    resume: continue the search in the folder, from its study and its trials' folders.
    warm_start: folders of earlier searches that `check_earlier` accepted; their trials teach the sampler.
    in_process: run the trials one after another in this process, without Ray.
    confirm: what the user asked for beside the setting `confirm`; `alone` does not go on with the search.

    SIGINT and SIGTERM end the search in order: running trials are set back to waiting. Raises InputError where the
    folder or the cluster cannot be used, and SegtuneError when the study can no longer be written.
    """
    space = with_weights_decided(space, say=listener.say)  # check_space has done it already
    check_groups(space, info)
    if in_process:
        one = space.search.model_copy(update={"max_concurrent": 1})
        plan = make_plan(one, [local_resources()], space.baseline.device)
        with _opened(folder, space, info, resume, listener.say, confirm) as study:
            listener.say("trials run in this process, one at a time, without Ray")
            search = _Search(space, info, folder, study, plan, listener, warm_start, confirm)
            return search.run(InProcess(_sent(space, info), plan, search.threads))
    # RayMessages is closed last: Ray writes messages when it ends.
    with RayMessages() as messages, ray_runtime(address) as nodes:
        plan = make_plan(space.search, nodes, space.baseline.device)
        if address:
            check_precision(space, plan)
            check_nodes(folder.path.parent, split_places(space.baseline).values(), _initial_files(space))
        with _opened(folder, space, info, resume, listener.say, confirm) as study:
            messages.into(folder.ray_log)
            search = _Search(space, info, folder, study, plan, listener, warm_start, confirm, messages)
            outcome = search.run(
                OnRay(_sent(space, info), plan, search.threads, space.search.hang_time, folder, messages)
            )
    shutil.rmtree(folder.ray, ignore_errors=True)
    return outcome


def _initial_files(space: Space) -> list[Path]:
    """Return the files of initial weights that trials read, wherever they run."""
    starts = space.combinations("encoder", "encoder_weights")
    files = (initial_file(*start) or (cached_file(start[0]) if start[1] == "imagenet" else None) for start in starts)
    return list(dict.fromkeys(filter(None, files)))


def _sent(space: Space, info: DataInfo) -> DataInfo:
    """Return what every trial gets to know of the data."""
    rare, pasted = (
        value in (*space.values_of(name), getattr(space.baseline, name))
        for name, value in (("oversample", "rare"), ("mix", "copy_paste"))
    )
    return info.light(with_holders=rare or pasted)


@contextmanager
def _opened(
    folder: SearchFolder, space: Space, info: DataInfo, resume: bool, say: Say, asked: Asked
) -> Iterator[optuna.Study]:
    """Lock the folder for this process, and yield its study, new or as an earlier start left it.

    A confirmation alone leaves the stored space as it is.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=resume)
    except FileExistsError:
        raise InputError(f"{folder.path}: this search exists; --resume goes on with it") from None
    with folder.locked(), _one_line(folder):
        study = open_study(folder, folder.path.name)
        if not same_data(study, info.fingerprint):
            raise InputError(
                f"{space.baseline.dataset}: the data changed since {folder.path} was started; "
                f"--name starts another search"
            )
        if info.folds and not same_folds(study, info.folds):
            raise InputError(
                f"search.confirm.group: deals the tiles to other folds than those that {folder.path} was started with; "
                f"--name starts another search"
            )
        check_drawn_from(study, space, folder)
        for remark in reconcile(study, folder):
            say(remark)
        if not asked.alone:
            store_space(folder, study, space)
        yield study


@contextmanager
def _one_line(folder: SearchFolder) -> Iterator[None]:
    """Turn an error of the study's storage into a SegtuneError of one line."""
    try:
        yield
    except StorageInternalError as error:
        raise SegtuneError(trouble(folder, error)) from None


class _Search:
    """One start of a search: its study, its files, and what the listener is told."""

    def __init__(
        self,
        space: Space,
        info: DataInfo,
        folder: SearchFolder,
        study: optuna.Study,
        plan: Plan,
        listener: Listener,
        warm_start: Sequence[Path],
        confirm: Asked = AS_SET,
        messages: RayMessages | None = None,
    ) -> None:
        self._space, self._info, self._asked = space, info, confirm
        self._folder, self._study, self._plan = folder, study, plan
        self._listener, self._messages = listener, messages
        self._results = Results(study, folder, space, info.fingerprint)
        self._retention = Retention(self._results, folder, space.search)
        self._rules = Rules(trials_search(space, info), study)
        self._look_at = 0.0  # by time.monotonic()
        self._making_room = False  # trials that are stopped for it call `ended`
        self.threads, remark = trial_threads(space.baseline.threads, threads_so_far(study), plan.cpus_per_trial)
        if remark:
            listener.say(remark)
        self._absolute = SearchFolder(folder.path.absolute())  # nodes have another working directory
        self._finals = Finals(
            space, self._absolute, self._resolved, plan.concurrent, self._retention, self._rules, listener.say
        )
        self._searcher = self._make_searcher(space, info)
        for line in tell_earlier(study, space, resolve(space.baseline, info), warm_start):
            listener.say(line)

    def _make_searcher(self, space: Space, info: DataInfo) -> Searcher:
        study, folder, resolved = self._study, self._absolute, self._resolved
        study.sampler = build_sampler(space, partial(why_impossible, space, info))
        scheduler = make_promotion(space, study)
        proposals = Proposals(study, space, folder, resolved, self._planned(space, info))
        return Searcher(
            study, folder, proposals, self._plan.concurrent, space.search.retries, scheduler, self._rules, watcher=self
        )

    def _resolved(self, config: RunConfig) -> RunConfig:
        gpus = max(1, int(self._plan.gpus_per_trial))
        return resolve(config.model_copy(update={"threads": self.threads, "gpus": gpus}), self._info)

    def _planned(self, space: Space, info: DataInfo) -> list[Planned]:
        """Return what a new search tries after its baseline, and say so."""
        if self._study.get_trials(deepcopy=False) or space.search.sampler == "grid":
            return []
        runs = planned_runs(space, info)
        self._listener.say(str(runs))
        return [Planned("portfolio", point) for point in runs.points]

    def run(self, backend: Backend) -> Outcome:
        """Search, unless only a confirmation is asked for, and confirm the winner of a search that ended."""
        unseen = self._asked.test_again or not self._results.looks()
        if unseen and (self._asked.alone or self._space.search.confirms()) and (line := no_look(self._space)):
            self._listener.say(line)
        if self._asked.alone:
            self._listener.say(str(self._plan))
            self._retention.update()
            outcome = Outcome(self._results.trials(), self._folder, None, None)
        else:
            outcome = self._search(backend)
        trained = not (outcome.signal or outcome.halted)
        if trained:
            outcome = self._confirm(backend, outcome)
        if trained and self._space.search.folds and not outcome.signal:  # also where the confirmation went wrong
            outcome = self._give_model(backend, outcome)
        return replace(outcome, trials=with_intervals(outcome.trials, self._folder))

    def _give_model(self, backend: Backend, outcome: Outcome) -> Outcome:
        """Train the winner of a search with folds to have a model of it, unless that is done."""
        ended = self._finals.train(backend, ranked(outcome.trials)[:1])
        early = outcome.early if outcome.halted else ended.early or outcome.early
        return replace(outcome, signal=ended.signal, early=early)

    def _confirm(self, backend: Backend, outcome: Outcome) -> Outcome:
        """Confirm the winner, and return the end of the search with that of the confirmation."""
        confirming = Confirming(
            self._space,
            self._info,
            self._absolute,
            self._resolved,
            self._plan,
            self._results,
            self._retention,
            self._rules,
            self._finals,
            self._asked,
            self._listener.say,
        )
        ended = confirming.run(backend)
        early = ended.early or outcome.early
        outcome = replace(outcome, signal=ended.signal, early=early)
        outcome = replace(outcome, trials=self._results.trials(), confirmation=self._results.confirmation)
        if not self._asked.alone:
            self._rules.note_end(None if outcome.signal or outcome.halted else early)
        return outcome

    def _search(self, backend: Backend) -> Outcome:
        """Run trials until there are enough, or until something else ends the search."""
        trials = self._results.trials()
        for remark in self._results.remarks():
            self._listener.say(remark)
        self._listener.started(self._plan, trials)
        self._rules.note_end(None)
        with signals_noted(self._searcher.interrupt) as interruption:
            try:
                backend.run(self._searcher)
            except BaseException:  # also a second Ctrl-C: nothing stays RUNNING
                with suppress(StorageInternalError):  # the disk may have failed
                    settle(self._study, interrupted=True, reason=LOST)
                    self._rules.note_time()
                    self._retention.update()
                raise
        settle(self._study, self._searcher.interrupted, LOST)
        if self._searcher.error:
            raise self._searcher.error
        self._rules.note_time()
        catch_up_all(self._study, self._folder)
        self._retention.update()
        if line := self._retention.without_model():
            self._listener.say(line)
        outcome = Outcome(
            self._results.trials(),
            self._folder,
            interruption[0] if interruption else None,
            self._searcher.early_end(),
        )
        # An interrupted search can continue, whatever else was about to end it.
        self._rules.note_end(None if interruption or outcome.halted else outcome.early)
        return outcome

    # The searcher's calls

    def epoch(self, number: int, result: EpochResult) -> None:
        """Record an epoch; now and then, update the table and check the folder's size."""
        self._results.report(number, result)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._results.write()
            self._check_size()
        if result.best_score is not None:
            self._retention.follow(result.best_score)
        self._listener.epoch(number, result)

    def ended(self, number: int) -> None:
        """Bring the files up to date, and tell the listener."""
        self._retention.update()
        if not self._rules.complete():  # otherwise nothing is left to grow
            self._check_size()
        self._listener.ended(next(trial for trial in self._results.trials() if trial.number == number))

    def repeated(self, number: int, reason: str) -> None:
        """Bring the files up to date, and say why a trial is repeated."""
        self._retention.update()
        line = f"#{number} is repeated: {reason}"
        self._listener.say(self._messages.pointed_to(line) if self._messages and reason == LOST else line)

    def _check_size(self) -> None:
        """Keep the folder below `disk_gb`: weights go first, then the worst paused trials; then the search stops."""
        if self._making_room:
            return
        self._making_room = True
        problem = self._retention.too_large()
        while problem and self._searcher.give_up_worst(_NO_ROOM):
            problem = self._retention.too_large()
        self._making_room = False
        if problem:
            self._searcher.halt(problem)
