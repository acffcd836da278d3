"""What a search leaves: its trials as data, trials.csv, the winner, and the weights worth keeping."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import InputError, counted
from segtune.files.atomic import MODEL_FILES, discard_folder, recover_folder, replaced_folder, set_aside
from segtune.files.checks import folder_bytes
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.models.checkpoint import Manifest, model_score
from segtune.space.space import Space
from segtune.trials import Status, Trial, ranked, wobble, write_trials
from segtune.tuning.study import ERROR, NOTE, REPEATS, SPENT, WARM_START

_STATUS: Mapping[TrialState, Status] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "pending",
}
_ENDED = ("finished", "stopped", "failed")
_COPY_PAUSE = 20.0  # times as long as copying a model took, before the next one is copied while trials run


class Results:
    """The trials of a search, kept current on disk while it runs."""

    def __init__(self, study: optuna.Study, folder: SearchFolder, space: Space, fingerprint: str) -> None:
        self._study, self._folder, self._space, self._fingerprint = study, folder, space, fingerprint
        self._ended: dict[int, Trial] = {}  # they no longer change, and need not be read again
        self._kept: tuple[int, float] | None = None  # the trial, and its score, whose model best/ holds
        self._damaged: dict[int, str] = {}  # by trial
        self._copy_at = 0.0  # by time.monotonic(): not before, while trials run

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

    def remarks(self) -> list[str]:
        """A line for each trial of which a file is damaged, among those that `trials` gave."""
        return [self._damaged[number] for number in sorted(self._damaged)]

    def write(self) -> list[Trial]:
        """Bring trials.csv up to date."""
        trials = self.trials()
        table = self._folder.trials_csv
        if table.is_dir():  # a table that is a file, whatever is in it, is written anew
            set_aside(table, f"lost_{table.name}")
        write_trials(table, trials)
        return trials

    def update(self) -> None:
        """Bring trials.csv, the winner in best/ and the kept weights up to date."""
        trials = self.write()
        order = ranked(trials)
        self._keep_winner(order)
        kept = {trial.number for trial in [t for t in order if t.status in _ENDED][: self._space.search.keep]}
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
            if trial.status in _ENDED
            and (folder := self._folder.trial(trial.number)).best.exists()
            and not folder.path.is_symlink()
        ]
        while (size := folder_bytes(self._folder.path)) > limit * 1e9:
            if not spare:
                return f"disk_gb: {self._folder.path} takes {size / 1e9:.2g} GB, of {limit:g}, with nothing to spare"
            # The winner's model has its copy in the search's best/ by now.
            discard_folder(spare.pop(0).best)
        return ""

    def follow(self, miou: float) -> None:
        """Bring best/ up to date where a trial that runs may be the best with this score; takes little of the time."""
        if time.monotonic() < self._copy_at or (self._kept and miou <= self._kept[1]):
            return
        start = time.monotonic()
        self._keep_winner(ranked(self.trials()))
        self._copy_at = time.monotonic() + _COPY_PAUSE * (time.monotonic() - start)

    def without_model(self) -> str:
        """A line where best/ is not of the winner, whose own model is gone; empty where it is."""
        order, best = ranked(self.trials()), self._folder.best
        if not order or self._kept == (order[0].number, order[0].miou) or model_score(best) == order[0].miou:
            return ""
        what = "is of another trial" if best.is_dir() else "is missing"
        return f"{best}: {what}; the best one, #{order[0].number}, has no model any more"

    def _keep_winner(self, order: Sequence[Trial]) -> None:
        """Copy the winner's model to the search's best/, before anything of another trial is deleted."""
        if not order or self._kept == (order[0].number, order[0].miou):
            return
        winner, run = order[0], self._folder.trial(order[0].number)
        ended = winner.status in _ENDED
        if ended or not run.held():
            recover_folder(run.best)
        if not run.best.is_dir():
            return
        try:
            with replaced_folder(self._folder.best) as temporary:
                _copy_model(run.best, temporary, None if ended else winner.miou)
        except _ReplacedError:
            return  # the study will hear of the better one
        self._kept = (winner.number, winner.miou or 0.0)

    def _trial(self, frozen: FrozenTrial) -> Trial:
        folder = self._folder.trial(frozen.number)
        values = frozen.intermediate_values
        spent = dict(frozen.user_attrs.get(SPENT, {}))
        best: float | None = max(values.values(), default=None)
        rows, run_yaml = self._files_of(frozen, folder)
        known = [row for row in rows if int(row["epoch"]) in values]
        reached = next((row for row in rows if float(row.get("best_miou") or -1) == best), {})
        return Trial(
            number=frozen.number,
            status=_STATUS[frozen.state],
            settings=frozen.user_attrs["settings"],
            epochs=max(values, default=0),
            miou=best,
            best_epoch=min((epoch for epoch, value in values.items() if value == best), default=None),
            seconds=float(known[-1]["seconds"]) if known else None,
            error=frozen.user_attrs.get(ERROR, ""),
            fingerprint=self._fingerprint,
            parameters=run_yaml.get("parameters"),
            note=frozen.user_attrs.get(NOTE, ""),
            repeats=tuple(frozen.user_attrs.get(REPEATS, ())),
            micro_batch=spent.pop("micro_batch", None),
            spent=spent,
            searched=self._searched(frozen),
            collapsed=float(reached.get("collapsed_epochs") or 0) > 0,
            wobble=wobble([float(row["miou"]) for row in known if row.get("miou")]),
            **_running(frozen, run_yaml),
        )

    def _files_of(self, frozen: FrozenTrial, folder: RunFolder) -> tuple[list[dict[str, str]], Mapping[str, Any]]:
        """A trial's rows and its run.yaml, as far as they can be read: its values are those of the study anyhow."""
        rows: list[dict[str, str]] = []
        run_yaml: Mapping[str, Any] = {}
        epochs = max(frozen.intermediate_values, default=0)
        try:
            rows = folder.metrics()
            if frozen.state.is_finished() and folder.begun and len(rows) < epochs:
                raise InputError(f"{folder.metrics_csv}: has {len(rows)} of {counted(epochs, 'epoch')}")
            if rows and "seconds" not in rows[0]:
                rows = []
                raise InputError(f"{folder.metrics_csv}: damaged, has no column seconds")
            if folder.begun:
                Manifest.read(folder.run_yaml)
                run_yaml = read_yaml(folder.run_yaml)
        except InputError as error:
            self._damaged[frozen.number] = f"trial {frozen.number}: {error}; its values are those of the study"
        return rows, run_yaml

    def _searched(self, frozen: FrozenTrial) -> dict[str, Any]:
        settings = frozen.user_attrs["settings"]
        if frozen.number == 0:
            return {name: settings[name] for name in self._space.searched()}
        names = (key.rsplit(".", 1)[-1] for key in frozen.params)  # optimizer.sgd.momentum
        return {name: settings[name] for name in names}


def _running(frozen: FrozenTrial, run_yaml: Mapping[str, Any]) -> dict[str, Any]:
    """Since when a running trial runs, and where."""
    if frozen.state is not TrialState.RUNNING or frozen.datetime_start is None:
        return {}
    machine = run_yaml.get("machine") or {}
    gpus = machine.get("cuda_visible_devices")
    where = machine.get("host", "") + (f", GPU {gpus}" if gpus else "")
    return {"since": frozen.datetime_start.timestamp(), "where": where}


class _ReplacedError(Exception):
    """A trial that runs replaced its model while that was copied."""


def _copy_model(source: Path, target: Path, score: float | None) -> None:
    """Copy a model's files; _ReplacedError unless all are of the model with this score, where one is given.

    Models in a trial's best/ only become better: with the score before and after, all that was copied between is its.
    """
    try:
        before = score if score is None else model_score(source)
        for name in MODEL_FILES:
            if (source / name).exists():
                shutil.copyfile(source / name, target / name)
        after = score if score is None else model_score(source)
    except FileNotFoundError:
        raise _ReplacedError from None
    if not before == after == score:
        raise _ReplacedError


def _discard(folder: RunFolder, weights: bool) -> None:
    """Delete what an ended trial no longer needs: its state, and its weights where they are not kept.

    Not behind a link, which leads to somebody's run of another place.
    """
    if folder.path.is_symlink():
        return
    folder.state.unlink(missing_ok=True)
    if weights:
        discard_folder(folder.best)
