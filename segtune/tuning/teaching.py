"""Lessons: how trials that were stopped early teach the sampler."""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from segtune.planning.rungs import rungs
from segtune.space.space import Space
from segtune.tuning.study import COSTS, PAUSED, expected_value, is_paused

DIVERGED = "diverged"  # user attribute of a trial whose loss became NaN or infinite
_LEAST_COST = 1e-9  # smaller ones count as this one, which has a logarithm
_DIVERGED_VALUE = 0.0  # the mIoU that it teaches, the worst there is


class Lesson(Protocol):
    """Selects and converts the trials of a study that a sampler sees."""

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials to learn from; running ones among them mark points that are taken."""


class AsPruned:
    """Optuna's own lesson: a stopped trial is worse than every finished one.

    Of two stopped trials, the one that got further is better; if both got equally far, the one with the better score.
    """

    def __init__(self, space: Space) -> None:
        self._seen: dict[int, FrozenTrial] = {}

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return all trials, a diverged one with the worst value."""
        return [self._lesson(trial) for trial in trials]

    def _lesson(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state is TrialState.FAIL and trial.user_attrs.get(DIVERGED):
            return _remembered(self._seen, trial, _DIVERGED_VALUE)
        if is_paused(trial):
            return _remembered(self._seen, trial, expected_value(trial), TrialState.PRUNED, trial.intermediate_values)
        return trial


class AsComplete(AsPruned):
    """The lesson of Ray's Optuna integration: a stopped trial counts as a finished one with its last value.

    So does a paused trial, and one that went on after a pause: the best trials run longest, and are known meanwhile.
    """

    def _lesson(self, trial: FrozenTrial) -> FrozenTrial:
        promoted = trial.state is TrialState.RUNNING and PAUSED in trial.user_attrs
        if trial.intermediate_values and (trial.state is TrialState.PRUNED or is_paused(trial) or promoted):
            return _remembered(self._seen, trial, expected_value(trial))
        return super()._lesson(trial)


class TopRung:
    """Compares values at one budget only: the highest rung that enough trials have reached.

    BOHB models its largest budget with enough observations in the same way (Falkner et al. 2018, arXiv:1807.01774).
    Enough is two more than there are settings to model. Running trials that passed the rung count as well.
    """

    def __init__(self, space: Space) -> None:
        self._enough = len(space.searched()) + 2
        self._rungs = rungs(space)
        self._seen: dict[int, dict[int, FrozenTrial]] = {rung: {} for rung in self._rungs}

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials at the rung, as complete ones, and running trials below it."""
        for rung in reversed(self._rungs):
            reached = {trial.number: value for trial in trials if (value := _value_at(trial, rung)) is not None}
            if len(reached) >= self._enough or rung == self._rungs[0]:
                break
        seen = self._seen[rung]
        return [
            _remembered(seen, trial, reached[trial.number]) if trial.number in reached else trial
            for trial in trials
            if trial.number in reached or trial.state is TrialState.RUNNING
        ]


def _value_at(trial: FrozenTrial, rung: int) -> float | None:
    if trial.state is TrialState.FAIL:
        return _DIVERGED_VALUE if trial.user_attrs.get(DIVERGED) else None
    if trial.state is TrialState.COMPLETE and rung not in trial.intermediate_values:
        return trial.value  # its own budget is smaller, or it comes from another search
    return trial.intermediate_values.get(rung)


def _remembered(
    seen: dict[int, FrozenTrial],
    trial: FrozenTrial,
    value: float,
    state: TrialState = TrialState.COMPLETE,
    values: Mapping[int, float] = MappingProxyType({}),
) -> FrozenTrial:
    """Return the trial as an ended one with this value; made once, since TPE looks at all trials for every point."""
    known = seen.get(trial.number)
    if known is None or known.value != value:
        known = FrozenTrial(
            number=trial.number,
            trial_id=trial._trial_id,
            state=state,
            value=value,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete or trial.datetime_start,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values=dict(values),
        )
        seen[trial.number] = known
    return known


class Taught:
    """A study as the sampler sees it: with the trials of a lesson."""

    def __init__(self, study: optuna.Study, lesson: Lesson) -> None:
        self._study, self._lesson = study, lesson
        self._trials: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if self._trials is None:  # once per point: nothing changes meanwhile
            self._trials = self._lesson(self._study.get_trials(deepcopy=False))
        return [trial for trial in self._trials if states is None or trial.state in states]


class TaughtCosts(Taught):
    """A study as a sampler for several objectives sees it: the trials of a lesson, with the logarithms of their costs.

    A trial that diverged has the largest costs of all. One whose costs are not known teaches nothing.
    """

    def __init__(self, study: optuna.Study, lesson: Lesson, costs: Sequence[str]) -> None:
        super().__init__(study, lambda trials: _with_costs(lesson(trials), trials, costs))
        self.directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(costs)]

    def _is_multi_objective(self) -> bool:
        return True


def _with_costs(
    lessons: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], costs: Sequence[str]
) -> list[FrozenTrial]:
    """Return lessons of which those that ended have the score and the costs as their values."""
    known: dict[int, list[float]] = {}
    for trial in trials:
        found = trial.user_attrs.get(COSTS, {})
        if all(name in found for name in costs):
            known[trial.number] = [math.log(max(found[name], _LEAST_COST)) for name in costs]
    most = [max(column) for column in zip(*known.values(), strict=True)]
    told = []
    for lesson in lessons:
        own = known.get(lesson.number) or (most if lesson.value == _DIVERGED_VALUE else None)
        if lesson.state is TrialState.COMPLETE and own:
            made = copy.copy(lesson)
            made.values = [lesson.value, *own]
            told.append(made)
        elif lesson.state is TrialState.RUNNING:
            told.append(lesson)
    return told
