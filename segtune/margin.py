"""How much better than the baseline the best of several trials looks by chance alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from segtune.evaluation.chance import critical
from segtune.trials import Trial

_SHORT_DEVIATION = 0.009  # of mIoU from seed to seed, as benchmarks/seeds.py measures it
_CHANCE = 0.025  # as often, chance alone exceeds the margin: an end of a 95% interval


def seed_margin(order: Sequence[Trial]) -> float:
    """Return the gain over the baseline that the best trial may owe to its seed, and to being the best of several.

    The best of k equal trials is better than the baseline by chance, and more so for a larger k. The margin is that of
    Dunnett's test of k treatments against a control, with a known deviation (Dunnett 1955,
    doi:10.1080/01621459.1955.10501294). k counts the trials that another seed alone might have made the best: those
    within the margin for k = 1 of the best score of all that trained no longer. A trial that stopped early is among
    them if a little more luck might have let it go on. `order` are the trials with a score, best first, and the
    baseline. By folds, those that did not train all of them are not compared.
    """
    order = [trial for trial in order if trial.baseline or trial.folds == 1 or trial.folds_done == trial.folds]
    pair = seed_deviation(order) * math.sqrt(2)
    least = critical(1, _CHANCE) * pair
    near = sum(not trial.baseline and (trial.score or 0.0) >= _best_until(order, trial) - least for trial in order)
    return critical(max(1, near), _CHANCE) * pair


def seed_deviation(order: Sequence[Trial]) -> float:
    """Return the standard deviation of a score from seed to seed, estimated from the curves of the better trials.

    A score varies from epoch to epoch late in training about as much as from seed to seed; see `wobble`. One curve says
    little, so this is the median of the better half of the trials. A trial that trained less than half of its budget
    does not count: its score still rises, which also varies it. benchmarks/seeds.py measures how well the estimate
    fits, and also the value for runs that are too short.
    """
    better = order[: -(-len(order) // 2)] if len(order) > 2 else order
    late = [trial for trial in better if 2 * trial.epochs_done >= trial.epochs]
    known = [trial.wobble for trial in late if trial.wobble is not None]
    return statistics.median(known) if known else _SHORT_DEVIATION


def _best_until(order: Sequence[Trial], trial: Trial) -> float:
    """Return the best score of the trials that trained no longer than one of them."""
    return next(other.score or 0.0 for other in order if other.epochs_done <= trial.epochs_done)
