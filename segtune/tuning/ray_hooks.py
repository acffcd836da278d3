"""What Ray Tune calls while a search runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.stopper import Stopper

from segtune.training.result import EpochResult
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.searcher import StudySearcher
from segtune.tuning.stopping import Rules


class Watch(Callback):  # type: ignore[misc]
    """Tells of every epoch, and the searcher of trials that it is not told of otherwise."""

    def __init__(self, on_epoch: Callable[[int, EpochResult], None], searcher: StudySearcher) -> None:
        self._on_epoch, self._searcher = on_epoch, searcher

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its callbacks for a restore that is never made; a terminal cannot be pickled.
        return {}

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Ray's call before it waits for something to happen."""
        # Of a trial for which a process could not be made ready, Ray tells nobody.
        for trial in trials:
            if trial.status == "ERROR" and self._searcher.is_live(trial.trial_id):
                self._searcher.on_trial_complete(trial.trial_id, error=True)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Ray's call when a trial reported."""
        if OBJECTIVE in result:
            self._on_epoch(trial.config["number"], EpochResult.from_report(result))


class Stop(Stopper):  # type: ignore[misc]
    """Ends trials by rule, and the search when it is interrupted or out of time."""

    def __init__(self, searcher: StudySearcher, rules: Rules) -> None:
        self._searcher, self._rules = searcher, rules

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return OBJECTIVE in result and self._rules.stop(trial_id, self._searcher.is_baseline(trial_id), result)

    def stop_all(self) -> bool:
        self._searcher.look_at_the_clock()
        return self._searcher.interrupted
