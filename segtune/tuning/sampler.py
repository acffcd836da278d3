"""What is tried next: Optuna's samplers, taught by trials that were stopped early, drawing whole points of a space."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from segtune.space.parameters import Choice, Parameter, Range
from segtune.space.settings import SearchSettings
from segtune.space.space import Space
from segtune.tuning.asha import rungs
from segtune.tuning.study import WARM_START

_STARTUP_TRIALS = 10  # random ones before TPE models anything; Optuna's own default
_LEAST_STARTUP_TRIALS = 4
_SEED_STEP = 1_000_003
_LOOKED_AT = 10_000  # points, one after another, for those that can be run
_REDRAWS = 50  # by the sampler, of a point that is not to be tried; after them, as many random ones times ten
DIVERGED = "diverged"  # user attribute of a trial whose loss became NaN or infinite
_DIVERGED_VALUE = 0.0  # the mIoU that it teaches: no worse one exists

Allowed = Callable[[Mapping[str, Any]], "str | None"]


def build_sampler(space: Space, allowed: Allowed | None = None, known: int = 0) -> SpaceSampler:
    """The sampler that a space asks for; a grid is enqueued point by point and draws nothing.

    Parameters
    ----------
    allowed: why a point's settings cannot be run, None where they can; what cannot is drawn again.
    known: trials that are in the study already: with the seed of the first start they would be drawn once more.
    """
    search = space.search
    seed = (search.seed + known * _SEED_STEP) % 2**32
    at_random = RandomSampler(seed=seed)
    return SpaceSampler(space, _tpe(search, seed) if search.sampler == "tpe" else at_random, at_random, allowed)


def _tpe(search: SearchSettings, seed: int) -> BaseSampler:
    startup = max(_LEAST_STARTUP_TRIALS, min(_STARTUP_TRIALS, search.trials // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Multivariate TPE in groups (Falkner et al. 2018, arXiv:1807.01774, for the multivariate kernel): settings
        # of an optimizer's own are modelled together where they occur, not drawn at random.
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)


class SpaceSampler(BaseSampler):
    """Draws whole points of a space, and again where one cannot be run or was tried.

    Optuna asks for one parameter after another; whether they go together is known only at the last, and a study
    cannot take a parameter back. So the whole point is drawn when Optuna asks for its relative part.
    """

    def __init__(self, space: Space, inner: BaseSampler, random: BaseSampler, allowed: Allowed | None = None) -> None:
        self._space, self._inner, self._random = space, inner, random
        self._allowed = allowed or (lambda settings: None)
        self._distributions = dict(distributions(space.parameters))
        self._lesson = LESSONS[space.search.teach](space)
        self._open = _Open(space, self._allows)
        self.redrawn = 0  # points that could not be run, or were tried

    def reseed_rng(self) -> None:
        """Optuna's call in a forked process."""
        self._inner.reseed_rng()
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every parameter of the space, those of all branches."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point that may be run and was not tried, as {key: value}; the last one drawn where no such one is found.

        What another search tried, and this one was told of, is tried here when nothing else is left.
        """
        if "fixed_params" in trial.system_attrs:  # the baseline, or a point of a grid
            return {}
        taught: Any = _Taught(study, self._lesson)
        known = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {signature(other.params) for other in known}
        for attempt in range(11 * _REDRAWS):
            sampler = self._inner if attempt < _REDRAWS else self._random
            point = self._point(sampler, taught, trial)
            if signature(point) not in tried and self._allows(point):
                return point
            self.redrawn += 1
        return self._left(tried, trial) or self._left(_tried_here(known), trial) or point

    def exhausted(self, study: optuna.Study) -> bool:
        """Whether every point of the space that can be run was tried in this study."""
        return not self._open.any_but(_tried_here(study.get_trials(deepcopy=False)))

    def _left(self, tried: set[Signature], trial: FrozenTrial) -> dict[str, Any]:
        """One of the points that were not tried, each as likely; empty where there is none."""
        left = self._open.all_but(tried, trial.params)
        return random.Random(trial.number).choice(left) if left else {}

    def _allows(self, point: Mapping[str, Any]) -> bool:
        return self._allowed(self._settings(point)) is None

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What `sample_relative` did not give: the settings of a point that was enqueued in part."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _point(self, sampler: BaseSampler, taught: Any, trial: FrozenTrial) -> dict[str, Any]:
        related = sampler.infer_relative_search_space(taught, trial)
        # What a search that was killed had drawn of this trial stays.
        drawn = sampler.sample_relative(taught, trial, related) | trial.params
        point: dict[str, Any] = {}

        def value(key: str) -> Any:
            kind = self._distributions[key]
            if key not in drawn and isinstance(kind, FloatDistribution | IntDistribution) and kind.single():
                drawn[key] = kind.low  # nothing to draw; TPE makes it no number at all
            elif key not in drawn:
                drawn[key] = sampler.sample_independent(taught, trial, key, kind)
            point[key] = drawn[key]
            return drawn[key]

        self._space.draw(_Lookup(value))
        return point

    def _settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return self._space.draw(_Lookup(point.__getitem__))


# A point, whatever rounding its steps came by; points that are drawn in part equal none.
Signature = frozenset[tuple[str, Any]]


def signature(point: Mapping[str, Any]) -> Signature:
    """What two points have in common that are the same."""
    return frozenset((key, float(f"{v:.12g}") if isinstance(v, float) else v) for key, v in point.items())


def _tried_here(trials: Sequence[FrozenTrial]) -> set[Signature]:
    return {signature(trial.params) for trial in trials if WARM_START not in trial.user_attrs}


class _Open:
    """The points of a space that can be run, where it has an end of them.

    Of a space of which very many points cannot be run, nobody knows before they are looked at; it counts as endless.
    """

    def __init__(self, space: Space, allows: Callable[[Mapping[str, Any]], bool]) -> None:
        self._points, self._allows = space.points, allows
        self._unseen = map(encode, space.points() or ())
        self._example: dict[str, Any] | None = None
        self._refused = 0
        self._endless = space.points() is None

    def any_but(self, tried: Container[Signature]) -> bool:
        """Whether there is a point beside those that were tried; each is looked at once."""
        while not self._endless and (self._example is None or signature(self._example) in tried):
            self._example = next(self._unseen, None)
            if self._example is None:
                return False
            if signature(self._example) not in tried and not self._allows(self._example):
                self._example, self._refused = None, self._refused + 1
                self._endless = self._refused > _LOOKED_AT
        return True

    def all_but(self, tried: Container[Signature], part: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The points beside those that were tried which have a part in common, as far as they are looked at."""
        points = islice(map(encode, self._points() or ()), _LOOKED_AT)
        return [p for p in points if p.items() >= part.items() and signature(p) not in tried and self._allows(p)]


class _Lookup:
    """Draws a space's parameters by looking them up by key."""

    def __init__(self, value: Callable[[str], Any]) -> None:
        self._value = value

    def choice(self, parameter: Choice) -> int:
        """The index of the value."""
        return _categories(parameter).index(self._value(parameter.key))

    def number(self, parameter: Range) -> float | int:
        """The number."""
        number: float | int = self._value(parameter.key)
        return number


class FromTrial:
    """Draws a space's parameters from an Optuna trial, which takes note of them."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choice(self, parameter: Choice) -> int:
        """The index of the value drawn."""
        values = _categories(parameter)
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


def distributions(parameters: Sequence[Parameter]) -> list[tuple[str, BaseDistribution]]:
    """Every parameter, those of branches included, as Optuna describes it, by key."""
    found: list[tuple[str, BaseDistribution]] = []
    for parameter in parameters:
        found.append((parameter.key, distribution(parameter)))
        for _, branch in parameter.items():
            found += distributions(branch)
    return found


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter as Optuna describes it."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(_categories(parameter))
    if parameter.integer:
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _categories(parameter: Choice) -> list[Any]:
    return [_category(value) for value in parameter.values]


def _category(value: Any) -> Any:
    # Optuna's categories are scalars; a list (of channels) is kept as its text.
    return json.dumps(value) if isinstance(value, list) else value


# How stopped trials teach. A lesson looks at all trials and gives those that the sampler shall see.


class Lesson(Protocol):
    """What a sampler is shown of a study's trials."""

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials to learn from; running ones among them stand for places that are taken."""


class AsPruned:
    """Optuna's own reading: a stopped trial is worse than every finished one; of two, the one that got further, or
    else the better one, is better."""

    def __init__(self, space: Space) -> None:
        self._seen: dict[int, FrozenTrial] = {}

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """All trials, a diverged one with the worst value."""
        return [self._lesson(trial) for trial in trials]

    def _lesson(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state is TrialState.FAIL and trial.user_attrs.get(DIVERGED):
            return _remembered(self._seen, trial, _DIVERGED_VALUE)
        return trial


class AsComplete(AsPruned):
    """What Ray's own integration does: a stopped trial counts like a finished one with its last value."""

    def _lesson(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state is TrialState.PRUNED and trial.intermediate_values:
            return _remembered(self._seen, trial, trial.intermediate_values[max(trial.intermediate_values)])
        return super()._lesson(trial)


class TopRung:
    """Only values at one budget are compared: those at the highest rung that enough trials have reached.

    As BOHB models its largest budget with enough observations (Falkner et al. 2018, arXiv:1807.01774); enough is two
    more than there are settings to model. Running trials that passed the rung count as well.
    """

    def __init__(self, space: Space) -> None:
        self._enough = len(space.searched()) + 2
        self._rungs = rungs(space)
        self._seen: dict[int, dict[int, FrozenTrial]] = {rung: {} for rung in self._rungs}

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Trials at the rung, as complete ones, and running trials below it."""
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


LESSONS: Mapping[str, Callable[[Space], Lesson]] = {"complete": AsComplete, "pruned": AsPruned, "top_rung": TopRung}


def _value_at(trial: FrozenTrial, rung: int) -> float | None:
    if trial.state is TrialState.FAIL:
        return _DIVERGED_VALUE if trial.user_attrs.get(DIVERGED) else None
    if trial.state is TrialState.COMPLETE and rung not in trial.intermediate_values:
        return trial.value  # its own budget of epochs is a smaller one, or it was told by another search
    return trial.intermediate_values.get(rung)


def _remembered(seen: dict[int, FrozenTrial], trial: FrozenTrial, value: float) -> FrozenTrial:
    """The trial as a complete one with this value; made once, since TPE looks at all trials for every point."""
    known = seen.get(trial.number)
    if known is None or known.value != value:
        known = FrozenTrial(
            number=trial.number,
            trial_id=trial._trial_id,
            state=TrialState.COMPLETE,
            value=value,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete or trial.datetime_start,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        seen[trial.number] = known
    return known


class _Taught:
    """A study as the sampler sees it: the same, but for its trials."""

    def __init__(self, study: optuna.Study, lesson: Lesson) -> None:
        self._study, self._lesson = study, lesson
        self._trials: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if self._trials is None:  # one look for a whole point: nothing changes meanwhile
            self._trials = self._lesson(self._study.get_trials(deepcopy=False))
        return [trial for trial in self._trials if states is None or trial.state in states]
