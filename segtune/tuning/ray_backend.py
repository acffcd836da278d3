"""Trials on Ray: in processes of this machine, or on the nodes of a cluster."""

from __future__ import annotations

import os
import sys

from ray import tune
from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

from segtune.data.dataset import DataInfo
from segtune.errors import SegtuneError, printable
from segtune.files.folders import SearchFolder
from segtune.planning.resources import Plan
from segtune.tuning.feed import Feed
from segtune.tuning.ray_hooks import RayCallback, RayScheduler, RaySearcher, RayStopper
from segtune.tuning.ray_messages import RayMessages
from segtune.tuning.ray_session import RayLost, ray_lost_is_raised
from segtune.tuning.worker import run_trial


class OnRay:
    """Runs trials side by side, as `plan` shares the machines out."""

    def __init__(
        self,
        info: DataInfo,
        plan: Plan,
        threads: int,
        hang_time: float,
        folder: SearchFolder,
        messages: RayMessages,
    ) -> None:
        self._info, self._plan, self._threads, self._hang_time = info, plan, threads, hang_time
        self._folder, self._messages = folder, messages

    def run(self, searcher: Feed) -> None:
        """Run the searcher's trials until no more come; SegtuneError when Ray itself dies."""
        try:
            with ray_lost_is_raised(self._end):
                self._tuner(searcher).fit()
        except RayLost as lost:
            raise SegtuneError(self._line(lost)) from None

    def _line(self, lost: RayLost) -> str:
        self._messages.add(lost.logs)
        cause = f"Ray's {lost.process} died (killed by the system, or out of memory)"
        return f"{self._messages.pointed_to(cause)}; --resume goes on with the search"

    def _end(self, lost: RayLost) -> None:
        """End this process, whose main thread waits for the lost one; to continue, it is as if it had been killed."""
        try:
            line = self._line(lost)
            self._messages.close()
            print(f"error: {printable(line)}", file=sys.stderr, flush=True)
        finally:
            os._exit(1)

    def _tuner(self, searcher: Feed) -> Tuner:
        trainable = tune.with_parameters(
            run_trial,
            info=self._info,
            threads=self._threads,
            cores=self._plan.cpus_per_trial,
            hang_time=self._hang_time,
        )
        ray_searcher = RaySearcher(searcher)
        return Tuner(
            tune.with_resources(trainable, self._plan.request()),
            tune_config=TuneConfig(
                search_alg=ray_searcher,
                scheduler=RayScheduler(searcher),
                num_samples=-1,  # as many as the searcher wants: a trial that is repeated is one more for Ray
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="tune",
                storage_path=str(self._folder.ray.absolute()),
                verbose=0,
                callbacks=[RayCallback(ray_searcher)],
                stop=RayStopper(searcher),
                failure_config=FailureConfig(max_failures=0),
            ),
        )
