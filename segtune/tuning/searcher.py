"""Optuna's ask and tell under Ray Tune: what is tried next, and what becomes of it in the study."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.folders import SearchFolder
from segtune.space import Choice, Range, SearchSettings, Space
from segtune.tuning.asha import OBJECTIVE

_STARTUP_TRIALS = 10  # random ones before TPE models anything; Optuna's own default
_LEAST_STARTUP_TRIALS = 4
_SEED_STEP = 1_000_003
LOST = "the worker process died (killed by the system, or out of memory)"

Ended = Callable[[int], None]


def build_sampler(search: SearchSettings, known: int = 0) -> BaseSampler:
    """The sampler by its name; a grid is enqueued point by point and needs none.

    `known` trials are in the study already: with the seed of the first start they would be drawn once more.
    """
    seed = (search.seed + known * _SEED_STEP) % 2**32
    if search.sampler != "tpe":
        return RandomSampler(seed=seed)
    startup = max(_LEAST_STARTUP_TRIALS, min(_STARTUP_TRIALS, search.trials // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Multivariate TPE in groups (Falkner et al. 2018, arXiv:1807.01774, for the multivariate kernel): settings
        # of an optimizer's own are modelled together where they occur, not drawn at random.
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the study for trials and tells it how they ended.

    A trial of the study becomes COMPLETE only when it used its budget of epochs, PRUNED when the scheduler stopped
    it, FAIL when it failed, and WAITING when the search was interrupted: asked again, it comes back with its
    number, its settings and its values. Every epoch's objective is reported as an intermediate value.

    Parameters
    ----------
    study: the Optuna study; its trial 0 is the baseline.
    space: where settings are drawn from.
    folder: the search's folder, which names each trial's own.
    complete: fills in the settings that depend on the data.
    concurrent: trials at a time; the study is asked for the next one only when one of them has ended, so that
        nothing is drawn before it is known what the others showed.
    stopped_early: ids of Ray's trials that the scheduler ended; asked when a trial ends.
    on_end: called with a trial's number when the study knows its end.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        folder: SearchFolder,
        complete: Callable[[RunConfig], RunConfig],
        concurrent: int,
        stopped_early: Callable[[], set[str]],
        on_end: Ended,
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._study, self._space, self._folder, self._complete = study, space, folder, complete
        self._concurrent, self._stopped_early, self._on_end = concurrent, stopped_early, on_end
        self._live: dict[str, optuna.Trial] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._grid: Iterator[dict[str, Any]] | None = space.grid() if space.search.sampler == "grid" else None
        self.interrupted = False  # set it, and trials that end now are waiting, not stopped
        if not study.get_trials(deepcopy=False):
            self._enqueue_baseline()

    # Ray Tune's side

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles its searchers for a restore that is never made."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config; None for "not now"."""
        if self.interrupted or len(self._live) >= self._concurrent:
            return None
        trial = self._ask()
        if trial is None:
            return str(Searcher.FINISHED)
        settings, mistake = self._settings(trial)
        trial.set_user_attr("settings", settings)
        if mistake:  # values that do not go together were drawn together
            self._fail(trial, mistake)
            self._on_end(trial.number)
            return None
        self._live[trial_id] = trial
        return {
            "number": trial.number,
            "baseline": trial.number == 0,
            "settings": settings,
            "folder": str(self._folder.trial(trial.number).path),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch's objective to the study."""
        trial = self._live.get(trial_id)
        if trial is None or OBJECTIVE not in result:
            return
        if result["epoch"] <= self._results.get(trial.number, {}).get("epoch", 0):
            return  # Ray repeats a trial's last result when the trial ends
        self._results[trial.number] = result
        trial.report(result[OBJECTIVE], step=result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how a trial ended. The last result is new here when the scheduler stopped the trial."""
        result = result or {}
        self.on_trial_result(trial_id, result)
        trial = self._live.pop(trial_id, None)
        if trial is None:
            return
        if error or result.get("error"):
            self._fail(trial, result.get("error") or LOST)
        elif result.get("epoch", 0) >= result.get("epochs", 1):
            self._study.tell(trial, result[OBJECTIVE])
        elif trial_id in self._stopped_early():
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            wait(self._study, trial._trial_id)
        self._on_end(trial.number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state, and it is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    # The study's side

    def _ask(self) -> optuna.Trial | None:
        """The next trial, one that waits before a new one; None when there are as many as were asked for."""
        if not waiting(self._study):
            if len(self._study.get_trials(deepcopy=False)) >= self._space.search.trials:
                return None
            if self._grid is not None:
                point = self._next_point(self._grid)
                if point is None:
                    return None
                self._study.enqueue_trial(point)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._study.ask()

    def _next_point(self, grid: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        known = [trial.params for trial in self._study.get_trials(deepcopy=False)]
        return next((point for point in map(encode, grid) if point not in known), None)

    def _settings(self, trial: optuna.Trial) -> tuple[dict[str, Any], str | None]:
        """A trial's settings, those that it had before or newly drawn ones, and what is wrong with them."""
        kept = trial.user_attrs.get("settings")
        if kept is not None:
            # It may repeat epochs that the study knows already, if it died before its state was written.
            values = self._study.trials[trial.number].intermediate_values
            self._results[trial.number] = {"epoch": max(values, default=0)}
            return dict(kept), None
        drawn = self._space.baseline.settings() if trial.number == 0 else {}
        if trial.number > 0 or self._space.locate(drawn) is not None:
            drawn |= self._space.draw(_Draw(trial))
        try:
            return self._complete(RunConfig.from_settings(drawn)).settings(), None
        except InputError as error:
            return RunConfig.from_settings({}).settings() | drawn, error.mistakes[0]

    def _enqueue_baseline(self) -> None:
        point = self._space.locate(self._space.baseline.settings())
        # Outside the space, the first trial has no parameters in the study: the sampler learns nothing from it.
        self._study.enqueue_trial(encode(point or {}))

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("error", reason)
        self._study.tell(trial, state=TrialState.FAIL)


class _Draw:
    """Draws a space's parameters from an Optuna trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choice(self, parameter: Choice) -> int:
        """The index of the value drawn."""
        values = [_category(value) for value in parameter.values]
        return values.index(self._trial.suggest_categorical(parameter.key, values))

    def number(self, parameter: Range) -> float | int:
        """The number drawn, an int where the setting is one."""
        if parameter.integer:
            return self._trial.suggest_int(
                parameter.key, int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
            )
        return self._trial.suggest_float(
            parameter.key, parameter.low, parameter.high, log=parameter.log, step=parameter.step
        )


def encode(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the space as the study keeps it."""
    return {key: _category(value) for key, value in point.items()}


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that the next `ask` brings (back)."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def wait(study: optuna.Study, trial_id: int) -> None:
    """Set a running trial back to WAITING; `ask` returns it with number, parameters and values."""
    study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def settle(study: optuna.Study, interrupted: bool) -> None:
    """Leave nothing RUNNING in a search that ended: what no one told of is waiting, or was lost."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if interrupted:
            wait(study, trial._trial_id)
        else:
            study._storage.set_trial_user_attr(trial._trial_id, "error", LOST)
            study.tell(trial.number, state=TrialState.FAIL)


def open_study(folder: SearchFolder, name: str, search: SearchSettings) -> optuna.Study:
    """The search's study, made where there is none yet."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{folder.study_db}", study_name=name, direction="maximize", load_if_exists=True
    )
    study.sampler = build_sampler(search, known=len(study.get_trials(deepcopy=False)))
    return study


def same_data(study: optuna.Study, fingerprint: str) -> bool:
    """Whether the study's trials were trained on this data; a new study takes note of it."""
    known = study.user_attrs.get("fingerprint")
    if known is None:
        study.set_user_attr("fingerprint", fingerprint)
    return known in (None, fingerprint)


def _category(value: Any) -> Any:
    # Optuna's categories are scalars; a list (of channels) is kept as its text.
    return json.dumps(value) if isinstance(value, list) else value
