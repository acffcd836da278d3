"""run_search(): a space -> a folder with trials and a winner."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import optuna
import ray
import yaml
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, TuneConfig, Tuner
from ray.tune import RunConfig as RayRunConfig
from ray.tune.stopper import Stopper

from segtune.data.scan import DataInfo, Progress, scan
from segtune.errors import InputError
from segtune.folders import SearchFolder, write_text
from segtune.models import check_models, fetch_weights
from segtune.space import Space
from segtune.train import resolve
from segtune.trials import Trial
from segtune.tuning.asha import OBJECTIVE, Asha, grace_period
from segtune.tuning.resources import Plan, local_resources, make_plan
from segtune.tuning.results import Results
from segtune.tuning.searcher import StudySearcher, open_study, settle
from segtune.tuning.trial import run_trial

# Ray reads these when it is imported or initialised, here and in its workers.
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also serves SIGTERM
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports its error alone
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # Ray's own state is not what a search goes on from
    "TUNE_WARN_THRESHOLD_S": "60",
    # A stopped trial's thread may be in the middle of its clean-up; after 2 s (Ray's default) the next trial of
    # the same process would be lost.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


class Listener(Protocol):
    """Who wants to know how a search goes."""

    def started(self, plan: Plan, trials: list[Trial]) -> None:
        """The first trials are about to start."""

    def epoch(self, number: int, result: dict[str, Any]) -> None:
        """A trial reported an epoch."""

    def ended(self, trial: Trial, running: int, trials: list[Trial]) -> None:
        """A trial ended."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    trials: list[Trial]
    folder: SearchFolder
    signal: int | None  # that interrupted it


def check_search(space: Space, progress: Progress | None = None) -> DataInfo:
    """Refuse what cannot work, before anything is written: InputError with every mistake. Scans the data."""
    baseline = space.baseline
    mistakes = check_models(*(space.values_of(name) for name in ("model", "encoder", "image_size")))
    mistakes += check_models([baseline.model], [baseline.encoder], [baseline.image_size])
    if mistakes:
        raise InputError([f"{space.path}: {mistake}" for mistake in dict.fromkeys(mistakes)])
    if "imagenet" in space.values_of("encoder_weights"):
        for encoder in space.values_of("encoder"):
            fetch_weights(encoder)
    if baseline.encoder_weights == "imagenet":
        fetch_weights(baseline.encoder)
    make_plan(space.search, local_resources(), baseline.device)
    channels = [name for names in space.values_of("channels") for name in names]
    return scan(baseline, list(dict.fromkeys([*baseline.channels, *channels])), progress)


def run_search(
    space: Space,
    info: DataInfo,
    folder: SearchFolder,
    listener: Listener,
    address: str | None = None,
    resume: bool = False,
) -> Outcome:
    """Search a space that `check_search` accepted.

    Everything lies in `folder`, which must not exist unless the search in it is to go on (`resume`): from its study
    and its trials' folders, in a fresh run of Ray Tune. Ray is started here and ended here, unless the process is
    connected to one already. SIGINT and SIGTERM end the search in order: what runs is set back to waiting.
    """
    with _ray(address) as resources:
        plan = make_plan(space.search, resources, space.baseline.device)
        if not (resume and folder.study_db.exists()):
            _create(folder, space)
        study = open_study(folder, folder.path.name, space.search)
        settle(study, interrupted=True)
        results = Results(study, folder, space, info.fingerprint)
        scheduler = _scheduler(space, study)
        watch = _Watch(results, listener)
        searcher = StudySearcher(
            study,
            space,
            folder,
            lambda config: resolve(config, info),
            plan.concurrent,
            lambda: scheduler.stopped if scheduler else set(),
            watch.ended,
        )
        watch.searcher = searcher
        listener.started(plan, results.trials())
        with _signals(searcher) as interruption:
            trainable = tune.with_resources(
                tune.with_parameters(run_trial, info=info, threads=plan.cpus_per_trial), plan.request()
            )
            Tuner(
                trainable,
                tune_config=TuneConfig(
                    search_alg=searcher, scheduler=scheduler, num_samples=space.search.trials, reuse_actors=True
                ),
                run_config=RayRunConfig(
                    name="tune",
                    storage_path=str(folder.ray.absolute()),
                    verbose=0,
                    callbacks=[watch],
                    stop=_StopOnSignal(searcher),
                    failure_config=FailureConfig(max_failures=0),
                    checkpoint_config=CheckpointConfig(),
                ),
            ).fit()
        settle(study, bool(interruption))
        results.update()
    shutil.rmtree(folder.ray, ignore_errors=True)
    return Outcome(results.trials(), folder, interruption[0] if interruption else None)


class _Watch(Callback):  # type: ignore[misc]
    """Tells the listener, and keeps the results on disk current, as trials report and end."""

    def __init__(self, results: Results, listener: Listener) -> None:
        self._results, self._listener = results, listener
        self.searcher: StudySearcher | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its callbacks for a restore that is never made; a terminal cannot be pickled.
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Ray's call when a trial reported."""
        if OBJECTIVE in result:
            self._listener.epoch(trial.config["number"], result)

    def ended(self, number: int) -> None:
        """The searcher's call when the study knows how a trial ended."""
        self._results.update()
        trials = self._results.trials()
        running = self.searcher.live() if self.searcher else 0
        self._listener.ended(next(trial for trial in trials if trial.number == number), running, trials)


class _StopOnSignal(Stopper):  # type: ignore[misc]
    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._searcher.interrupted


def _scheduler(space: Space, study: optuna.Study) -> Asha | None:
    if space.search.scheduler == "none":
        return None
    epochs = max(space.values_of("epochs"))
    warmup = max(space.values_of("warmup_epochs"))
    asha = Asha(grace_period(space.search, epochs, warmup), space.search.reduction_factor, epochs)
    for trial in study.get_trials(deepcopy=False):
        asha.replay(trial.number, trial.intermediate_values)
    return asha


def _create(folder: SearchFolder, space: Space) -> None:
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder.path}: this search exists; --name gives the new one another name") from None
    write_text(folder.search_yaml, yaml.safe_dump(space.dump(), sort_keys=False, allow_unicode=True))


@contextmanager
def _ray(address: str | None) -> Iterator[dict[str, float]]:
    """A Ray runtime, quiet and of this process's share of the machine; gives its resources."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ours = not ray.is_initialized()
    if ours:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address:
            ray.init(address=address, runtime_env={"env_vars": _ENVIRONMENT}, **quiet)
        else:
            local = local_resources()
            ray.init(num_cpus=int(local["CPU"]), num_gpus=int(local["GPU"]), include_dashboard=False, **quiet)
    try:
        yield ray.cluster_resources()
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _signals(searcher: StudySearcher) -> Iterator[list[int]]:
    """Let the first SIGINT or SIGTERM end the search in order; a second Ctrl-C ends it at once."""
    caught: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        searcher.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
