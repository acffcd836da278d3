"""Reconcile the study with the trials' folders before a search continues."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.clock import running_seconds
from segtune.errors import InputError, counted
from segtune.fields import CHANGEABLE_IN_SEARCH
from segtune.files.atomic import MANIFEST, set_aside
from segtune.files.folders import RunFolder, SearchFolder
from segtune.models.manifest import Manifest
from segtune.models.weights import weights_file
from segtune.space.space import WEIGHTS, Space
from segtune.training.runlog import epochs_done, read_results, read_rows
from segtune.training.state import load_state
from segtune.tuning.fold_rows import join_folds
from segtune.tuning.points import distributions
from segtune.tuning.study import FOLDS, WARM_START, budget_of, wait
from segtune.values import AUTO

_ORPHANS_S = 90.0  # seconds that trials of a killed search may outlive it
_ENDING_S, _ENDING_POLL_S = 10.0, 0.05  # seconds for the trials' processes to end, and between two looks


def reconcile(study: optuna.Study, folder: SearchFolder) -> list[str]:
    """Make study and folders agree; return a line for each difference.

    Unfinished trials are set to WAITING. Epochs that only a folder has are reported to the study. Epochs that only the
    study has are kept there and trained again. Folders of unknown trials, and folders in which a trial cannot continue,
    are set aside, not deleted. Raises InputError when a trial's process of an earlier start does not end.
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


def set_aside_damage(name: str, run: RunFolder, budget: int, noun: str = "trial") -> str | None:
    """Set aside what keeps an unfinished run from going on; return a line that says so, or None where nothing does.

    A run that did fewer epochs than its budget needs its state.
    """
    if mistake := _damage(run, budget):
        return f"{name}: {mistake}; its files are now in {_lost(run.path)}, and the {noun} starts again"
    if mistake := _damaged_rows(run):
        return f"{name}: {mistake}; moved to {_lost(run.metrics_csv)}, and the {noun} continues from its state"
    return None


def check_drawn_from(study: optuna.Study, space: Space, folder: SearchFolder) -> None:
    """Raise InputError for a space that the study's trials were not drawn from.

    search.yaml shows more changes than the study; where it is missing, the trials' settings are compared.
    """
    own = [trial for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs]
    known = dict(distributions(space.parameters))
    drawn = [(key, kind) for trial in own for key, kind in trial.distributions.items()]
    differs = {f"space: {key}" for key, kind in drawn if known.get(key) != kind}
    if not folder.search_yaml.is_file():
        file = weights_file(space.fixed.get(WEIGHTS, AUTO))
        elsewhere = CHANGEABLE_IN_SEARCH | ({WEIGHTS} if file else set())
        # A value left to the data or the machine cannot be compared with a trial's.
        fixed = {name: v for name, v in space.fixed.items() if name not in elsewhere and v not in (None, "auto")}
        fixed = _without_folder(fixed)
        runs = [_without_folder(trial.user_attrs["settings"]) for trial in own[1:] if "settings" in trial.user_attrs]
        differs |= {f"run: {name}" for run in runs for name in fixed if run.get(name, fixed[name]) != fixed[name]}
    if differs:
        gone = "" if folder.search_yaml.is_file() else f", and {folder.search_yaml.name} is missing"
        raise InputError(
            f"{folder.study_db}: its trials were drawn from another space ({', '.join(sorted(differs))}){gone}; "
            f"continue with the space that the search was started with, or start another search with --name"
        )


def _without_folder(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the name alone of a file of transforms, which may be in another folder."""
    kept = settings.get("augmentation")
    return settings | {"augmentation": PurePath(kept).name} if kept else settings


def catch_up(study: optuna.Study, number: int, run: RunFolder) -> bool:
    """Report to the study the epochs of an unfinished trial that only its folder has; return whether there are any."""
    trial = study.get_trials(deepcopy=False)[number]
    known = max(trial.intermediate_values, default=0)
    new = {epoch: score for epoch, score in _trained(run, trial).items() if epoch > known}
    for epoch, score in new.items():
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, score)
    return bool(new)


def catch_up_all(study: optuna.Study, folder: SearchFolder) -> None:
    """Do the same for all waiting trials, once their processes have ended or had time to end."""
    limit = time.monotonic() + _ENDING_S
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if "settings" in trial.user_attrs:
            run = folder.trial(trial.number)
            while run.held() and time.monotonic() < limit:
                time.sleep(_ENDING_POLL_S)
            catch_up(study, trial.number, run)


def _trained(run: RunFolder, trial: FrozenTrial) -> dict[int, float]:
    """Return the best score so far by epoch from a trial's folder; a model is written before the row of its epoch."""
    try:
        _join(run, trial)
        results = read_results(run, budget_of(trial))
        found = {result.epoch: result.best_score for result in results if result.best_score is not None}
        if run.best.is_dir():
            manifest = Manifest.read(run.best / MANIFEST)
            found.setdefault(manifest.metrics["epoch"], manifest.metrics[manifest.config.objective])
    except (InputError, KeyError):  # damaged: the study's values have to be enough
        return {}
    return found


def _strangers(folder: SearchFolder, known: int) -> Iterator[str]:
    """Set aside the folders of trials that the study does not know."""
    for run in folder.trials():
        if folder.number(run) >= known:
            yield f"{run.path}: the study has no such trial; moved to {_lost(run.path)}"


def _lost(path: Path) -> Path:
    return set_aside(path, f"lost_{path.name}")


def _join(run: RunFolder, trial: FrozenTrial) -> None:
    """Bring the table of a trial up to date with those of its folds: it was killed between the two, perhaps."""
    if FOLDS in trial.user_attrs:
        join_folds(run, trial.user_attrs["settings"]["epochs"], trial.user_attrs[FOLDS])


def _damage(run: RunFolder, budget: int) -> str | None:
    """Return why an unfinished trial cannot continue from its folder; None where it can, or where it did no epoch."""
    if folds := run.folds():
        return next((mistake for fold in folds if (mistake := _damage_of_fold(fold))), None)
    try:
        if run.state.is_file():
            Manifest.read(run.run_yaml)
            load_state(run.state)
            for model in (run.best, run.next_best):
                if model.exists():
                    Manifest.read(model / MANIFEST)
        elif 0 < epochs_done(run) < budget:
            return f"{run.state} is missing"
    except InputError as error:
        return str(error)
    return None


def _damage_of_fold(fold: RunFolder) -> str | None:
    """Return why a trial cannot continue from the folder of a fold; until it is measured, it needs its state."""
    state = None if fold.tiles.is_file() else _damage(fold, sys.maxsize)
    return state or _damaged_rows(fold)


def _damaged_rows(run: RunFolder) -> str | None:
    """Return why metrics.csv cannot be read; None where it can."""
    if run.metrics_csv.is_dir():
        return f"{run.metrics_csv}: is a folder"
    try:
        read_rows(run)
    except InputError as error:
        return str(error)
    return None


def _unfinished(study: optuna.Study, trial: FrozenTrial, run: RunFolder) -> Iterator[str]:
    name = f"trial {trial.number}"
    if damage := set_aside_damage(name, run, budget_of(trial)):
        yield damage
        return
    _join(run, trial)
    known, done = max(trial.intermediate_values, default=0), epochs_done(run)
    if catch_up(study, trial.number, run):
        yield f"{name}: its folder has {counted(done, 'epoch')}, the study had {known}; the others were added"
    elif done < known:
        yield f"{name}: the study has {counted(known, 'epoch')}, its folder {done}; the trial continues from its folder"


def _outlive_orphans(folder: SearchFolder) -> None:
    """Wait for the processes of a killed search that train; they end when they notice it."""
    limit = running_seconds() + _ORPHANS_S
    for run in [*folder.trials(), *folder.repeats(), *folder.finals()]:
        while run.held():
            if running_seconds() > limit:
                raise InputError(
                    f"{run.path}: a process of an earlier start still trains here; end it, then --resume again"
                )
            time.sleep(0.5)
