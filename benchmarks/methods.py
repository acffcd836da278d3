"""The search methods that are replayed, each in a line, and what they learn from the curves of other data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from build_portfolio import entries, recorded_of
from prediction import by_prediction
from recorded import Recorded
from samplers import cma, gp, joint

from segtune.planning.first_runs import first_runs
from segtune.planning.portfolio import Portfolio
from segtune.space.prior import Belief, Prior
from segtune.space.space import Space
from segtune.tuning.asha import make_asha
from segtune.tuning.promotion import make_promotion
from segtune.tuning.proposals import Planned
from segtune.tuning.sampler import Inner, tpe
from segtune.tuning.scheduler import Scheduler
from segtune.tuning.teaching import AsComplete, AsPruned, Lesson, TopRung

Compare = Callable[[Space, optuna.Study, Sequence[Recorded]], Scheduler | None]
MANY = 1_000_000  # trials: the budget is what ends a replay


def _asha(space: Space, study: optuna.Study, others: Sequence[Recorded]) -> Scheduler | None:
    return make_asha(space, study)


def _promotion(space: Space, study: optuna.Study, others: Sequence[Recorded]) -> Scheduler | None:
    return make_promotion(space, study)


def _late(space: Space, study: optuna.Study, others: Sequence[Recorded]) -> Scheduler | None:
    return make_promotion(space, study, late_baseline=True)


def _predicted(space: Space, study: optuna.Study, others: Sequence[Recorded]) -> Scheduler | None:
    return make_promotion(space, study, choose=by_prediction(others, max(space.values_of("epochs"))))


@dataclass(frozen=True)
class Method:
    """A search method: settings of `search:`, and what cannot be set there."""

    sampler: str
    scheduler: str
    lesson: Callable[[Space], Lesson] = AsComplete  # how stopped trials teach the sampler
    inner: Inner = tpe  # what `tpe` stands for
    grace_period: int | None = None  # epochs before the first comparison; None: the default
    portfolio: bool = False  # whether it begins with the best configurations of the other data sets
    entries: int | None = None  # of the portfolio that it tries at most: a search of 20 trials tries 6; None: all
    compare: Compare = _asha  # what stops or pauses trials; it may learn from the other data sets
    learns: bool = False  # whether `compare` does
    expects: float | None = None  # prior: the recorded configuration with this rank from 0, the best, to 1, the worst

    @property
    def oracle(self) -> bool:
        """Whether it knows what is recorded of the searched data set itself, as no real search can."""
        return self.expects is not None

    @property
    def needs_others(self) -> bool:
        """Whether it can be replayed only where other data sets have the same space."""
        return self.portfolio or self.learns

    def space(self, space: Space, seed: int, trials: int = MANY) -> Space:
        """Return the space with the settings of this method; all other settings of `search:` keep their defaults."""
        update = {"sampler": self.sampler, "scheduler": self.scheduler, "trials": trials, "seed": seed}
        update |= {"grace_period": self.grace_period}
        return replace(space, search=space.search.model_copy(update=update))

    def prior(self, recorded: Recorded) -> Prior:
        """Return what the search expects with high confidence, good or bad."""
        if self.expects is None:
            return Prior()
        ranked = sorted(recorded.curves, key=lambda curve: max(curve.best(), default=0.0), reverse=True)
        settings = ranked[round(self.expects * (len(ranked) - 1))].settings
        return Prior({name: Belief(value, "high") for name, value in settings.items() if value is not None})


METHODS: Mapping[str, Method] = {
    "random": Method("random", "none"),
    "random+asha": Method("random", "asha"),
    "tpe": Method("tpe", "none"),
    "tpe+asha": Method("tpe", "asha"),
    "tpe+asha pruned": Method("tpe", "asha", AsPruned),
    "tpe+asha top_rung": Method("tpe", "asha", TopRung),
    "random+promotion": Method("random", "asha", compare=_promotion),
    "tpe+promotion": Method("tpe", "asha", compare=_promotion),
    "tpe+promotion late": Method("tpe", "asha", compare=_late),
    "tpe+promotion grace 1": Method("tpe", "asha", compare=_promotion, grace_period=1),
    "tpe+promotion grace 2": Method("tpe", "asha", compare=_promotion, grace_period=2),
    "random+promotion grace 1": Method("random", "asha", compare=_promotion, grace_period=1),
    "tpe+predicted ends": Method("tpe", "asha", compare=_predicted, learns=True),
    "joint+asha": Method("tpe", "asha", inner=joint),
    "gp+asha": Method("tpe", "asha", inner=gp),
    "cma+asha": Method("tpe", "asha", inner=cma),
    "tpe+asha right prior": Method("tpe", "asha", expects=0.0),
    "tpe+asha wrong prior": Method("tpe", "asha", expects=1.0),
    "random+asha+portfolio": Method("random", "asha", portfolio=True),
    "tpe+asha+portfolio": Method("tpe", "asha", portfolio=True),
    "random+promotion+portfolio": Method("random", "asha", compare=_promotion, portfolio=True),
    "tpe+promotion+portfolio": Method("tpe", "asha", compare=_promotion, portfolio=True),
    "tpe+promotion+6 of portfolio": Method("tpe", "asha", compare=_promotion, portfolio=True, entries=6),
    "tpe+grace 1+portfolio": Method("tpe", "asha", compare=_promotion, portfolio=True, grace_period=1),
    "tpe+grace 2+portfolio": Method("tpe", "asha", compare=_promotion, portfolio=True, grace_period=2),
    "tpe+late grace 1+portfolio": Method("tpe", "asha", compare=_late, portfolio=True, grace_period=1),
    "tpe+late grace 2+portfolio": Method("tpe", "asha", compare=_late, portfolio=True, grace_period=2),
}
PLAIN = "random"  # whose training time is 1
RIVAL = "random+asha"  # what every method is held against
BEFORE = "tpe+asha"  # without what is learned before the search
DEFAULT = "tpe+promotion+portfolio"  # what a search does when nothing is given


def planned(method: Method, space: Space, others: Sequence[Recorded], table: Recorded | None = None) -> list[Planned]:
    """Return what a search tries after its baseline: the portfolio of the other data sets, as a search has its own.

    With `table`, entries that were not recorded on this data set are left out.
    """
    if not method.portfolio:
        return []
    found = entries(recorded_of({other.name: other.all for other in others}))

    def missing(settings: Mapping[str, Any]) -> str | None:
        return "not recorded" if table and table.number_of(settings) is None else None

    runs = first_runs(Portfolio(found, {}), space, missing)
    return [Planned("portfolio", point) for point in runs.points[: method.entries]]
