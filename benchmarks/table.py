"""Search among the recorded configurations alone, so that no regression decides what a method finds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from recorded import Recorded, features, moved
from surrogate import Prediction

from segtune.space.space import Space
from segtune.tuning.points import encode, signature


class Table:
    """The recorded curves; of a configuration that was trained with several seeds, one of them by the replay's seed."""

    def __init__(self, recorded: Recorded, seed: int) -> None:
        self._recorded, self._seed = recorded, seed

    def train(self, settings: Mapping[str, Any]) -> Prediction:
        """Return the training of a recorded configuration."""
        number = self._recorded.number_of(settings)
        assert number is not None, f"not recorded: {settings}"
        runs = self._recorded.runs_of(number)
        curve = runs[self._seed % len(runs)]
        seconds = curve.seconds[-1] / len(curve.seconds) if curve.seconds else float(np.mean(self._recorded.seconds))
        return Prediction(curve.best(), seconds, curve.failed)


def in_table(space: Space, recorded: Recorded) -> Space:
    """Return the space with the recorded configuration that is nearest to its baseline in its place."""
    wanted = features(space.parameters, space.baseline.settings())
    return moved(space, recorded.curves[_nearest(recorded.x, wanted)].settings)


class FromTable(BaseSampler):
    """Replaces what another sampler draws by the nearest recorded configuration that was not tried.

    uniform: draw one of them, all equally likely, without asking the other sampler.
    """

    def __init__(self, inner: BaseSampler, space: Space, recorded: Recorded, uniform: bool) -> None:
        self._inner, self._space, self._recorded, self._uniform = inner, space, recorded, uniform
        located = (space.locate(space.fixed | curve.settings) for curve in recorded.curves)
        self._points = [encode(point or {}) for point in located]

    @property
    def latest_around_prior(self) -> int | None:
        """The number of the latest trial that the other sampler drew around the prior."""
        return getattr(self._inner, "latest_around_prior", None)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions of all parameters."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point of a recorded configuration."""
        if "fixed_params" in trial.system_attrs:  # the baseline, or an entry of a portfolio
            return {}
        known = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {signature(other.params) for other in known}
        left = [row for row, point in enumerate(self._points) if signature(point) not in tried]
        if self._uniform:
            return self._points[random.Random(f"{self._space.search.seed} {trial.number}").choice(left)]
        drawn = self._inner.sample_relative(study, trial, search_space)
        wanted = features(self._space.parameters, self._space.settings_at(drawn))
        return self._points[left[_nearest(self._recorded.x[left], wanted)]]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw what `sample_relative` did not."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


def _nearest(x: np.ndarray[Any, Any], wanted: list[float]) -> int:
    return int(np.argmin(np.square(x - np.array(wanted)).sum(1)))
