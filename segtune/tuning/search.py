"""run_search(): a space -> a folder with trials and a winner."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.exceptions import StorageInternalError
from ray import tune
from ray.tune import FailureConfig, TuneConfig, Tuner
from ray.tune import RunConfig as RayRunConfig

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import Say
from segtune.data.splits import split_places
from segtune.errors import InputError, SegtuneError
from segtune.files.folders import SearchFolder
from segtune.machine import signals_noted
from segtune.models.weights import weights_file
from segtune.planning.feasibility import check_precision, possible_run
from segtune.planning.resources import Plan, make_plan
from segtune.planning.rungs import rungs
from segtune.space.space import Space
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.trials import Trial
from segtune.tuning.asha import Asha
from segtune.tuning.cluster import check_nodes, ray_runtime
from segtune.tuning.failures import LOST
from segtune.tuning.messages import RayMessages
from segtune.tuning.ray_hooks import Stop, Watch
from segtune.tuning.recovery import catch_up_all, check_drawn_from, reconcile
from segtune.tuning.results import Results
from segtune.tuning.retention import Retention
from segtune.tuning.sampler import build_sampler
from segtune.tuning.searcher import StudySearcher
from segtune.tuning.session import RayLost, ray_lost_is_raised
from segtune.tuning.stopping import Rules
from segtune.tuning.stored import store_space
from segtune.tuning.study import WARM_START, open_study, same_data, settle, trouble
from segtune.tuning.warm_start import tell_earlier
from segtune.tuning.worker import run_trial

_LOOK_EVERY_S = 10.0  # between looks at table and size of a search whose trials report


class Listener(Protocol):
    """Who wants to know how a search goes."""

    def started(self, plan: Plan, trials: list[Trial]) -> None:
        """The first trials are about to start."""

    def epoch(self, number: int, result: EpochResult) -> None:
        """A trial reported an epoch."""

    def ended(self, trial: Trial) -> None:
        """A trial ended."""

    def say(self, line: str) -> None:
        """Something else that the user should know."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    trials: list[Trial]
    folder: SearchFolder
    signal: int | None  # that interrupted it
    reason: str  # why it ended before its trials were used up
    halted: bool  # for a fault that another trial would meet as well


def run_search(
    space: Space,
    info: DataInfo,
    folder: SearchFolder,
    listener: Listener,
    address: str | None = None,
    resume: bool = False,
    warm_start: Sequence[Path] = (),
) -> Outcome:
    """Search a space that `check_space` accepted, on the data that `scan_data` saw.

    Everything lies in `folder`, which must not exist unless the search in it is to go on (`resume`): from its study
    and its trials' folders, in a fresh run of Ray Tune. Ray is started here and ended here, unless the process is
    connected to one already. Ended trials of the searches in `warm_start`, which `check_earlier` accepted, teach the
    sampler where they lie in this space. SIGINT and SIGTERM end the search in order: what runs is set back to waiting.
    SegtuneError when the study can no longer be written.
    """
    # Ray's messages last: those of its end are among them.
    with RayMessages() as messages, ray_runtime(address) as nodes:
        plan = make_plan(space.search, nodes, space.baseline.device)
        if address:
            check_precision(space, plan)
            check_nodes(folder.path.parent, _read(space.baseline))
        with _opened(folder, space, info, resume, listener.say) as study:
            messages.into(folder.ray_log)
            search = _Search(space, info, folder, study, plan, listener, messages)
            for line in tell_earlier(study, space, resolve(space.baseline, info), warm_start):
                listener.say(line)
            outcome = search.run()
    shutil.rmtree(folder.ray, ignore_errors=True)
    return outcome


def _read(config: RunConfig) -> list[Path]:
    """The folders and files that every trial reads, wherever it runs."""
    weights = weights_file(config.encoder_weights)
    return [*split_places(config).values(), *([weights] if weights else [])]


@contextmanager
def _opened(folder: SearchFolder, space: Space, info: DataInfo, resume: bool, say: Say) -> Iterator[optuna.Study]:
    """The folder, kept to this process, and its study, new or as an earlier start left it."""
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
        check_drawn_from(study, space, folder)
        for remark in reconcile(study, folder):
            say(remark)
        store_space(folder, study, space)
        yield study


@contextmanager
def _one_line(folder: SearchFolder) -> Iterator[None]:
    """Say in a line what a study that cannot be written means."""
    try:
        yield
    except StorageInternalError as error:
        raise SegtuneError(trouble(folder, error)) from None


class _Search:
    """One start of a search: the study's side, Ray's side, and what is told of both."""

    def __init__(
        self,
        space: Space,
        info: DataInfo,
        folder: SearchFolder,
        study: optuna.Study,
        plan: Plan,
        listener: Listener,
        messages: RayMessages,
    ) -> None:
        self._space, self._info, self._folder, self._study = space, info, folder, study
        self._plan, self._listener, self._messages = plan, listener, messages
        study.sampler = build_sampler(space, self._clash, known=len(study.get_trials(deepcopy=False)))
        self._results = Results(study, folder, space, info.fingerprint)
        self._retention = Retention(self._results, folder, space.search)
        self._rules = Rules(space.with_search({"trials": space.trials()}).search, study)
        self._look_at = 0.0  # by time.monotonic()
        self._threads, remark = trial_threads(space, study, plan)
        if remark:
            listener.say(remark)
        self._scheduler = _scheduler(space, study)
        self._searcher = StudySearcher(
            study,
            space,
            SearchFolder(folder.path.absolute()),  # a node's working directory is another
            lambda config: resolve(config.model_copy(update={"threads": self._threads}), info),
            plan.concurrent,
            lambda: self._scheduler.stopped if self._scheduler else set(),
            self._rules,
            self._ended,
            self._repeated,
        )

    def run(self) -> Outcome:
        """Run trials until there are enough, or until something ends the search."""
        trials = self._results.trials()
        for remark in self._results.remarks():
            self._listener.say(remark)
        self._listener.started(self._plan, trials)
        self._rules.note_end("")
        with signals_noted(self._searcher.interrupt) as interruption:
            try:
                with ray_lost_is_raised():
                    self._tuner().fit()
            except BaseException as error:  # a second Ctrl-C among them: nothing stays RUNNING
                with suppress(StorageInternalError):  # the disk may be what failed
                    settle(self._study, interrupted=True, reason=LOST)
                    self._rules.note_time()
                    self._retention.update()
                if isinstance(error, RayLost):
                    raise self._without_ray(error) from None
                raise
        settle(self._study, self._searcher.interrupted, LOST)
        if self._searcher.broken:
            raise self._searcher.broken
        self._rules.note_time()
        catch_up_all(self._study, self._folder)
        self._retention.update()
        if line := self._retention.without_model():
            self._listener.say(line)
        early = self._rules.why_over() or self._searcher.exhausted
        # What was interrupted goes on, whatever else was about to end it.
        self._rules.note_end("" if interruption or self._searcher.halted else early)
        return Outcome(
            self._results.trials(),
            self._folder,
            interruption[0] if interruption else None,
            self._searcher.halted or early,
            bool(self._searcher.halted),
        )

    def _without_ray(self, lost: RayLost) -> SegtuneError:
        self._messages.add(lost.logs)
        cause = f"Ray's {lost.process} died (killed by the system, or out of memory)"
        return SegtuneError(f"{cause}{self._messages.where()}; --resume goes on with the search")

    def _tuner(self) -> Tuner:
        trainable = tune.with_parameters(
            run_trial,
            info=self._info.light(),
            threads=self._threads,
            hang_time=self._space.search.hang_time,
        )
        return Tuner(
            tune.with_resources(trainable, self._plan.request()),
            tune_config=TuneConfig(
                search_alg=self._searcher,
                scheduler=self._scheduler,
                num_samples=-1,  # as many as the searcher wants: a trial that is repeated is one more for Ray
                reuse_actors=True,
            ),
            run_config=RayRunConfig(
                name="tune",
                storage_path=str(self._folder.ray.absolute()),
                verbose=0,
                callbacks=[Watch(self._epoch, self._searcher)],
                stop=Stop(self._searcher, self._rules),
                failure_config=FailureConfig(max_failures=0),
            ),
        )

    def _clash(self, settings: Mapping[str, Any]) -> str | None:
        """Why a point of the space cannot be run; None where it can."""
        try:
            possible_run(self._space, self._info, settings)
        except InputError as error:
            return error.mistakes[0]
        return None

    def _epoch(self, number: int, result: EpochResult) -> None:
        """A trial reported: now and then, have the table show it, and see what its files have grown to."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._results.write()
            self._check_size()
        if result.best_miou is not None:
            self._retention.follow(result.best_miou)
        self._listener.epoch(number, result)

    def _check_size(self) -> None:
        if problem := self._retention.too_large():
            self._searcher.halt(problem)

    def _ended(self, number: int) -> None:
        """The searcher's call when the study knows how a trial ended."""
        self._retention.update()
        if not self._rules.complete():  # else nothing is left to grow
            self._check_size()
        self._listener.ended(next(trial for trial in self._results.trials() if trial.number == number))

    def _repeated(self, number: int, reason: str) -> None:
        self._retention.update()
        where = self._messages.where() if reason == LOST else ""
        self._listener.say(f"#{number} is repeated: {reason}{where}")


def trial_threads(space: Space, study: optuna.Study, plan: Plan) -> tuple[int, str]:
    """The torch threads of every trial, and a line where it is not plain why: results depend on them.

    They are what the space says, else what the trials before had, else the cores of a trial.
    """
    own = (trial for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs)
    known = [trial.user_attrs["settings"].get("threads") for trial in own if "settings" in trial.user_attrs]
    given, before, cores = space.baseline.threads, known[-1] if known else None, plan.cpus_per_trial
    if given:
        return given, f"threads is {given} from here on, and was {before}" if before not in (None, given) else ""
    if before is None or before == cores:
        return cores, ""
    return before, (
        f"threads stays {before}, with which the trials so far were trained, though each has {cores} of the cores now; "
        f"--set threads={cores} changes it"
    )


def _scheduler(space: Space, study: optuna.Study) -> Asha | None:
    if space.search.scheduler == "none":
        return None
    asha = Asha(rungs(space)[0], space.search.reduction_factor, max(space.values_of("epochs")))
    for trial in study.get_trials(deepcopy=False):
        if WARM_START not in trial.user_attrs:
            asha.replay(trial.number, trial.intermediate_values, trial.state.is_finished())
    return asha
