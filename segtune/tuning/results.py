"""Provide a search's trials as data, and write trials.csv."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter

from segtune.confirmed import Confirmation, Look
from segtune.errors import InputError, counted
from segtune.evaluation.intervals import Interval
from segtune.files.atomic import MANIFEST, set_aside
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.models.manifest import Manifest
from segtune.objectives import MIOU
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.training.runlog import read_results
from segtune.trials import Status, Trial, wobble, write_trials
from segtune.tuning.fold_rows import best_of_folds
from segtune.tuning.repeats import rows_of
from segtune.tuning.study import (
    ERROR,
    MICRO_BATCH,
    NOTE,
    REPEATS,
    SPENT,
    WARM_START,
    begun,
    budget_of,
    is_paused,
    origin_of,
)

_LOOKS = "test_looks"  # user attribute of the study: the looks at the test tiles
_STATUS: Mapping[TrialState, Status] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "pending",
}


class Results:
    """The trials of a search, kept current on disk while it runs."""

    def __init__(self, study: optuna.Study, folder: SearchFolder, space: Space, fingerprint: str) -> None:
        self._study, self._folder, self._space, self._fingerprint = study, folder, space, fingerprint
        self._ended: dict[int, Trial] = {}  # no longer change
        self._paused: dict[int, Trial] = {}  # do not change while they are paused
        self._reported: dict[int, dict[int, EpochResult]] = {}  # by trial and epoch: of this start
        self._damaged: dict[int, str] = {}  # by trial
        self._live: Callable[[], Collection[str]] = tuple  # the runs with fresh seeds that run now
        self.confirmation: Confirmation | None = None
        self._unread: list[str] = []
        try:
            self.confirmation = Confirmation.read(folder.confirmation)
        except InputError as error:
            self._unread.append(str(error))

    def confirm(self, confirmation: Confirmation, live: Callable[[], Collection[str]] = tuple) -> None:
        """Use the state of a confirmation from now on; `live` returns the names of its runs that run."""
        self.confirmation, self._live = confirmation, live

    def looks(self) -> tuple[Look, ...]:
        """Return the looks at the test tiles that were noted, whatever became of confirmation.json."""
        return TypeAdapter(tuple[Look, ...]).validate_python(self._study.user_attrs.get(_LOOKS, ()))

    def note_looks(self, looks: tuple[Look, ...]) -> None:
        """Note the looks at the test tiles in the study."""
        if looks != self.looks():
            self._study.set_user_attr(_LOOKS, [asdict(look) for look in looks])

    def report(self, number: int, result: EpochResult) -> None:
        """Record an epoch of a trial, so that it need not be read from the trial's files."""
        self._reported.setdefault(number, {})[result.epoch] = result

    def trials(self) -> list[Trial]:
        """Return every trial that has settings, by number, with what fresh seeds showed of the best ones."""
        found = []
        for frozen in self._study.get_trials(deepcopy=False):
            if WARM_START in frozen.user_attrs:
                continue  # trained in another search
            if frozen.number in self._ended:
                found.append(self._ended[frozen.number])
            elif begun(frozen):
                trial = self._known_pause(frozen) or self._trial(frozen)
                if trial.status == "paused":
                    self._paused[trial.number] = trial
                if trial.ended:
                    self._ended[trial.number] = trial
                    self._reported.pop(trial.number, None)
                found.append(trial)
        if preference := self._space.search.preference:
            found = [replace(trial, fits=preference.kept_by(trial.costs)) for trial in found]
        return self.confirmation.attached(found) if self.confirmation else found

    def remarks(self) -> list[str]:
        """Return a line for each trial with a damaged file, among those that `trials` returned, and for others."""
        return [*(self._damaged[number] for number in sorted(self._damaged)), *self._unread]

    def write(self) -> list[Trial]:
        """Bring trials.csv up to date."""
        trials = self.trials()
        table = self._folder.trials_csv
        if table.is_dir():  # a damaged table that is a file is simply written again
            set_aside(table, f"lost_{table.name}")
        confirmation = self.confirmation
        write_trials(table, trials, rows_of(confirmation, trials, self._folder, self._live()) if confirmation else ())
        return trials

    def _known_pause(self, frozen: FrozenTrial) -> Trial | None:
        """Return a paused trial as it was seen in the same pause; its files need not be read again."""
        known = self._paused.get(frozen.number) if is_paused(frozen) else None
        return known if known and known.epochs_done == max(frozen.intermediate_values, default=0) else None

    def _trial(self, frozen: FrozenTrial) -> Trial:
        folder = self._folder.trial(frozen.number)
        values = frozen.intermediate_values
        spent = dict(frozen.user_attrs.get(SPENT, {}))
        micro_batch = spent.pop("micro_batch", None)
        best: float | None = max(values.values(), default=None)
        epochs, run_yaml = self._files_of(frozen, folder)
        reached = next((epoch for epoch in epochs if epoch.best_score == best), None)
        by_miou, folds = self._space.search.objective == MIOU, self._space.search.folds or 1
        return Trial(
            number=frozen.number,
            status="paused" if is_paused(frozen) else _STATUS[frozen.state],
            settings=frozen.user_attrs["settings"],
            epochs_done=max(values, default=0),
            miou=best if by_miou else reached.best_miou if reached else None,
            own=None if by_miou else best,
            best_epoch=min((epoch for epoch, value in values.items() if value == best), default=None),
            seconds=round(epochs[-1].seconds, 3) if epochs else None,
            error=frozen.user_attrs.get(ERROR),
            fingerprint=self._fingerprint,
            parameters=run_yaml.get("parameters"),
            **_costs(run_yaml),
            note=frozen.user_attrs.get(NOTE),
            repeats=tuple(frozen.user_attrs.get(REPEATS, ())),
            micro_batch=frozen.user_attrs.get(MICRO_BATCH, micro_batch),
            spent=spent,
            searched=self._searched(frozen),
            collapsed=reached is not None and all(one.collapsed_epochs > 0 for one in best_of_folds(epochs, folds)),
            wobble=wobble_of(epochs, folds),
            folds=folds,
            origin=origin_of(frozen, self._space.search.sampler == "grid"),
            **_running(frozen, run_yaml),
        )

    def _epochs_of(self, frozen: FrozenTrial, folder: RunFolder) -> list[EpochResult]:
        """Return a trial's epochs that the study knows: as reported in this start, else as metrics.csv has them."""
        values, reported = frozen.intermediate_values, self._reported.get(frozen.number, {})
        if values and values.keys() <= reported.keys():
            return [reported[epoch] for epoch in sorted(values)]
        rows = read_results(folder, budget_of(frozen))
        epochs = max(values, default=0)
        if frozen.state.is_finished() and folder.begun and len(rows) < epochs:
            self._damaged_by(frozen, f"{folder.metrics_csv}: has {len(rows)} of {counted(epochs, 'epoch')}")
        return [row for row in rows if row.epoch in values]

    def _files_of(self, frozen: FrozenTrial, folder: RunFolder) -> tuple[list[EpochResult], Mapping[str, Any]]:
        """Return a trial's epochs and its run.yaml, as far as they can be read; its scores come from the study."""
        epochs: list[EpochResult] = []
        run_yaml: Mapping[str, Any] = {}
        try:
            epochs = self._epochs_of(frozen, folder)
            if folder.begun:
                content = read_yaml(folder.run_yaml)
                Manifest.of(content, folder.run_yaml)
                run_yaml = content
        except InputError as error:
            self._damaged_by(frozen, str(error))
        return epochs, run_yaml

    def _damaged_by(self, frozen: FrozenTrial, damage: str) -> None:
        self._damaged[frozen.number] = f"trial {frozen.number}: {damage}; its values are those of the study"

    def _searched(self, frozen: FrozenTrial) -> dict[str, Any]:
        settings = frozen.user_attrs["settings"]
        if frozen.number == 0:
            return self._space.searched_in(settings)
        names = (key.rsplit(".", 1)[-1] for key in frozen.params)  # optimizer.sgd.momentum
        return {name: settings[name] for name in names}


def with_intervals(trials: Sequence[Trial], folder: SearchFolder) -> list[Trial]:
    """Return the trials with the intervals of their scores, as far as their models are still there to tell."""
    return [replace(trial, interval=_interval(trial, folder.trial(trial.number).best)) for trial in trials]


def _interval(trial: Trial, best: Path) -> Interval | None:
    try:
        metrics = Manifest.read(best / MANIFEST).metrics if trial.score is not None and best.is_dir() else {}
    except InputError:
        return None
    score, low, high = (metrics.get(f"{trial.objective}{end}") for end in ("", "_low", "_high"))
    # A running trial may have a newer model than the study knows of, and older releases wrote no interval.
    return None if score is None or low is None or high is None or score != trial.score else Interval(score, low, high)


def wobble_of(epochs: Sequence[EpochResult], folds: int) -> float | None:
    """Return how the score varies from epoch to epoch; by folds, the mean of them, which vary on their own."""
    scores: dict[int, list[float]] = {}
    for one in epochs:
        if one.score is not None:
            scores.setdefault((one.epoch - 1) // (one.epochs // folds), []).append(one.score)
    found = [value for own in scores.values() if (value := wobble(own)) is not None]
    return math.hypot(*found) / len(found) if found else None


def _costs(run_yaml: Mapping[str, Any]) -> dict[str, Any]:
    """Return the latency and the memory that a run measured; older releases measured none."""
    return {name: (run_yaml.get("costs") or {}).get(name) for name in ("latency", "gpu_memory")}


def _running(frozen: FrozenTrial, run_yaml: Mapping[str, Any]) -> dict[str, Any]:
    """Return when a running trial started, and where it runs."""
    if frozen.state is not TrialState.RUNNING or frozen.datetime_start is None:
        return {}
    machine = run_yaml.get("machine") or {}
    gpus = machine.get("cuda_visible_devices")
    where = machine.get("host", "") + (f", GPU {gpus}" if gpus else "")
    return {"since": frozen.datetime_start.timestamp(), "where": where or None}
