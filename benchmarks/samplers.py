"""Samplers that are replayed beside the product's own: the branch first, then all of its settings together.

Optuna's TPE in groups draws the settings of a branch independently of the others (optuna issue 5299). OptunaHub's
`hierarchical_tpe` draws the branch first instead; so does `Branchwise`, with any sampler for the settings of a branch:
TPE, Optuna's Gaussian process, or CMA-ES.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from cmaes import CMA
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from segtune.space.parameters import Parameter
from segtune.space.space import Space
from segtune.tuning.points import distribution, encode

_STARTUP_TRIALS = 10  # random trials before anything is modelled
_LEAST_IN_BRANCH = 4  # trials of a branch before its settings are modelled together


def joint(space: Space, seed: int) -> BaseSampler:
    """Make a sampler that models all settings of a branch together with TPE."""
    return Branchwise(space, seed, TPESampler(seed=seed, n_startup_trials=_LEAST_IN_BRANCH, multivariate=True))


def gp(space: Space, seed: int) -> BaseSampler:
    """Make a sampler that models all settings of a branch together with Optuna's Gaussian process."""
    return Branchwise(space, seed, GPSampler(seed=seed, n_startup_trials=_LEAST_IN_BRANCH))


def cma(space: Space, seed: int) -> BaseSampler:
    """Make a sampler that draws the numbers of a branch with CMA-ES, and its choices with TPE."""
    return Branchwise(space, seed, Evolution(seed))


class Branchwise(BaseSampler):
    """Draws the values of choices with branches by TPE, and the other settings from the trials of the same branches.

    Where these are too few, the settings outside of branches are drawn from all trials, and the others at random.
    """

    def __init__(self, space: Space, seed: int, within: BaseSampler) -> None:
        self._space, self._within = space, within
        self._chooser = TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True)
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: what is drawn together depends on the branch."""
        return {}

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the settings of one run as {key: value}, those left out that are drawn at random."""
        if len(study._get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))) < _STARTUP_TRIALS:
            return {}
        chosen: dict[str, Any] = {}
        while choices := {
            parameter.key: distribution(parameter)
            for parameter in _active(self._space.parameters, chosen)
            if any(branch for _, branch in parameter.items()) and parameter.key not in chosen
        }:
            alike: Any = Within(study, chosen)
            drawn = self._chooser.sample_relative(alike, trial, choices)
            for key, kind in choices.items():
                chosen[key] = drawn[key] if key in drawn else self.sample_independent(study, trial, key, kind)
        rest = self._modelled(_active(self._space.parameters, chosen), chosen)
        alike = Within(study, chosen)
        drawn = self._within.sample_relative(alike, trial, rest)
        if not drawn:
            drawn = self._chooser.sample_relative(study, trial, self._modelled(self._space.parameters, chosen))
        return chosen | drawn

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a setting at random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _modelled(self, parameters: Iterable[Parameter], chosen: Container[str]) -> dict[str, BaseDistribution]:
        found = {parameter.key: distribution(parameter) for parameter in parameters if parameter.key not in chosen}
        return {key: found[key] for key in sorted(found) if not found[key].single()}


class Evolution(BaseSampler):
    """Draws numbers with CMA-ES (Hansen 2016, arXiv:1604.00772), which knows no choices, and choices with TPE.

    Its state is made anew for each draw: the trials of the study, in their order, are its generations.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._choices = TPESampler(seed=seed, n_startup_trials=_LEAST_IN_BRANCH, multivariate=True)

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: it draws what it is asked for."""
        return {}

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return all of the settings, or none before there are enough trials."""
        ended = study._get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        if len(ended) < _LEAST_IN_BRANCH:
            return {}
        choices = {key: kind for key, kind in search_space.items() if isinstance(kind, CategoricalDistribution)}
        numbers = {key: kind for key, kind in search_space.items() if key not in choices}
        drawn = self._choices.sample_relative(study, trial, {**choices})
        if len(numbers) < 2:  # it needs two of them
            return drawn | self._choices.sample_relative(study, trial, numbers)
        transform = _SearchSpaceTransform(numbers, transform_0_1=True)
        evolution = CMA(np.full(len(numbers), 0.5), 1 / 6, bounds=transform.bounds, seed=self._seed)
        points = [(transform.transform({key: one.params[key] for key in numbers}), -one.value) for one in ended]
        size = evolution.population_size
        for start in range(0, len(points) - size + 1, size):
            evolution.tell(points[start : start + size])
        return drawn | transform.untransform(evolution.ask())

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refuse: a branch is drawn as a whole."""
        raise NotImplementedError


class Within:
    """A study with only the trials that have certain values."""

    def __init__(self, study: Any, values: Mapping[str, Any]) -> None:
        self._study, self._values = study, values

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if trial.params.items() >= self._values.items()]


def _active(parameters: Iterable[Parameter], chosen: Mapping[str, Any]) -> Iterator[Parameter]:
    """Yield the parameters of a run with these values of choices."""
    for parameter in parameters:
        yield parameter
        for value, branch in parameter.items():
            if parameter.key in chosen and encode({parameter.key: value}) == {parameter.key: chosen[parameter.key]}:
                yield from _active(branch, chosen)
