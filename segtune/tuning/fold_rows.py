"""The epochs of a trial that is scored by folds, as those of one run: its score is the mean over the folds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.tile_counts import read_tiles, write_tiles
from segtune.files.atomic import write_text
from segtune.files.folders import RunFolder
from segtune.training.repeat import name_in_set
from segtune.training.result import EpochResult, Own
from segtune.training.runlog import as_texts, read_results, write_rows
from segtune.training.stopwatch import PHASES


def join_folds(trial: RunFolder, epochs: int, folds: int) -> list[EpochResult]:
    """Bring metrics.csv of a trial up to date with those of its folds, and return its epochs.

    Parameters
    ----------
    trial: its folder.
    epochs: the budget of each fold.
    folds: how many there are, trained one after another.

    Raises InputError where the table of a fold is damaged.
    """
    found: list[list[EpochResult]] = []
    for number in range(1, folds + 1):
        found.append(read_results(trial.fold(number), epochs))
        if len(found[-1]) < epochs:
            break
    every = joined(found, folds)
    rows = [{"epoch": one.epoch, "fold": (one.epoch - 1) // epochs + 1} | one.row() for one in every]
    if rows:
        write_rows(trial.metrics_csv, [as_texts(row) for row in rows])
        known = trial.fold(1).run_yaml.read_text(encoding="utf-8")  # the settings, and what the model costs
        if not trial.begun or trial.run_yaml.read_text(encoding="utf-8") != known:
            write_text(trial.run_yaml, known)
    return every


def joined(results: Sequence[Sequence[EpochResult]], folds: int) -> list[EpochResult]:
    """Return the epochs of all folds, counted on from fold to fold.

    The best score so far is the mean over all folds of the best score in each, in which a fold that is still to come
    counts zero. So it only rises, ends as the mean, and compares trials that have trained for as many epochs.

    `results` are the epochs of each fold that began; all but the last one are complete.
    """
    found: list[EpochResult] = []
    done: list[EpochResult] = []  # the last epochs of the folds before
    for own in results:
        before = sum(one.epochs for one in done)
        seconds = sum(one.seconds for one in done)
        for one in own:
            mean = _mean([*done, one], folds)
            best_epoch = before + one.best_epoch if one.best_epoch else (found[-1].best_epoch if found else 0)
            counted = replace(mean, epoch=before + one.epoch, epochs=folds * one.epochs, best_epoch=best_epoch)
            found.append(replace(counted, seconds=seconds + one.seconds))
        done += own[-1:]
    return found


def best_of_folds(epochs: Sequence[EpochResult], folds: int) -> list[EpochResult]:
    """Return the best epoch of each fold that has a score; of a trial without folds, its best epoch."""
    by_fold: dict[int, EpochResult] = {}
    for one in epochs:
        fold = (one.epoch - 1) // (one.epochs // folds)
        if one.score is not None and (fold not in by_fold or one.score > (by_fold[fold].score or 0.0)):
            by_fold[fold] = one
    return list(by_fold.values())


def _mean(parts: Sequence[EpochResult], folds: int) -> EpochResult:
    """Return the last of some epochs with the means of the best scores of all."""
    last = parts[-1]
    mious = [one.best_miou for one in parts if one.best_miou is not None]
    scores = [one.best_score for one in parts if one.best_score is not None]
    own = Own(last.own.score, sum(scores) / folds if scores else None) if last.own else None
    return replace(last, best_miou=sum(mious) / folds if mious else None, own=own)


def spent_in_folds(trial: RunFolder) -> Mapping[str, float]:
    """Return the seconds of each phase in the folds that are done, as far as `note_spent` wrote them."""
    total = dict.fromkeys(PHASES, 0.0)
    for fold in trial.folds():
        with suppress(OSError, ValueError):
            for name, seconds in json.loads(fold.spent_json.read_text(encoding="utf-8")).items():
                total[name] += float(seconds)
    return total


def note_spent(fold: RunFolder, spent: Mapping[str, float]) -> None:
    """Write the seconds of each phase that the run of a fold took."""
    write_text(fold.spent_json, json.dumps({name: round(seconds, 3) for name, seconds in spent.items()}) + "\n")


def join_tiles(trial: RunFolder, folds: int) -> None:
    """Write what the models of all folds counted, each on its own tiles, into one tiles.npz."""
    read = [read_tiles(trial.fold(number).tiles) for number in range(1, folds + 1)]
    names = [name_in_set(name) for names, _ in read for name in names]
    write_tiles(trial.tiles, names, TileCounts.joined([counts for _, counts in read]))
