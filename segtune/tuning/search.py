"""run_search(): a space -> a folder with trials and a winner."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import optuna
import ray
import yaml
from ray import tune
from ray.tune import Callback, FailureConfig, TuneConfig, Tuner
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
from segtune.tuning.searcher import StudySearcher, open_study, same_data, settle
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
    # A trial that got no GPU sees none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


class Listener(Protocol):
    """Who wants to know how a search goes."""

    def started(self, plan: Plan, trials: list[Trial]) -> None:
        """The first trials are about to start."""

    def epoch(self, number: int, result: dict[str, Any]) -> None:
        """A trial reported an epoch."""

    def ended(self, trial: Trial) -> None:
        """A trial ended."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    trials: list[Trial]
    folder: SearchFolder
    signal: int | None  # that interrupted it


def check_space(space: Space, address: str | None = None) -> None:
    """Refuse what cannot work, before anything is written: InputError with every mistake.

    With an address, the resources are another machine's, and are looked at when the search joins it.
    """
    baseline = space.baseline
    mistakes = _clashes(space, [*space.values_of("image_size"), baseline.image_size])
    if ":" in baseline.device:
        mistakes.append(f"device: a search shares the GPUs out itself; cuda or auto, not {baseline.device}")
    if mistakes:
        raise InputError(f"{space.path}: {mistake}" for mistake in mistakes)
    if not address:
        plan = make_plan(space.search, local_resources(), baseline.device)
        if not plan.gpus_per_trial and "fp16" in (*space.values_of("precision"), baseline.precision):
            raise InputError(f"{space.path}: precision: fp16 needs a GPU, and trials get none")
    encoders = [*space.values_of("encoder")] if "imagenet" in space.values_of("encoder_weights") else []
    if baseline.encoder_weights == "imagenet":
        encoders.append(baseline.encoder)
    for encoder in dict.fromkeys(encoders):
        fetch_weights(encoder)


def scan_data(space: Space, progress: Progress | None = None) -> DataInfo:
    """Scan the data set with every channel that a trial may use; InputError with every mistake."""
    baseline = space.baseline
    channels = [*baseline.channels, *(name for names in space.values_of("channels") for name in names)]
    info = scan(baseline, list(dict.fromkeys(channels)), progress)
    sizes = [size or info.image_size() for size in (*space.values_of("image_size"), baseline.image_size)]
    if mistakes := _clashes(space, sizes):
        raise InputError(f"{space.path}: {mistake}" for mistake in mistakes)
    return info


def _clashes(space: Space, sizes: Sequence[int | None]) -> list[str]:
    """Architectures, encoders and sizes of the space that do not go together."""
    baseline = space.baseline
    found = check_models(space.values_of("model"), space.values_of("encoder"), list(dict.fromkeys(sizes)))
    found += check_models([baseline.model], [baseline.encoder], [baseline.image_size or sizes[-1]])
    return list(dict.fromkeys(found))


def run_search(
    space: Space,
    info: DataInfo,
    folder: SearchFolder,
    listener: Listener,
    address: str | None = None,
    resume: bool = False,
) -> Outcome:
    """Search a space that `check_space` accepted, on the data that `scan_data` saw.

    Everything lies in `folder`, which must not exist unless the search in it is to go on (`resume`): from its study
    and its trials' folders, in a fresh run of Ray Tune. Ray is started here and ended here, unless the process is
    connected to one already. SIGINT and SIGTERM end the search in order: what runs is set back to waiting.
    """
    with _ray(address) as resources:
        plan = make_plan(space.search, resources, space.baseline.device)
        study = _open(folder, space, info, resume)
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
        listener.started(plan, results.trials())
        with _signals(searcher) as interruption:
            try:
                _tuner(info, folder, plan, searcher, scheduler, watch, space.search.trials).fit()
            except BaseException:  # a second Ctrl-C among them: nothing stays RUNNING
                settle(study, interrupted=True)
                results.update()
                raise
        settle(study, bool(interruption))
        results.update()
    shutil.rmtree(folder.ray, ignore_errors=True)
    return Outcome(results.trials(), folder, interruption[0] if interruption else None)


def _open(folder: SearchFolder, space: Space, info: DataInfo, resume: bool) -> optuna.Study:
    """The folder's study, new or as an earlier start left it."""
    _create(folder, space, resume)
    study = open_study(folder, folder.path.name, space.search)
    if not same_data(study, info.fingerprint):
        raise InputError(
            f"{space.baseline.dataset}: the data changed since {folder.path} was started; --name starts another search"
        )
    settle(study, interrupted=True)
    return study


def _tuner(
    info: DataInfo,
    folder: SearchFolder,
    plan: Plan,
    searcher: StudySearcher,
    scheduler: Asha | None,
    watch: _Watch,
    trials: int,
) -> Tuner:
    trainable = tune.with_parameters(run_trial, info=info, threads=plan.cpus_per_trial)
    return Tuner(
        tune.with_resources(trainable, plan.request()),
        tune_config=TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=trials, reuse_actors=True),
        run_config=RayRunConfig(
            name="tune",
            storage_path=str(folder.ray.absolute()),
            verbose=0,
            callbacks=[watch],
            stop=_StopOnSignal(searcher),
            failure_config=FailureConfig(max_failures=0),
        ),
    )


class _Watch(Callback):  # type: ignore[misc]
    """Tells the listener, and keeps the results on disk current, as trials report and end."""

    def __init__(self, results: Results, listener: Listener) -> None:
        self._results, self._listener = results, listener

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
        self._listener.ended(next(trial for trial in self._results.trials() if trial.number == number))


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


def _create(folder: SearchFolder, space: Space, resume: bool) -> None:
    try:
        folder.path.mkdir(parents=True, exist_ok=resume)
    except FileExistsError:
        raise InputError(f"{folder.path}: this search exists; --resume goes on with it") from None
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
            try:
                ray.init(address=address, runtime_env={"env_vars": _ENVIRONMENT}, **quiet)
            except (ConnectionError, ValueError) as error:
                raise InputError(f"--address {address}: no Ray cluster answers there ({error})") from None
        else:
            local = local_resources()
            # "local": not a cluster that someone else runs on this machine.
            ray.init(
                address="local",
                num_cpus=int(local["CPU"]),
                num_gpus=int(local["GPU"]),
                include_dashboard=False,
                **quiet,
            )
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
