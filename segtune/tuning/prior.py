"""Draw a share of the trials around the values that a person expects, as long as this does well.

PriorBand weighs its prior by what the best trials say of it in the same way (Mallik et al. 2023, arXiv:2306.12370).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtune.space.parameters import Parameter, walk
from segtune.space.prior import Belief
from segtune.space.space import Space
from segtune.tuning.points import encode
from segtune.tuning.study import ORIGIN, WARM_START
from segtune.tuning.teaching import Taught

_BEST = 3  # one in so many of all trials counts as one of the best; the reduction factor of ASHA


class AroundPrior:
    """Draws the settings of one trial that have an expected value.

    One random number decides for all settings of the trial: a setting is drawn around its expected value where the
    number is below its share. So a trial that leaves a value of high confidence leaves the others, too.

    Parameters
    ----------
    space: has the expected values.
    trials: the other trials of the study.
    taught: the study as the sampler sees it.
    seed: of the trial's draws.
    """

    def __init__(self, space: Space, trials: Sequence[FrozenTrial], taught: Taught, seed: int) -> None:
        self._generator = random.Random(seed)
        self._beliefs: list[tuple[Parameter, Belief]] = []
        if space.prior.beliefs:
            level = self._generator.random() / _trust_in(trials, taught)
            found = ((parameter, space.prior.of(parameter)) for parameter in walk(space.parameters))
            self._beliefs = [(parameter, belief) for parameter, belief in found if belief and level < belief.share]

    def draw(self) -> dict[str, Any]:
        """Return values {key: value} as the study stores them, of all branches; empty where the sampler draws all."""
        return encode({parameter.key: belief.draw(parameter, self._generator) for parameter, belief in self._beliefs})


def _trust_in(trials: Iterable[FrozenTrial], taught: Taught) -> float:
    origins = {trial.number: trial.user_attrs.get(ORIGIN) for trial in trials if WARM_START not in trial.user_attrs}
    lessons = taught._get_trials(states=(TrialState.COMPLETE,))
    scores = {
        lesson.number: lesson.value for lesson in lessons if lesson.number in origins and lesson.value is not None
    }
    return trust(scores, [number for number, origin in origins.items() if origin == "prior"])


def trust(scores: Mapping[int, float], around: Collection[int]) -> float:
    """Return a factor, above 0 and at most 1, of the shares of trials that are drawn around the prior.

    It is 1 as long as these are among the best third of all trials as often as others are. Otherwise, it falls with the
    square of how often they are, compared with that.

    Parameters
    ----------
    scores: the mIoU of each trial that taught something, by number.
    around: the numbers of the trials that were drawn around the prior.
    """
    best = sorted(scores, key=lambda number: scores[number], reverse=True)[: -(-len(scores) // _BEST)]
    hits = sum(number in around for number in best)
    expected = sum(number in around for number in scores) / _BEST
    return min(1.0, ((hits + 1) / (expected + 1)) ** 2)
