"""What a search leaves: its trials as data, trials.csv, the winner, and the weights worth keeping."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.checkpoint import Manifest
from segtune.folders import RunFolder, SearchFolder, folder_bytes, recover_folder, replaced_folder
from segtune.space import Space
from segtune.trials import Status, Trial, ranked, write_trials
from segtune.tuning.study import ERROR, NOTE, REPEATS, SPENT, WARM_START
from segtune.yamlfile import read_yaml

_STATUS: Mapping[TrialState, Status] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "pending",
}
_ENDED = ("finished", "stopped", "failed")


class Results:
    """The trials of a search, kept current on disk while it runs."""

    def __init__(self, study: optuna.Study, folder: SearchFolder, space: Space, fingerprint: str) -> None:
        self._study, self._folder, self._space, self._fingerprint = study, folder, space, fingerprint
        self._ended: dict[int, Trial] = {}  # they no longer change, and need not be read again
        self._winner: int | None = None

    def trials(self) -> list[Trial]:
        """Every trial that has settings, in the order of the numbers."""
        found = []
        for frozen in self._study.get_trials(deepcopy=False):
            if WARM_START in frozen.user_attrs:
                continue  # trained in another search, whose table has it
            if frozen.number in self._ended:
                found.append(self._ended[frozen.number])
            elif "settings" in frozen.user_attrs:
                trial = self._trial(frozen)
                if trial.status in _ENDED:
                    self._ended[trial.number] = trial
                found.append(trial)
        return found

    def write(self) -> list[Trial]:
        """Bring trials.csv up to date."""
        trials = self.trials()
        write_trials(self._folder.trials_csv, trials)
        return trials

    def update(self) -> None:
        """Bring trials.csv, the winner in best/ and the kept weights up to date."""
        trials = self.write()
        best = [trial for trial in ranked(trials) if trial.status in _ENDED]
        self._keep_winner(best)
        kept = {trial.number for trial in best[: self._space.search.keep]}
        for trial in trials:
            if trial.status in _ENDED:
                _discard(self._folder.trial(trial.number), weights=trial.number not in kept)

    def too_large(self) -> str:
        """Why the search must end: its folder exceeds `disk_gb` without anything left to delete; empty where not."""
        limit = self._space.search.disk_gb
        if limit is None:
            return ""
        spare = [
            folder
            for trial in reversed(ranked(self.trials()))
            if trial.status in _ENDED and (folder := self._folder.trial(trial.number)).best.exists()
        ]
        while (size := folder_bytes(self._folder.path)) > limit * 1e9:
            if not spare:
                return f"disk_gb: {self._folder.path} takes {size / 1e9:.2g} GB, of {limit:g}, with nothing to spare"
            # The winner's model has its copy in the search's best/ by now.
            shutil.rmtree(spare.pop(0).best, ignore_errors=True)
        return ""

    def _keep_winner(self, best: list[Trial]) -> None:
        """Copy the winner's model to the search's best/, before anything of another trial is deleted."""
        if not best or best[0].number == self._winner:
            return
        source = self._folder.trial(best[0].number).best
        recover_folder(source)
        if source.is_dir():
            with replaced_folder(self._folder.best) as temporary:
                shutil.copytree(source, temporary, dirs_exist_ok=True)
        self._winner = best[0].number

    def _trial(self, frozen: FrozenTrial) -> Trial:
        folder = self._folder.trial(frozen.number)
        values = frozen.intermediate_values
        spent = dict(frozen.user_attrs.get(SPENT, {}))
        best: float | None = max(values.values(), default=None)
        row = next((row for row in reversed(folder.metrics()) if int(row["epoch"]) in values), None)
        return Trial(
            number=frozen.number,
            status=_STATUS[frozen.state],
            settings=frozen.user_attrs["settings"],
            epochs=max(values, default=0),
            miou=best,
            best_epoch=min((epoch for epoch, value in values.items() if value == best), default=None),
            seconds=float(row["seconds"]) if row else None,
            error=frozen.user_attrs.get(ERROR, ""),
            fingerprint=self._fingerprint,
            parameters=_parameters(folder),
            note=frozen.user_attrs.get(NOTE, ""),
            repeats=tuple(frozen.user_attrs.get(REPEATS, ())),
            micro_batch=spent.pop("micro_batch", None),
            spent=spent,
            searched=self._searched(frozen),
            **_running(frozen, folder),
        )

    def _searched(self, frozen: FrozenTrial) -> dict[str, Any]:
        settings = frozen.user_attrs["settings"]
        if frozen.number == 0:
            return {name: settings[name] for name in self._space.searched()}
        names = (key.rsplit(".", 1)[-1] for key in frozen.params)  # optimizer.sgd.momentum
        return {name: settings[name] for name in names}


def _running(frozen: FrozenTrial, folder: RunFolder) -> dict[str, Any]:
    """Since when a running trial runs, and where."""
    if frozen.state is not TrialState.RUNNING or frozen.datetime_start is None:
        return {}
    machine = read_yaml(folder.run_yaml)["machine"] if folder.run_yaml.is_file() else {}
    gpus = machine.get("cuda_visible_devices")
    where = machine.get("host", "") + (f", GPU {gpus}" if gpus else "")
    return {"since": frozen.datetime_start.timestamp(), "where": where}


def _parameters(folder: RunFolder) -> int | None:
    return Manifest.read(folder.run_yaml).parameters if folder.run_yaml.is_file() else None


def _discard(folder: RunFolder, weights: bool) -> None:
    """Delete what an ended trial no longer needs: its state, and its weights where they are not kept."""
    folder.state.unlink(missing_ok=True)
    if weights:
        shutil.rmtree(folder.best, ignore_errors=True)
