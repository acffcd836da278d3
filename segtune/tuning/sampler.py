"""Draw whole points of a space with Optuna's samplers, which also learn from trials that were stopped early."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from segtune.space.space import Space
from segtune.tuning.points import Lookup, Signature, distributions, encode, signature
from segtune.tuning.prior import AroundPrior
from segtune.tuning.study import WARM_START
from segtune.tuning.teaching import AsComplete, Lesson, Taught, TaughtCosts

_STARTUP_TRIALS = 10  # random trials before TPE models anything; Optuna's default
_LEAST_STARTUP_TRIALS = 4
_LOOKED_AT = 10_000  # points that are checked for being possible, at most
_REDRAWS = 50  # attempts of the sampler to draw a new point; then ten times as many random ones

Allowed = Callable[[Mapping[str, Any]], "str | None"]
Inner = Callable[[Space, int], BaseSampler]  # makes what draws one point of a space, from a seed


def tpe(space: Space, seed: int) -> BaseSampler:
    """Make the TPE sampler of a space."""
    startup = max(_LEAST_STARTUP_TRIALS, min(_STARTUP_TRIALS, space.search.trials // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Multivariate TPE in groups (multivariate kernel: Falkner et al. 2018, arXiv:1807.01774): the settings of an
        # optimizer are modelled together where they occur, not drawn at random.
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)


def build_sampler(
    space: Space,
    allowed: Allowed | None = None,
    lesson: Callable[[Space], Lesson] = AsComplete,
    inner: Inner = tpe,
) -> SpaceSampler:
    """Make the sampler of a space; a grid is enqueued point by point and draws nothing.

    Parameters
    ----------
    allowed: returns why a point's settings cannot be run, None where they can; such a point is drawn again.
    lesson: how trials that were stopped early teach the sampler.
    inner: makes the sampler that `sampler: tpe` stands for.
    """
    return SpaceSampler(space, inner if space.search.sampler == "tpe" else _random, lesson(space), allowed)


def _random(space: Space, seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


class SpaceSampler(BaseSampler):
    """Draws whole points of a space, and draws again where a point cannot be run or was tried.

    Optuna asks for one parameter after another. Whether they go together is known only with the last one, and a study
    cannot take a parameter back. So the whole point is drawn when Optuna asks for its relative part.

    A point depends on the seed of the search, the number of the trial and the trials in the study, and on nothing else:
    a search that is resumed draws what it would have drawn.
    """

    def __init__(
        self,
        space: Space,
        inner: Inner,
        lesson: Lesson,
        allowed: Allowed | None = None,
    ) -> None:
        self._space, self._inner = space, inner
        self._allowed = allowed or (lambda settings: None)
        self._distributions = dict(distributions(space.parameters))
        self._lesson = lesson
        self._open = _Open(space, self.allows)
        self.redrawn = 0  # points that could not be run or had been tried
        self.latest_around_prior: int | None = None  # number of the latest trial whose settings are around the prior's

    def reseed_rng(self) -> None:
        """Do nothing: each trial has seeds of its own. Optuna calls this in a forked process."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions of all parameters, those of all branches included."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a point that can be run and was not tried, as {key: value}; the last one drawn where none is found.

        Points that a warm start brought from another search are tried here when nothing else is left.
        """
        if "fixed_params" in trial.system_attrs:  # the baseline, or a point of a grid
            return {}
        taught: Any = Taught(study, self._lesson)
        known = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {signature(other.params) for other in known}
        seed = self._seed(trial.number)
        inner, at_random = self._inner(self._space, seed), RandomSampler(seed=seed)
        # TPE for several objectives (Ozaki et al. 2022, doi:10.1613/jair.1.13188) where costs count as well.
        costs = self._space.search.objectives[1:]
        seen: Any = TaughtCosts(study, self._lesson, costs) if costs else taught
        around = AroundPrior(self._space, known, taught, self._seed(trial.number, "prior"))
        for attempt in range(11 * _REDRAWS):
            sampler = inner if attempt < _REDRAWS else at_random
            expected = around.draw() if attempt < _REDRAWS // 2 else {}
            point = self._point(sampler, seen, trial, expected)
            if signature(point) not in tried and self.allows(point):
                if not expected.keys().isdisjoint(point):
                    self.latest_around_prior = trial.number
                return point
            self.redrawn += 1
        return self._left(tried, trial) or self._left(_tried_here(known), trial) or point

    def exhausted(self, study: optuna.Study) -> bool:
        """Return whether this study tried every point of the space that can be run."""
        return not self._open.any_but(_tried_here(study.get_trials(deepcopy=False)))

    def _left(self, tried: set[Signature], trial: FrozenTrial) -> dict[str, Any] | None:
        """Return one of the points that were not tried, all equally likely; None where there is none."""
        left = self._open.all_but(tried, trial.params)
        return random.Random(trial.number).choice(left) if left else None

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Return whether a point {key: value}, as the study stores it, can be run."""
        return self._allowed(self._settings(point)) is None

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw what `sample_relative` did not: the settings that an enqueued point leaves open."""
        at_random = RandomSampler(seed=self._seed(trial.number, param_name))
        return at_random.sample_independent(study, trial, param_name, param_distribution)

    def _seed(self, *of: object) -> int:
        return random.Random(repr((self._space.search.seed, *of))).getrandbits(32)

    def _point(self, sampler: BaseSampler, taught: Any, trial: FrozenTrial, expected: dict[str, Any]) -> dict[str, Any]:
        related = sampler.infer_relative_search_space(taught, trial)
        # What a killed search had already drawn of this trial stays.
        drawn = sampler.sample_relative(taught, trial, related) | expected | trial.params
        point: dict[str, Any] = {}

        def value(key: str) -> Any:
            kind = self._distributions[key]
            if key not in drawn and isinstance(kind, FloatDistribution | IntDistribution) and kind.single():
                drawn[key] = kind.low  # nothing to draw; TPE would return NaN
            elif key not in drawn:
                drawn[key] = sampler.sample_independent(taught, trial, key, kind)
            point[key] = drawn[key]
            return drawn[key]

        self._space.draw(Lookup(value))
        return point

    def _settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return self._space.draw(Lookup(point.__getitem__))


def _tried_here(trials: Sequence[FrozenTrial]) -> set[Signature]:
    return {signature(trial.params) for trial in trials if WARM_START not in trial.user_attrs}


class _Open:
    """The points of a finite space that can be run.

    A space in which very many points cannot be run counts as endless: looking at all of them would take too long.
    """

    def __init__(self, space: Space, allows: Callable[[Mapping[str, Any]], bool]) -> None:
        self._points, self._allows = space.points, allows
        self._unseen = map(encode, space.points() or ())
        self._example: dict[str, Any] | None = None
        self._refused = 0
        self._endless = space.points() is None

    def any_but(self, tried: Container[Signature]) -> bool:
        """Return whether there is a point besides those tried; looks at each point once."""
        while not self._endless and (self._example is None or signature(self._example) in tried):
            self._example = next(self._unseen, None)
            if self._example is None:
                return False
            if signature(self._example) not in tried and not self._allows(self._example):
                self._example, self._refused = None, self._refused + 1
                self._endless = self._refused > _LOOKED_AT
        return True

    def all_but(self, tried: Container[Signature], part: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the points besides those tried that contain a part; looks at a limited number of points."""
        points = islice(map(encode, self._points() or ()), _LOOKED_AT)
        return [p for p in points if p.items() >= part.items() and signature(p) not in tried and self._allows(p)]
