"""About how long a search takes, from the time that some of its runs take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segtune.planning.resources import Plan
from segtune.planning.rungs import asha_share, rungs
from segtune.space.space import Space


@dataclass(frozen=True)
class Estimate:
    """The estimated duration of a search, and what it was computed from."""

    seconds: float  # of the whole search
    trials: int
    trial_seconds: float  # of a trial on its full budget: the mean of the runs that were measured
    compared: tuple[int, ...]  # epochs after which ASHA compares trials; empty without ASHA
    epochs: int  # the full budget of a trial
    share: float  # of all epochs that are trained


def estimate(space: Space, plan: Plan, run_seconds: Sequence[float]) -> Estimate:
    """Estimate the duration of a search; `run_seconds` are those of whole runs, the baseline first."""
    trials, mean = space.trials(), sum(run_seconds) / len(run_seconds)
    *compared, epochs = rungs(space)
    share = asha_share(trials, compared, space.search.reduction_factor, epochs)
    # Trials that share a GPU are taken to be as fast as one after the other.
    side_by_side = plan.concurrent * min(1.0, plan.gpus_per_trial or 1.0)
    seconds = max(run_seconds[0], trials * share * mean / side_by_side)
    return Estimate(seconds, trials, mean, tuple(compared), epochs, share)
