"""Study and trial folders, the two truths about a search, brought together before it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.clock import running_seconds
from segtune.errors import InputError, counted
from segtune.fields import CHANGEABLE_IN_SEARCH
from segtune.files.atomic import set_aside
from segtune.files.folders import RunFolder, SearchFolder
from segtune.models.manifest import Manifest
from segtune.space.space import Space
from segtune.training.runlog import epochs_done, read_results, read_rows
from segtune.training.state import load_state
from segtune.tuning.points import distributions
from segtune.tuning.study import WARM_START, wait

_ORPHANS_S = 90.0  # for which the trials of a search that was killed may outlive it
_ENDING_S, _ENDING_POLL_S = 10.0, 0.05  # for which processes of trials may take to end, and between looks at them


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


def check_drawn_from(study: optuna.Study, space: Space, folder: SearchFolder) -> None:
    """Refuse a space that the study's trials were not drawn from: it could not be drawn from beside them.

    search.yaml tells of more that may have changed; where that is gone, the trials' own settings do.
    """
    own = [trial for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs]
    known = dict(distributions(space.parameters))
    drawn = [(key, kind) for trial in own for key, kind in trial.distributions.items()]
    differs = {f"space: {key}" for key, kind in drawn if known.get(key) != kind}
    if not folder.search_yaml.is_file():
        elsewhere = CHANGEABLE_IN_SEARCH | {"encoder_weights"}
        # What is left to the data or the machine is known of no trial.
        fixed = {name: v for name, v in space.fixed.items() if name not in elsewhere and v not in (None, "auto")}
        runs = [trial.user_attrs["settings"] for trial in own[1:] if "settings" in trial.user_attrs]
        differs |= {f"run: {name}" for run in runs for name in fixed if run.get(name, fixed[name]) != fixed[name]}
    if differs:
        gone = "" if folder.search_yaml.is_file() else f", and {folder.search_yaml.name} is missing"
        raise InputError(
            f"{folder.study_db}: its trials were drawn from another space ({', '.join(sorted(differs))}){gone}; "
            f"with the space that the search was started with it goes on, --name starts another search"
        )


def catch_up(study: optuna.Study, number: int, run: RunFolder) -> bool:
    """Tell the study of those epochs of an unfinished trial that its folder alone has; whether there are any."""
    trial = study.get_trials(deepcopy=False)[number]
    known = max(trial.intermediate_values, default=0)
    new = {
        epoch: score for epoch, score in _trained(run, trial.user_attrs["settings"]["epochs"]).items() if epoch > known
    }
    for epoch, score in new.items():
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, score)
    return bool(new)


def catch_up_all(study: optuna.Study, folder: SearchFolder) -> None:
    """The same for all trials that wait, as soon as none of their processes trains on, or has had time to end."""
    limit = time.monotonic() + _ENDING_S
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if "settings" in trial.user_attrs:
            run = folder.trial(trial.number)
            while run.held() and time.monotonic() < limit:
                time.sleep(_ENDING_POLL_S)
            catch_up(study, trial.number, run)


def _trained(run: RunFolder, epochs: int) -> dict[int, float]:
    """The best score so far by epoch, as a trial's folder has it: a model is there before the row that tells of it."""
    try:
        results = read_results(run, epochs)
        found = {result.epoch: result.best_miou for result in results if result.best_miou is not None}
        if run.best.is_dir():
            metrics = Manifest.read(run.best / "run.yaml").metrics
            found.setdefault(metrics["epoch"], metrics["miou"])
    except (InputError, KeyError):  # damaged: what the study knows has to do
        return {}
    return found


def _strangers(folder: SearchFolder, known: int) -> Iterator[str]:
    """Folders whose trial the study lost, or never had."""
    for run in folder.trials():
        if folder.number(run) >= known:
            yield f"{run.path}: the study knows no such trial; now {_lost(run.path)}"


def _lost(path: Path) -> Path:
    return set_aside(path, f"lost_{path.name}")


def _damage(run: RunFolder, budget: int) -> str | None:
    """Why an unfinished trial cannot go on from its folder; None where it can, or where it has not come far."""
    try:
        if run.state.is_file():
            Manifest.read(run.run_yaml)
            load_state(run.state)
            for model in (run.best, run.next_best):
                if model.exists():
                    Manifest.read(model / "run.yaml")
        elif 0 < epochs_done(run) < budget:
            return f"{run.state} is missing"
    except InputError as error:
        return str(error)
    return None


def _damaged_rows(run: RunFolder) -> str | None:
    """Why metrics.csv cannot be read; None where it can."""
    if run.metrics_csv.is_dir():
        return f"{run.metrics_csv}: is a folder"
    try:
        read_rows(run)
    except InputError as error:
        return str(error)
    return None


def _unfinished(study: optuna.Study, trial: FrozenTrial, run: RunFolder) -> Iterator[str]:
    name = f"trial {trial.number}"
    if mistake := _damage(run, trial.user_attrs["settings"]["epochs"]):
        yield f"{name}: {mistake}; {_lost(run.path)} keeps what there is, and the trial begins again"
        return
    if mistake := _damaged_rows(run):
        yield f"{name}: {mistake}; it is {_lost(run.metrics_csv)} now, and the trial goes on from its state"
        return
    known, done = max(trial.intermediate_values, default=0), epochs_done(run)
    if catch_up(study, trial.number, run):
        yield f"{name}: its folder has {counted(done, 'epoch')}, the study knew of {known}; the study has them now"
    elif done < known:
        yield f"{name}: the study knows of {counted(known, 'epoch')}, its folder has {done}; it goes on from there"


def _outlive_orphans(folder: SearchFolder) -> None:
    """Wait for the trials' processes of a search that was killed; they end when they notice."""
    limit = running_seconds() + _ORPHANS_S
    for run in folder.trials():
        while run.held():
            if running_seconds() > limit:
                raise InputError(
                    f"{run.path}: a process of an earlier start still trains here; end it, then --resume again"
                )
            time.sleep(0.5)
