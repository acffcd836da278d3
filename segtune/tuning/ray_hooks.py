"""What Ray Tune calls while a search runs: thin adapters, each to one call of the searcher."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher
from ray.tune.stopper import Stopper

from segtune.tuning.failures import death_of
from segtune.tuning.feed import Feed
from segtune.tuning.proposals import TrialStart
from segtune.tuning.scheduler import Decision


class _Stateless:
    """Ray pickles what it calls, for a restore that is never made: the study is the state, and it is on disk."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class RaySearcher(_Stateless, TuneSearcher):  # type: ignore[misc]
    """Gives Ray the next trial, and tells the searcher how trials ended."""

    def __init__(self, searcher: Feed) -> None:
        super().__init__(metric="result", mode="max")
        self._searcher = searcher
        self._started: dict[str, TrialStart] = {}  # by Ray's id of a trial

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config; None for "not now", which is an answer only while a trial lives.

        While none does, Ray does nothing but ask again: it neither consults its stopper nor handles what happened.
        """
        start = self._searcher.next_trial()
        if start is None:
            return None if self._searcher.live else str(TuneSearcher.FINISHED)
        self._started[trial_id] = start
        return {"start": start}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler, which Ray calls for every result, has passed it on."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass on the end of a trial: with the failure that it reported, or that its process died."""
        if trial_id in self._started:
            start = self._started.pop(trial_id)
            failure = death_of(start.folder) if error else (result or {}).get("failure")
            self._searcher.ended(start.number, failure)

    def knows(self, trial_id: str) -> bool:
        """Return whether one of Ray's trials was asked for and has not ended."""
        return trial_id in self._started

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see `save`."""


class RayScheduler(_Stateless, FIFOScheduler):  # type: ignore[misc]
    """Passes on every epoch, and returns the decision."""

    def __init__(self, searcher: Feed) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Pass on an epoch. Ray repeats a trial's last result, then "done", when the trial ended by itself."""
        if "result" not in result or result.get("done"):
            return str(TrialScheduler.CONTINUE)
        decision = self._searcher.epoch(trial.config["start"].number, result["result"])
        # A paused trial ends for Ray, and frees its process: when it goes on, it is another one of Ray's trials.
        return str(TrialScheduler.CONTINUE if decision is Decision.CONTINUE else TrialScheduler.STOP)


class RayStopper(_Stateless, Stopper):  # type: ignore[misc]
    """Ends Ray's run when the search is interrupted or out of time."""

    def __init__(self, searcher: Feed) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Return whether to end everything; Ray calls this between two events."""
        self._searcher.poll()
        return self._searcher.interrupted


class RayCallback(_Stateless, Callback):  # type: ignore[misc]
    """Passes on the end of trials for which no process could be made ready: Ray tells nobody else."""

    def __init__(self, searcher: RaySearcher) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Pass on such ends; Ray calls this before it waits for something to happen."""
        for trial in trials:
            if trial.status == "ERROR" and self._searcher.knows(trial.trial_id):
                self._searcher.on_trial_complete(trial.trial_id, error=True)
