"""ASHA with an exempt baseline and a memory of whom it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

OBJECTIVE = "best_miou"  # the best epoch so far


class Asha(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving on epochs (Li et al. 2020, arXiv:1810.05934).

    Rungs count epochs, not seconds: a large encoder is compared with what the others had reached after as many
    epochs, however long they take.
    """

    def __init__(self, grace_period: int, reduction_factor: int, epochs: int) -> None:
        super().__init__(
            time_attr="epoch",
            metric=OBJECTIVE,
            mode="max",
            grace_period=grace_period,
            reduction_factor=reduction_factor,
            max_t=max(epochs, grace_period),
        )
        self.stopped: set[str] = set()  # ids of the trials that it ended early

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Ray's call when a trial is new to it."""
        super().on_trial_add(tune_controller, _key(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue or stop; the baseline fills its rungs and continues."""
        action: str = super().on_trial_result(tune_controller, _key(trial), result)
        if action != TrialScheduler.STOP or trial.config["baseline"]:
            return TrialScheduler.CONTINUE
        if result["epoch"] >= result["epochs"]:
            return TrialScheduler.CONTINUE  # it ends by itself, with its budget used
        self.stopped.add(trial.trial_id)
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Ray's call when a trial ended."""
        super().on_trial_complete(tune_controller, _key(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Ray's call when a trial ended without having run."""
        super().on_trial_remove(tune_controller, _key(trial))

    def replay(self, number: int, values: Mapping[int, float], ended: bool = True) -> None:
        """Fill the rungs with what a trial of an earlier start had reached, by epoch.

        The last epoch of one that goes on is left out: should it have been at a rung, and the search killed before it
        was stopped there, the trial's next epoch is held against that rung.
        """
        key = _Key(str(number))
        super().on_trial_add(None, key)
        for epoch, value in sorted(values.items())[: None if ended else -1]:
            super().on_trial_result(None, key, {"epoch": epoch, OBJECTIVE: value})


@dataclass(frozen=True)
class _Key:
    """What the rungs know of a trial. Ray's own ids change with every start; the trial's number stays."""

    trial_id: str


def _key(trial: Any) -> _Key:
    return _Key(str(trial.config["number"]))
