"""Study and trial folders, the two truths about a search, brought together before it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import InputError
from segtune.folders import RunFolder, SearchFolder
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.study import WARM_START, wait

_ORPHANS_S = 90.0  # for which the trials of a search that was killed may outlive it


def reconcile(study: optuna.Study, folder: SearchFolder) -> list[str]:
    """Make the two agree, and say, a line each, on what they did not.

    Trials that had not ended are set to wait. Epochs that a folder has and the study does not are told to the study,
    since they were trained; of epochs that only the study knows, nothing is taken back, and they are trained again.
    Folders that the study knows nothing of, or that a trial cannot go on in, are set aside, not deleted. InputError
    when a trial's process of an earlier start does not end.
    """
    _outlive_orphans(folder)
    trials = study.get_trials(deepcopy=False)
    remarks = list(_strangers(folder, len(trials)))
    for trial in trials:
        if WARM_START in trial.user_attrs:
            continue
        if trial.state is TrialState.RUNNING:
            wait(study, trial._trial_id)
        run = folder.trial(trial.number)
        if trial.state.is_finished():
            if trial.state is not TrialState.FAIL and not run.begun:
                remarks.append(f"trial {trial.number}: the study has its result, but {run.path} is gone")
        elif "settings" in trial.user_attrs:
            remarks += _unfinished(study, trial, run)
    return remarks


def _unfinished(study: optuna.Study, trial: FrozenTrial, run: RunFolder) -> Iterator[str]:
    known, name = max(trial.intermediate_values, default=0), f"trial {trial.number}"
    done = run.epochs_done
    budget = trial.user_attrs["settings"]["epochs"]
    if 0 < done < budget and not run.state.is_file():
        yield f"{name}: {run.state} is missing; {_set_aside(run.path)} keeps what there is, and the trial begins again"
        return
    new = {int(row["epoch"]): row[OBJECTIVE] for row in run.metrics() if known < int(row["epoch"]) <= done}
    for epoch, value in new.items():
        if value:
            study._storage.set_trial_intermediate_value(trial._trial_id, epoch, float(value))
    if new:
        yield f"{name}: its folder has {done} epochs, the study knew of {known}; the study has them now"
    elif done < known:
        yield f"{name}: the study knows of {known} epochs, its folder has {done}; it goes on from there"


def _strangers(folder: SearchFolder, known: int) -> Iterator[str]:
    """Folders whose trial the study lost, or never had."""
    for run in folder.trials():
        if int(run.path.name.removeprefix("trial_")) >= known:
            yield f"{run.path}: the study knows no such trial; now {_set_aside(run.path)}"


def _set_aside(path: Path) -> Path:
    for number in count(1):
        aside = path.with_name(f"lost_{path.name}_{number}")
        if not aside.exists():
            os.replace(path, aside)
            return aside
    raise AssertionError


def _outlive_orphans(folder: SearchFolder) -> None:
    """Wait for the trials' processes of a search that was killed; they end when they notice."""
    limit = time.monotonic() + _ORPHANS_S
    for run in folder.trials():
        while run.held():
            if time.monotonic() > limit:
                raise InputError(
                    f"{run.path}: a process of an earlier start still trains here; end it, then --resume again"
                )
            time.sleep(0.5)
