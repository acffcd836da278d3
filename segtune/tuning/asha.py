"""Asynchronous successive halving that stops trials for good, as Ray's scheduler does; replays compare with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from segtune.planning.rungs import rungs
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.scheduler import Decision
from segtune.tuning.study import WARM_START


class Asha:
    """Asynchronous successive halving on epochs (Li et al. 2020, arXiv:1810.05934).

    Ray's implementation keeps the rungs; this class needs no running Ray. Rungs count epochs, not seconds: a large
    encoder is compared with what the others had reached after as many epochs, however long they take.
    """

    def __init__(self, grace_period: int, reduction_factor: int, epochs: int) -> None:
        self._halving = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="best_score",
            mode="max",
            grace_period=grace_period,
            reduction_factor=reduction_factor,
            max_t=max(epochs, grace_period),
        )

    @property
    def paused(self) -> Sequence[int]:
        """The trials that wait at a rung: none."""
        return ()

    def add(self, number: int, values: Mapping[int, float]) -> None:
        """Begin to compare a trial, also one that goes on."""
        self._halving.on_trial_add(None, _Key(str(number)))

    def decide(self, number: int, result: EpochResult) -> Decision:
        """Record an epoch of a trial, and stop it if it is poor. The baseline, number 0, fills the rungs alone."""
        action = self._halving.on_trial_result(None, _Key(str(number)), _reported(result.epoch, result.best_score))
        stops = action == TrialScheduler.STOP and number > 0 and not result.finished
        return Decision.STOP if stops else Decision.CONTINUE

    def pause(self, number: int, values: Mapping[int, float], budget: int) -> None:
        """Let no trial wait."""

    def ended(self, number: int, last: EpochResult | None) -> None:
        """Record the last epoch of a trial that did not fail."""
        if last is not None:
            self._halving.on_trial_complete(None, _Key(str(number)), _reported(last.epoch, last.best_score))

    def promotable(self, last: bool) -> None:
        """Promote no trial: none waits."""

    def hopeless(self) -> list[int]:
        """Return no trial: none waits."""
        return []

    def why(self, number: int) -> None:
        """Add nothing to the status of a trial that was stopped."""

    def replay(self, number: int, values: Mapping[int, float], ended: bool = True) -> None:
        """Fill the rungs with the scores by epoch of a trial of an earlier start.

        The last epoch of an unfinished trial is left out. The search may have been killed before it could stop the
        trial at that rung; the next epoch of the trial is then compared there.
        """
        self.add(number, {})
        for epoch, value in sorted(values.items())[: None if ended else -1]:
            self._halving.on_trial_result(None, _Key(str(number)), _reported(epoch, value))


def make_asha(space: Space, study: optuna.Study) -> Asha | None:
    """Make the ASHA of a space, its rungs filled by the study's trials; None where the space asks for none."""
    if space.search.scheduler == "none":
        return None
    asha = Asha(rungs(space)[0], space.search.reduction_factor, max(space.values_of("epochs")))
    for trial in study.get_trials(deepcopy=False):
        if WARM_START not in trial.user_attrs:
            asha.replay(trial.number, trial.intermediate_values, trial.state.is_finished())
    return asha


@dataclass(frozen=True)
class _Key:
    """A trial as the rungs know it: by its number, since Ray's ids change with every start."""

    trial_id: str


def _reported(epoch: int, value: float | None) -> dict[str, float]:
    return {"epoch": epoch} if value is None else {"epoch": epoch, "best_score": value}
