"""One trial: train() inside a Ray actor that serves many trials, one after another."""

from __future__ import annotations

import gc
import os
import platform
import time
import traceback
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import ray
import torch
from ray import tune

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.cache import Cache
from segtune.data.dataset import DataInfo
from segtune.data.fitting import Fit
from segtune.data.scan import scan
from segtune.data.splits import split_places
from segtune.errors import InputError, PlaceError
from segtune.files.atomic import write_text
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.places import shorten_sockets
from segtune.training.result import EpochResult
from segtune.training.runlog import read_results
from segtune.training.state import load_state
from segtune.training.train import train
from segtune.tuning.failures import PLACE, beyond_repair, fault_of, one_line
from segtune.tuning.watchdog import Watchdog

_EARLIER_S = 60.0  # for which the process of a trial's attempt before may outlive it


def run_trial(config: dict[str, Any], info: DataInfo, threads: int, hang_time: float) -> None:
    """Train and report each epoch to Ray Tune.

    `config` has the trial's number, whether it is the baseline, its settings, its folder and when it was asked for. A
    failure is reported as a result with an `error` and what may be done about it (`fault`), not raised: Ray would throw
    the process away, with five seconds of imports in it.
    """
    folder = RunFolder(Path(config["folder"]))
    os.environ["RAY_NODE_ID"] = ray.get_runtime_context().get_node_id()  # for run.yaml, which knows nothing of Ray
    if mistake := _out_of_sight(folder):
        tune.report({"error": mistake, "fault": PLACE})  # another node may see it
        return
    shorten_sockets()
    # Left at its default, OpenCV would use all cores of the machine beside torch's threads.
    cv2.setNumThreads(0)
    if not gc.get_freeze_count():
        # train() collects garbage when it ends. What the imports made, a million objects, need not be looked
        # through after every trial.
        gc.freeze()
    waited = max(0.0, time.time() - config["asked"])  # for the process, and for what it imports
    try:
        # When the scheduler stops a trial, report() raises SystemExit here; closing frees what train() holds.
        with (
            Watchdog(folder, hang_time) as watchdog,
            closing(_results(config, info, threads, folder, watchdog, waited)) as results,
        ):
            for result in results:
                with watchdog.paused():
                    tune.report(result)
        return
    except Exception as error:
        with suppress(OSError):  # a full disk may be what is reported below
            folder.path.mkdir(parents=True, exist_ok=True)
            write_text(folder.error, traceback.format_exc())
            if beyond_repair(error):
                write_text(folder.fault_txt, one_line(error))
        if beyond_repair(error):
            os._exit(1)
        failure = {"error": one_line(error), "fault": fault_of(error)}
    # Only here, without the exception, is what its traceback held free.
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    tune.report(failure)


def _results(
    config: Mapping[str, Any], info: DataInfo, threads: int, folder: RunFolder, watchdog: Watchdog, waited: float
) -> Generator[dict[str, Any]]:
    """What Ray and the study get of each epoch."""
    run = RunConfig.from_settings(config["settings"])
    folder.fault_txt.unlink(missing_ok=True)  # of an attempt before this one
    with _named_node():
        data = _at_hand(info, run, watchdog)
    _outlive_earlier(folder, watchdog)
    reporting = 0.0
    result = None
    with closing(train(run, data, folder, threads=threads, go_on=True, alive=watchdog.alive)) as epochs:
        for result in epochs:
            report = _report(result, waited, reporting)
            asked = running_seconds()
            yield report
            reporting += running_seconds() - asked
    if result is None:  # a driver that was killed did not learn of the last epoch
        yield _last_report(folder, run.epochs)


def _outlive_earlier(folder: RunFolder, watchdog: Watchdog) -> None:
    """Wait for the process of an attempt before this one, which may still be ending; whoever stays is refused."""
    limit = running_seconds() + _EARLIER_S
    while folder.held() and running_seconds() < limit:
        watchdog.alive("start")
        time.sleep(0.5)


def _at_hand(info: DataInfo, run: RunConfig, watchdog: Watchdog) -> DataInfo:
    """The driver's scan, with the decoded tiles of this node: found in its own cache, or else read into it."""
    cache = Cache.of(run)
    # An entry's key stands for the files and for what is learnt: the same on every node, wherever its cache lies.
    # Another node's cache, should it be in sight, is left alone: it is not on a disk of this one.
    found = {what: cache and cache.entry(path.parent.name, path.name) for what, path in info.entries.items()}
    entries = {what: path for what, path in found.items() if path}
    if len(entries) == len(found) and not info.tiles:
        return replace(info, entries=entries)
    # A folder that stayed may be empty, as the place is where a disk was mounted. One tile stands for the others.
    files = (file for split in info.tiles.values() for tile in split[:1] for file in (tile.image, tile.mask))
    missing = [place for place in (*split_places(run).values(), *files) if not os.path.exists(place)]
    if missing:
        raise InputError(f"{missing[0]}: no such folder or file")
    if len(entries) == len(found):  # there was no room for all of them, and will not be
        return replace(info, entries=entries)
    # The first trial that comes by reads the tiles for all that follow; those beside it wait.
    fits = [Fit.of(run), *map(Fit.keeping, info.wanted)]
    wanted = [(fit.mode, fit.size) for fit in fits]
    own = scan(run, info.channels, lambda done, total: watchdog.alive("start"), wanted)
    if own.fingerprint != info.fingerprint:
        raise InputError(f"{run.dataset}: not the tiles that the search was started with")
    return own


@contextmanager
def _named_node() -> Iterator[None]:
    """Have mistakes name the node that they were met on: another may have the files."""
    try:
        yield
    except InputError as error:
        raise PlaceError(f"{mistake} (node {platform.node()})" for mistake in error.mistakes) from None


def _out_of_sight(folder: RunFolder) -> str | None:
    """Why nobody would find what is written to a trial's folder from here."""
    marker = SearchFolder(folder.path.parent).search_yaml
    if marker.is_file():
        return None
    return f"{marker} is not to be seen on node {platform.node()}; results must lie on storage that all nodes share"


def _report(result: EpochResult, waited: float, reporting: float) -> dict[str, Any]:
    spent = dict(result.spent)
    spent["start"] += waited
    spent["reporting"] += reporting
    return replace(result, spent=spent).report()


def _last_report(folder: RunFolder, epochs: int) -> dict[str, Any]:
    """The report on a run that needs no more training, from its last row and its state."""
    return replace(read_results(folder, epochs)[-1], spent=load_state(folder.state)["spent"]).report()
