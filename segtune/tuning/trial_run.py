"""Train one trial; the same code wherever trials run."""

from __future__ import annotations

import gc
import os
import platform
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import cv2
import torch

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.cache import Cache
from segtune.data.dataset import DataInfo
from segtune.data.fitting import Fit
from segtune.data.folds import FoldTiles
from segtune.data.scan import scan
from segtune.data.splits import split_places
from segtune.errors import InputError, PlaceError
from segtune.files.atomic import write_text
from segtune.files.folders import RunFolder
from segtune.training.repeat import count_tiles, forget_model, measure_fold
from segtune.training.result import EpochResult
from segtune.training.run import Stop
from segtune.training.runlog import read_results
from segtune.training.state import load_state
from segtune.training.stopwatch import Alive
from segtune.training.train import train
from segtune.tuning.failures import Failure, beyond_repair, failure_of
from segtune.tuning.fold_rows import join_folds, join_tiles, note_spent, spent_in_folds
from segtune.tuning.proposals import TrialStart

_EARLIER_S = 60.0  # seconds that the process of an earlier attempt may take to end


def prepare_process() -> None:
    """Set up this process for training trials."""
    # Left at its default, OpenCV would use all cores of the machine beside torch's threads.
    cv2.setNumThreads(0)
    if not gc.get_freeze_count():
        # train() collects garbage when it ends. What the imports made, a million objects, need not be looked
        # through after every trial.
        gc.freeze()


def trial_epochs(
    start: TrialStart, info: DataInfo, threads: int, cores: int, alive: Alive, stop: Stop | None = None
) -> Generator[EpochResult]:
    """Train a trial, or continue it, epoch by epoch; by folds, one fold after another.

    Parameters
    ----------
    start: the trial.
    info: the search's scan of the data.
    threads: torch threads of a run that does not set them.
    cores: CPU cores that the trial may use.
    alive, stop: see `train`.

    The time that the trial waited for its process, and the caller's own time between epochs, are added to `spent`. A
    trial with no epoch left yields its last one again. One that counts tiles does so after its last epoch.
    """
    waited = max(0.0, time.time() - start.asked)  # for the process and its imports
    start.folder.fault_txt.unlink(missing_ok=True)  # of an earlier attempt
    trained = _by_folds if start.folded else _trained
    with closing(trained(start, info, threads, cores, alive, stop)) as epochs:
        reporting = 0.0
        for result in epochs:
            spent = dict(result.spent)
            spent["start"] += waited
            spent["reporting"] += reporting
            asked = running_seconds()
            yield replace(result, spent=spent)
            reporting += running_seconds() - asked


def _trained(
    start: TrialStart, info: DataInfo, threads: int, cores: int, alive: Alive, stop: Stop | None
) -> Generator[EpochResult]:
    """Train a trial on the training tiles, and score it on the validation tiles."""
    folder = start.folder
    with _named_node():
        data = _at_hand(info, start.config, alive)
    _outlive_earlier(folder, alive)
    result = None
    with closing(_training(start, data, folder, threads, cores, alive, stop)) as epochs:
        for result in epochs:
            yield result
    if result is None and not (stop and stop()):  # a killed driver did not learn of the last epoch
        result = last_epoch(folder, start.config.epochs)
        yield result
    if start.counts_tiles and result and result.finished:
        count_tiles(folder, start.config, data, alive)


def _by_folds(
    start: TrialStart, info: DataInfo, threads: int, cores: int, alive: Alive, stop: Stop | None
) -> Generator[EpochResult]:
    """Train a trial once for each fold, on the tiles of the others; yield the epochs as those of one run.

    The folders of the folds are the state: one whose tiles.npz is there is done. The model of a fold is deleted once it
    is measured.
    """
    trial, config, count = start.folder, start.config, len(info.folds)
    _outlive_earlier(trial, alive)
    with trial.locked():
        last: EpochResult | None = None
        for number, part in enumerate(info.folds, start=1):
            fold = trial.fold(number)
            if fold.tiles.is_file():
                forget_model(fold)
                continue
            with _named_node():
                data = _at_hand(part, config, alive)
            fold.spent_json.unlink(missing_ok=True)  # written before the fold was done
            before = spent_in_folds(trial)
            told = False
            with closing(_training(start, data, fold, threads, cores, alive, stop)) as epochs:
                for own in epochs:
                    spent = {name: seconds + before[name] for name, seconds in own.spent.items()}
                    last = join_folds(trial, config.epochs, count)[-1]
                    last = replace(last, first_lr=own.first_lr, waiting=own.waiting, costs=own.costs, spent=spent)
                    told = True
                    yield last
            if stop and stop():
                return
            note_spent(fold, load_state(fold.state)["spent"])
            measure_fold(fold, config, data, alive)
            if not told:  # a killed driver may not have learnt of its last epoch
                last = _last_of(trial, config, count)
                yield last
        if last is None:
            yield _last_of(trial, config, count)
        if start.counts_tiles:
            join_tiles(trial, count)


def _training(
    start: TrialStart, data: DataInfo, folder: RunFolder, threads: int, cores: int, alive: Alive, stop: Stop | None
) -> Generator[EpochResult]:
    return train(
        start.config,
        data,
        folder,
        threads=threads,
        go_on=True,
        alive=alive,
        stop=stop,
        cores=cores,
        transforms=start.transforms,
    )


def _last_of(trial: RunFolder, config: RunConfig, folds: int) -> EpochResult:
    return replace(join_folds(trial, config.epochs, folds)[-1], spent=spent_in_folds(trial))


def last_epoch(folder: RunFolder, epochs: int) -> EpochResult:
    """Return the last epoch of a run that needs no more training, from its row and its state."""
    return replace(read_results(folder, epochs)[-1], spent=load_state(folder.state)["spent"])


def note_failure(error: Exception, folder: RunFolder) -> Failure:
    """Classify an error that ended a trial, and write its trace to the trial's folder."""
    failure = failure_of(error)
    with suppress(OSError):  # the error may be a full disk
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.error, traceback.format_exc())
        if beyond_repair(error):
            write_text(folder.fault_txt, failure.reason)
    return failure


def free_memory() -> None:
    """Free the memory of a failed trial; call it outside the except block, whose traceback holds memory."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _outlive_earlier(folder: RunFolder, alive: Alive) -> None:
    """Wait for the process of an earlier attempt, which may still be ending."""
    limit = running_seconds() + _EARLIER_S
    while folder.held() and running_seconds() < limit:
        alive("start")
        time.sleep(0.5)


def _at_hand(info: DataInfo, run: RunConfig, alive: Alive) -> DataInfo:
    """Return the driver's scan with the decoded tiles of this node, from its own cache or read into it now."""
    cache = Cache.of(run)
    # An entry's key identifies the files and the classes: it is the same on every node, wherever its cache lies.
    # Another node's cache, even if it can be seen from here, is not used: it is not on a local disk.
    found = {what: cache and cache.entry(path.parent.name, path.name) for what, path in info.entries.items()}
    entries = {what: path for what, path in found.items() if path}
    if len(entries) == len(found) and not info.tiles:
        return replace(info, entries=entries)
    # A folder may be there but empty, such as an unmounted mount point. One tile stands for all others.
    files = (file for split in info.tiles.values() for tile in split[:1] for file in (tile.image, tile.mask))
    missing = [place for place in (*split_places(run).values(), *files) if not os.path.exists(place)]
    if missing:
        raise InputError(f"{missing[0]}: no such folder or file")
    if len(entries) == len(found):  # the cache has no room for all of them
        return replace(info, entries=entries)
    # The first trial on a node reads the tiles for all that follow; concurrent ones wait.
    fits = [Fit.of(run), *map(Fit.from_key, info.wanted)]
    wanted = [(fit.mode, fit.size) for fit in fits]
    if info.scanned:
        own = FoldTiles(run, info.channels).scan(lambda done, total: alive("start"), wanted)
    else:
        own = scan(run, info.channels, lambda done, total: alive("start"), wanted)
    if own.fingerprint != (info.scanned or info.fingerprint):
        raise InputError(f"{run.dataset}: its tiles differ from those that the search was started with")
    return replace(info, entries=own.entries, tiles=own.tiles) if info.scanned else own


@contextmanager
def _named_node() -> Iterator[None]:
    """Turn an InputError into a PlaceError that names this node: another node may have the files."""
    try:
        yield
    except InputError as error:
        raise PlaceError(f"{mistake} (node {platform.node()})" for mistake in error.mistakes) from None
