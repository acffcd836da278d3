"""The Optuna study in a search's folder: opening it, and the states of its trials."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from segtune.errors import InputError, one_line
from segtune.fields import present_spelling
from segtune.files.folders import SearchFolder

# What the study knows of a trial besides Optuna's own: user attributes.
ERROR = "error"  # why it failed
NOTE = "note"  # why a rule stopped it
REPEATS = "repeats"  # a list: why it was repeated
WARM_START = "warm_start"  # the search and the number that it comes from: it was not trained in this one
SPENT = "spent"  # seconds by what they went for, and the micro-batch

_BUSY_S = 60  # another terminal's --status, or a dashboard, may be reading
_TABLES = {"studies", "trials"}  # of Optuna's, among others
_ANOTHER = "bring it back, or --name starts another search"


def open_study(folder: SearchFolder, name: str) -> optuna.Study:
    """The search's study, made where there is none yet; InputError where the file cannot be read as one.

    The driver alone writes, with SQLite's rollback journal and synchronous writes (its defaults, and Optuna's): they
    keep the file whole on network file systems too, and through a power cut. A write-ahead log would not: the memory
    that its users share does not reach another machine.
    """
    study = _existing(folder, _spell_alike)
    _check_lost(folder, study)
    try:
        return study or optuna.create_study(storage=_storage(folder), study_name=name, direction="maximize")
    except Exception as error:  # SQLAlchemy's, sqlite3's and Optuna's own
        raise InputError(trouble(folder, error)) from None


def read_study(folder: SearchFolder) -> optuna.Study:
    """The study of a search that this or another process keeps; InputError where there is none."""
    study = _existing(folder)
    _check_lost(folder, study)
    if study is None:
        what = "holds no study" if folder.study_db.is_file() else "is missing"
        raise InputError(f"{folder.path}: no search has started here ({folder.study_db.name} {what})")
    return study


def _check_lost(folder: SearchFolder, study: optuna.Study | None) -> None:
    """Refuse a study without trials where there are some on disk: only a search that never began has none."""
    if any(run.begun for run in folder.trials()) and not (study and study.get_trials(deepcopy=False)):
        what = "holds no trials" if folder.study_db.is_file() else "missing"
        raise InputError(f"{folder.study_db}: {what}, and there are trials in {folder.path}; {_ANOTHER}")


def _existing(
    folder: SearchFolder, prepare: Callable[[sqlite3.Connection], None] = lambda database: None
) -> optuna.Study | None:
    """The one study in the file, read once from end to end: what is damaged shows here. None where there is none yet.

    What `prepare` does with the file is done before Optuna sees it, once it is known to be whole. The study's name is
    that of the folder when the search began, which may have changed.
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
    """Whether a file has a study's tables, or none; an error where it is damaged or another program's.

    To be asked before Optuna makes its tables there.
    """
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not tables >= _TABLES:
        raise ValueError(f"it is another program's, with the tables {', '.join(sorted(tables)[:3])}")
    (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise ValueError(f"damaged: {verdict}")
    return bool(tables)


def _spell_alike(database: sqlite3.Connection) -> None:
    """Give values that an earlier release spelt otherwise, such as bce+dice, the one form that they have now.

    Optuna takes a choice of other values for another parameter.
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
    """A text as its setting is written now; what is none of its values, such as a list's text, is left."""
    return present_spelling(key.rpartition(".")[2], value) if isinstance(value, str) else value


def _storage(folder: SearchFolder) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = URL.create("sqlite", database=str(folder.study_db))  # rendered, it quotes what means something in a URL
    return optuna.storages.RDBStorage(url.render_as_string(), engine_kwargs={"connect_args": {"timeout": _BUSY_S}})


def trouble(folder: SearchFolder, error: Exception) -> str:
    """What an error of the study's file means, and what to do: in one line."""
    cause = error.__cause__ or error  # Optuna's own text says nothing
    reason = one_line(getattr(cause, "orig", None) or cause)
    if "locked" in reason:
        return f"{folder.study_db}: another program holds it ({reason}); --resume goes on when that has ended"
    if "disk" in reason and "malformed" not in reason:
        return f"{folder.study_db}: cannot be written; is the disk full? ({reason}) --resume goes on from what is there"
    if "readonly" in reason or "unable to open" in reason:
        return f"{folder.study_db}: cannot be written ({reason}); --resume goes on when it can"
    return f"{folder.study_db}: cannot be read as the search's study ({reason}); {_ANOTHER}"


def same_data(study: optuna.Study, fingerprint: str) -> bool:
    """Whether the study's trials were trained on this data; a new study takes note of it."""
    known = study.user_attrs.get("fingerprint")
    if known is None:
        study.set_user_attr("fingerprint", fingerprint)
    return known in (None, fingerprint)


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that the next `ask` brings (back)."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def wait(study: optuna.Study, trial_id: int) -> None:
    """Set a running trial back to WAITING; `ask` returns it with number, parameters and values."""
    study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def tell(study: optuna.Study, number: int, state: TrialState, value: float | None = None) -> None:
    """Tell the study how a trial ended. A pruned one gets no value of its own: its values by epoch are known."""
    study.tell(number, value, state=state) if value is not None else study.tell(number, state=state)


def settle(study: optuna.Study, interrupted: bool, reason: str) -> None:
    """Leave nothing RUNNING in a search that ended: what no one told of is waiting, or failed for this reason."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if interrupted:
            wait(study, trial._trial_id)
        else:
            study._storage.set_trial_user_attr(trial._trial_id, ERROR, reason)
            tell(study, trial.number, TrialState.FAIL)
