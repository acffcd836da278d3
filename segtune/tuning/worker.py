"""Train a trial on Ray, in an actor that serves many trials, one after another."""

from __future__ import annotations

import os
import platform
from contextlib import closing
from typing import Any

import ray
from ray import tune

from segtune.data.dataset import DataInfo
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.library_folders import shorten_sockets
from segtune.tuning.failures import Failure, Fault, beyond_repair
from segtune.tuning.proposals import TrialStart
from segtune.tuning.trial_run import free_memory, note_failure, prepare_process, trial_epochs
from segtune.tuning.watchdog import Watchdog


def run_trial(config: dict[str, Any], info: DataInfo, threads: int, cores: int, hang_time: float) -> None:
    """Train and report each epoch to Ray Tune, as {"result": EpochResult}.

    `config` is {"start": TrialStart}. A failure is reported as {"failure": Failure}, not raised: Ray would throw the
    process away, with five seconds of imports in it.
    """
    start: TrialStart = config["start"]
    os.environ["RAY_NODE_ID"] = ray.get_runtime_context().get_node_id()  # for run.yaml, which knows nothing of Ray
    if mistake := _out_of_sight(start.folder):
        tune.report({"failure": Failure(mistake, Fault.PLACE)})  # another node may see it
        return
    shorten_sockets()
    prepare_process()
    try:
        # When the trial is stopped, report() raises SystemExit here; closing frees what train() holds.
        with (
            Watchdog(start.folder, hang_time) as watchdog,
            closing(trial_epochs(start, info, threads, cores, watchdog.alive)) as epochs,
        ):
            for result in epochs:
                with watchdog.paused():
                    tune.report({"result": result})
        return
    except Exception as error:
        failure = note_failure(error, start.folder)
        if beyond_repair(error):
            os._exit(1)
    free_memory()
    tune.report({"failure": failure})


def _out_of_sight(folder: RunFolder) -> str | None:
    """Return why nobody would find what is written to a trial's folder from here; None where it is found."""
    marker = SearchFolder(folder.path.parent).search_yaml
    if marker.is_file():
        return None
    return f"node {platform.node()} does not see {marker}; results must lie on storage that all nodes share"
