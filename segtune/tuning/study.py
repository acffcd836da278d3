"""Open the Optuna study in a search's folder, and set the states of its trials."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from segtune.data.dataset import DataInfo
from segtune.errors import InputError, one_line
from segtune.fields import present_spelling
from segtune.files.folders import SearchFolder
from segtune.trials import Origin

# User attributes of a trial in the study.
ERROR = "error"  # why it failed
NOTE = "note"  # why it was stopped
PAUSED = "paused"  # of a trial that waits at a rung: its epochs so far; None, or absent, for one that does not
PAUSED_AT = "paused_at"  # when it last began to wait at a rung
REPEATS = "repeats"  # a list of the failures after which it was repeated
WARM_START = "warm_start"  # folder and number in the search where it was trained, which is not this one
SPENT = "spent"  # seconds by phase; a former release kept the micro-batch among them
MICRO_BATCH = "micro_batch"  # tiles that went through the network at a time
FOLDS = "folds"  # how many folds its score is the mean of; absent for a trial that is scored on val
COSTS = "costs"  # what the model costs, by name; `seconds` are those of all epochs, as the epochs so far tell
ORIGIN = "origin"  # why it was tried; a trial that goes on keeps it

_BUSY_S = 60  # another terminal's --status, or a dashboard, may be reading
_TABLES = {"studies", "trials"}  # of Optuna's, among others
_ANOTHER = "restore it, or start another search with --name"


def budget_of(trial: FrozenTrial) -> int:
    """Return the epochs that a trial which has settings may use, of all its folds."""
    return int(trial.user_attrs["settings"]["epochs"]) * int(trial.user_attrs.get(FOLDS, 1))


def open_study(folder: SearchFolder, name: str) -> optuna.Study:
    """Open the search's study, or create it; raise InputError where the file cannot be read as a study.

    Only the driver writes, with SQLite's rollback journal and synchronous writes (the defaults of SQLite and Optuna).
    They keep the file whole on network file systems and after a power cut. A write-ahead log would not: its shared
    memory does not reach another machine.
    """
    study = _existing(folder, _spell_alike)
    _check_lost(folder, study)
    try:
        return study or optuna.create_study(storage=_storage(folder), study_name=name, direction="maximize")
    except Exception as error:  # SQLAlchemy's, sqlite3's and Optuna's own
        raise InputError(trouble(folder, error)) from None


def read_study(folder: SearchFolder) -> optuna.Study:
    """Open the study of a search that this or another process runs; raise InputError where there is none."""
    study = _existing(folder)
    _check_lost(folder, study)
    if study is None:
        what = "holds no study" if folder.study_db.is_file() else "is missing"
        raise InputError(f"{folder.path}: no search has started here ({folder.study_db.name} {what})")
    return study


def _check_lost(folder: SearchFolder, study: optuna.Study | None) -> None:
    """Raise InputError for a study without trials where there are trials on disk."""
    if any(run.begun for run in folder.trials()) and not (study and study.get_trials(deepcopy=False)):
        what = "holds no trials" if folder.study_db.is_file() else "missing"
        raise InputError(f"{folder.study_db}: {what}, and there are trials in {folder.path}; {_ANOTHER}")


def _existing(
    folder: SearchFolder, prepare: Callable[[sqlite3.Connection], None] = lambda database: None
) -> optuna.Study | None:
    """Return the only study in the file; None where there is none yet. All trials are read once, to detect damage.

    `prepare` gets the file once it is known to be whole, before Optuna opens it. The study is named after the folder at
    the time the search began; the folder may have been renamed since.
    """
    if not folder.study_db.is_file():
        return None
    try:
        with closing(sqlite3.connect(folder.study_db, timeout=_BUSY_S)) as database, database:
            if not _check_tables(database):
                return None
            prepare(database)
        storage = _storage(folder)
        names = optuna.get_all_study_names(storage)
        if not names:
            return None
        if len(names) > 1:
            raise ValueError(f"it holds {len(names)} studies")
        study = optuna.load_study(study_name=names[0], storage=storage)
        study.get_trials(deepcopy=False)
        return study
    except Exception as error:
        raise InputError(trouble(folder, error)) from None


def _check_tables(database: sqlite3.Connection) -> bool:
    """Return whether a database has a study's tables; raise ValueError where it is damaged or another program's.

    To be called before Optuna creates its tables.
    """
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not tables >= _TABLES:
        raise ValueError(f"it is another program's, with the tables {', '.join(sorted(tables)[:3])}")
    (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise ValueError(f"damaged: {verdict}")
    return bool(tables)


def _spell_alike(database: sqlite3.Connection) -> None:
    """Rewrite values that an earlier release spelt differently, such as bce+dice, in their present form.

    For Optuna, a choice with other values would be another parameter.
    """
    for name, text in database.execute("SELECT DISTINCT param_name, distribution_json FROM trial_params").fetchall():
        kind = json_to_distribution(text)
        if isinstance(kind, CategoricalDistribution):
            alike = distribution_to_json(CategoricalDistribution([_spelt(name, value) for value in kind.choices]))
            if alike != text:
                database.execute(
                    "UPDATE trial_params SET distribution_json = ? WHERE distribution_json = ?", (alike, text)
                )
    for table, key in (("trial_user_attributes", "settings"), ("trial_system_attributes", "fixed_params")):
        rows = database.execute(f"SELECT rowid, value_json FROM {table} WHERE key = ?", (key,)).fetchall()
        for row, text in rows:
            known = json.loads(text)
            spelt = {name: _spelt(name, value) for name, value in known.items()}
            if spelt != known:
                database.execute(f"UPDATE {table} SET value_json = ? WHERE rowid = ?", (json.dumps(spelt), row))


def _spelt(key: str, value: Any) -> Any:
    """Return a text in the present spelling of its setting; return other texts, such as a list's, unchanged."""
    return present_spelling(key.rpartition(".")[2], value) if isinstance(value, str) else value


def _storage(folder: SearchFolder) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = URL.create("sqlite", database=str(folder.study_db))  # rendering it quotes characters with a meaning in URLs
    return optuna.storages.RDBStorage(url.render_as_string(), engine_kwargs={"connect_args": {"timeout": _BUSY_S}})


def trouble(folder: SearchFolder, error: Exception) -> str:
    """Explain an error of the study's file, and what to do, on one line."""
    cause = error.__cause__ or error  # Optuna's own message says nothing
    reason = one_line(getattr(cause, "orig", None) or cause)
    if "locked" in reason:
        return f"{folder.study_db}: another program holds it ({reason}); --resume continues when that has ended"
    if "disk" in reason and "malformed" not in reason:
        return f"{folder.study_db}: cannot be written; is the disk full? ({reason}) --resume continues the search"
    if "readonly" in reason or "unable to open" in reason:
        return f"{folder.study_db}: cannot be written ({reason}); --resume continues when it can"
    return f"{folder.study_db}: cannot be read as the search's study ({reason}); {_ANOTHER}"


def same_data(study: optuna.Study, fingerprint: str) -> bool:
    """Return whether the study's trials were trained on this data; record it in a new study."""
    known = study.user_attrs.get("fingerprint")
    if known is None:
        study.set_user_attr("fingerprint", fingerprint)
    return known in (None, fingerprint)


def same_folds(study: optuna.Study, folds: Sequence[DataInfo]) -> bool:
    """Return whether the study's trials were scored on these folds; record them in a new study."""
    deal, known = [fold.fingerprint for fold in folds], study.user_attrs.get(FOLDS)
    if known is None:
        study.set_user_attr(FOLDS, deal)
    return known in (None, deal)


def threads_so_far(study: optuna.Study) -> int | None:
    """Return the torch threads of the search's latest trial; None if it has no trial yet."""
    own = [trial for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs]
    known = [trial.user_attrs["settings"].get("threads") for trial in own if "settings" in trial.user_attrs]
    return known[-1] if known else None


def begun(trial: FrozenTrial) -> bool:
    """Return whether a trial was started at least once; others are enqueued, or were not drawn to the end."""
    return "settings" in trial.user_attrs


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that wait: interrupted, paused or enqueued."""
    # Asked for the state, Optuna's storage in memory does not find trials that were set back to it.
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.WAITING]


def ask(study: optuna.Study) -> optuna.Trial:
    """Return the first enqueued trial or, if there is none, a new one.

    Optuna's own `ask` would return a paused trial before a new one.
    """
    queued = [trial for trial in waiting(study) if not begun(trial)]
    if queued:
        return go_on(study, queued[0])
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id))


def go_on(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Return a waiting trial as Optuna's `ask` would, with number, parameters and values."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    again = optuna.Trial(study, trial._trial_id)
    if is_paused(trial):
        if NOTE in trial.user_attrs:  # the search was killed as it stopped the trial
            again.set_user_attr(NOTE, None)
        again.set_user_attr(PAUSED, None)
    return again


def is_paused(trial: FrozenTrial) -> bool:
    """Return whether a trial waits at a rung."""
    return trial.state is TrialState.WAITING and trial.user_attrs.get(PAUSED) is not None


def note_pause(study: optuna.Study, trial: FrozenTrial | optuna.Trial, epochs: int) -> None:
    """Record that a trial waits at a rung, after so many epochs."""
    study._storage.set_trial_user_attr(trial._trial_id, PAUSED_AT, datetime.now().isoformat())
    study._storage.set_trial_user_attr(trial._trial_id, PAUSED, epochs)


def enqueue(study: optuna.Study, point: Mapping[str, Any], origin: Origin) -> None:
    """Add a trial that the next `ask` returns, at a point of the space as the study stores it ({key: value}).

    The sampler draws the parameters that the point leaves open.
    """
    study.enqueue_trial(dict(point), user_attrs={ORIGIN: origin})


def origin_of(trial: FrozenTrial | optuna.Trial, grid: bool) -> Origin:
    """Return why a trial was tried; a former release did not record it."""
    recorded: Origin | None = trial.user_attrs.get(ORIGIN)
    return recorded or ("baseline" if trial.number == 0 else "grid" if grid else "sampler")


def wait(study: optuna.Study, trial_id: int) -> None:
    """Set a running trial back to WAITING; `go_on` returns it with number, parameters and values."""
    study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def stop_paused(study: optuna.Study, trial: FrozenTrial, note: str | None) -> None:
    """Set a paused trial to PRUNED, with its last value; Optuna tells only running ones."""
    if note:
        study._storage.set_trial_user_attr(trial._trial_id, NOTE, note)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [last_value(trial)])


def last_value(trial: FrozenTrial) -> float:
    """Return the objective after the last epoch that a trial reported."""
    return trial.intermediate_values[max(trial.intermediate_values)]


def expected_value(trial: FrozenTrial) -> float:
    """Return the objective after the last epoch; by folds, what it is if all are like those that began."""
    if FOLDS not in trial.user_attrs:
        return last_value(trial)
    begun_folds = math.ceil(max(trial.intermediate_values) / trial.user_attrs["settings"]["epochs"])
    return last_value(trial) * float(trial.user_attrs[FOLDS]) / begun_folds


def tell(study: optuna.Study, number: int, state: TrialState, value: float | None = None) -> None:
    """Tell the study how a trial ended; a pruned one needs no value, since its values by epoch are known."""
    study.tell(number, value, state=state) if value is not None else study.tell(number, state=state)


def settle(study: optuna.Study, interrupted: bool, reason: str) -> None:
    """Leave no trial RUNNING in a search that ended: set it to WAITING if interrupted, or to FAIL for this reason."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if interrupted:
            wait(study, trial._trial_id)
        else:
            study._storage.set_trial_user_attr(trial._trial_id, ERROR, reason)
            tell(study, trial.number, TrialState.FAIL)
