"""Say which settings made the difference in a search, and when its trials ended."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from segtune.files.folders import SearchFolder
from segtune.tuning.study import PAUSED_AT, WARM_START, begun, read_study

_FEWEST = 16  # trials below which importance would be mostly noise
_BEST, _FEWEST_BEST = 0.1, 5  # the best trials: this share of all, and at least so many


@dataclass(frozen=True)
class Insight:
    """What the study knows beyond the trials themselves.

    importance: share of each searched parameter, by its key such as ``optimizer.sgd.momentum``; the shares add up to 1.
        Empty where there are too few trials.
    drawn: by trial, the values of the parameters that it drew, by their keys.
    ended: by trial, the seconds after which it ended or last paused; time in which no trial was under way is left out.
    began: when the first trial began, by time.time(); None where none did.
    """

    importance: Mapping[str, float]
    drawn: Mapping[int, Mapping[str, Any]]
    ended: Mapping[int, float]
    began: float | None


def insight(folder: SearchFolder) -> Insight:
    """Read what the study of a search knows; raise InputError where there is no study."""
    found = read_study(folder).get_trials(deepcopy=False)
    trials = [trial for trial in found if WARM_START not in trial.user_attrs and begun(trial)]
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    return Insight(
        importance(trials),
        {trial.number: _values(trial) for trial in trials if trial.params},
        ended_after(trials),
        min(starts).timestamp() if starts else None,
    )


def importance(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return how much each parameter decides whether a trial is among the best, as shares that add up to 1.

    The method is PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv:2304.10255). It compares the values of the best
    tenth of the trials, and at least of the best five, with those of all. Therefore a trial that was stopped counts
    with the score it had: all that matters is that it is not among the best. Empty where fewer than 16 trials drew
    parameters and have a score.
    """
    scored = [trial for trial in trials if trial.params and trial.intermediate_values]
    if len(scored) < _FEWEST:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(_BEST, _FEWEST_BEST / len(scored)))
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        for trial in scored:
            value = max(trial.intermediate_values.values())
            study.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of equal scores: then no parameter decides, and all shares are 0
            found = get_param_importances(study, evaluator=evaluator, normalize=False)
    finally:
        optuna.logging.set_verbosity(level)
    total = sum(found.values())
    return {key: value / total for key, value in found.items()} if total > 0 else {}


def ended_after(trials: Iterable[FrozenTrial]) -> dict[int, float]:
    """Return after how many seconds each trial ended or last paused, by its number.

    Only time in which at least one trial was under way counts. So a search that was resumed a day later has no gap.
    """
    spans = [(trial.datetime_start, _end(trial), trial.number) for trial in trials]
    known = sorted((start.timestamp(), end.timestamp(), number) for start, end, number in spans if start and end)
    busy: list[tuple[float, float]] = []  # without overlaps
    for since, until, _ in known:
        if busy and since <= busy[-1][1]:
            busy[-1] = (busy[-1][0], max(busy[-1][1], until))
        else:
            busy.append((since, until))
    return {
        number: sum(min(ended, until) - since for since, until in busy if since < ended) for _, ended, number in known
    }


def _end(trial: FrozenTrial) -> datetime | None:
    """Return when a trial ended or paused; None for one that runs."""
    if trial.state is TrialState.WAITING and (paused := trial.user_attrs.get(PAUSED_AT)):
        return datetime.fromisoformat(paused)
    return trial.datetime_complete


def _values(trial: FrozenTrial) -> dict[str, Any]:
    """Return the values that a trial drew, as its settings hold them."""
    settings = trial.user_attrs["settings"]
    return {key: settings[key.rpartition(".")[2]] for key in trial.params}
