"""Trials in this process, one at a time and without Ray: for debugging, breakpoints included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from segtune.data.dataset import DataInfo
from segtune.planning.resources import Plan
from segtune.tuning.failures import Failure, beyond_repair
from segtune.tuning.feed import Feed
from segtune.tuning.proposals import TrialStart
from segtune.tuning.scheduler import Decision
from segtune.tuning.trial_run import free_memory, note_failure, prepare_process, trial_epochs


class InProcess:
    """Runs trials one after another.

    Nothing watches over a trial that hangs: a breakpoint may hold it for as long as it likes.
    """

    def __init__(self, info: DataInfo, plan: Plan, threads: int) -> None:
        self._info, self._plan, self._threads = info, plan, threads

    def run(self, searcher: Feed) -> None:
        """Run the searcher's trials until no more come."""
        prepare_process()
        with _gpus_as_planned(self._plan):
            while start := searcher.next_trial():
                searcher.ended(start.number, self._train(searcher, start))

    def _train(self, searcher: Feed, start: TrialStart) -> Failure | None:
        """Train a trial until it ends, is stopped or is interrupted; return its failure."""

        def stop() -> bool:
            searcher.poll()
            return searcher.interrupted

        try:
            epochs = trial_epochs(start, self._info, self._threads, self._plan.cpus_per_trial, lambda phase: None, stop)
            with closing(epochs):
                for result in epochs:
                    if searcher.epoch(start.number, result) is not Decision.CONTINUE or searcher.interrupted:
                        break
            return None
        except Exception as error:
            failure = note_failure(error, start.folder)
            if beyond_repair(error):
                searcher.halt(f"this process can no longer use the GPU: {failure.reason}")
        free_memory()
        return failure


@contextmanager
def _gpus_as_planned(plan: Plan) -> Iterator[None]:
    """Hide the GPUs from trials that get none, as Ray does; CUDA reads the variable when it is first used."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not plan.gpus_per_trial:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
