"""The runs in which trials train again with fresh seeds: their seeds and folders, and their rows of trials.csv."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segtune.confirmed import Confirmation
from segtune.errors import InputError
from segtune.files.folders import RunFolder, SearchFolder
from segtune.training.result import EpochResult
from segtune.training.runlog import read_results
from segtune.trials import Status, Trial

_SEEDS = 2**31  # a seed is smaller


@dataclass(frozen=True)
class RepeatRun:
    """A trial that trains again with one of its fresh seeds."""

    trial: Trial
    seed: int  # the first, second, ... one
    folder: RunFolder

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def expected_seconds(self) -> float:
        """How long it takes if it trains as its trial did, from how long that took."""
        return (self.trial.seconds or 0.0) / max(1, self.trial.epochs_done) * self.trial.epochs

    @property
    def model(self) -> str:
        """The name of the folder that has its model: with folds, of a training of its trial on train."""
        trial = self.trial
        return SearchFolder(self.folder.path.parent).final(trial.number).path.name if trial.folds > 1 else self.name

    @property
    def done(self) -> bool:
        """Whether it is trained and measured: that is written last."""
        return self.folder.tiles.is_file()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting of RunConfig; the seed is a fresh one, and the others are those of the trial."""
        return {**self.trial.settings, "seed": (self.trial.settings["seed"] + self.seed) % _SEEDS}

    def epochs(self) -> list[EpochResult]:
        """Return the epochs that are done, as far as they can be read."""
        try:
            return read_results(self.folder, self.trial.epochs)
        except InputError:
            return []


def runs_of(confirmation: Confirmation, trials: Sequence[Trial], folder: SearchFolder) -> Iterator[RepeatRun]:
    """Yield the runs of a confirmation: first all trials with their first seed, then with their second one, ..."""
    by_number = {trial.number: trial for trial in trials}
    for seed in range(1, confirmation.seeds + 1):
        for number in confirmation.trials:
            if number in by_number:
                yield RepeatRun(by_number[number], seed, folder.repeat(number, seed))


def rows_of(
    confirmation: Confirmation, trials: Sequence[Trial], folder: SearchFolder, live: Collection[str] = ()
) -> list[Trial]:
    """Return the runs that began or failed, as rows of trials.csv; `live` are the names of those that run now."""
    runs = [run for run in runs_of(confirmation, trials, folder) if run.folder.begun or run.name in confirmation.failed]
    return [_row(run, confirmation, run.name in live) for run in runs]


def _row(run: RepeatRun, confirmation: Confirmation, live: bool) -> Trial:
    trial, epochs = run.trial, run.epochs()
    last = epochs[-1] if epochs else None
    best = next((epoch for epoch in epochs if last and epoch.epoch == last.best_epoch), None)
    error = confirmation.failed.get(run.name)
    status: Status = "failed" if error else "finished" if run.done else "running" if live else "pending"
    return Trial(
        trial.number,
        status,
        run.settings,
        last.epoch if last else 0,
        last.best_miou if last else None,
        last.best_epoch or None if last else None,
        round(last.seconds, 3) if last else None,
        error,
        trial.fingerprint,
        trial.parameters,
        micro_batch=last.micro_batch if last else None,
        searched=trial.searched,
        collapsed=best is not None and best.collapsed_epochs > 0,
        origin="confirm",
        own=last.own.best if last and last.own else None,
        folds=trial.folds,
    )
