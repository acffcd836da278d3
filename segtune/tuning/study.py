"""The Optuna study in a search's folder: opening it, and the states of its trials."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import InputError
from segtune.folders import SearchFolder

# What the study knows of a trial besides Optuna's own: user attributes.
ERROR = "error"  # why it failed
NOTE = "note"  # why a rule stopped it
REPEATS = "repeats"  # a list: why it was repeated
WARM_START = "warm_start"  # the search and the number that it comes from: it was not trained in this one
SPENT = "spent"  # seconds by what they went for, and the micro-batch

_BUSY_S = 60  # another terminal's --status, or a dashboard, may be reading


def open_study(folder: SearchFolder, name: str) -> optuna.Study:
    """The search's study, made where there is none yet; InputError where the file cannot be read as one.

    The driver alone writes, with SQLite's rollback journal and synchronous writes (its defaults, and Optuna's): they
    keep the file whole on network file systems too, and through a power cut. A write-ahead log would not: the memory
    that its users share does not reach another machine.
    """
    begun = folder.search_yaml.is_file() and any(run.begun for run in folder.trials())
    if begun and not folder.study_db.is_file():
        raise InputError(
            f"{folder.study_db}: missing, and there are trials; bring it back, or --name starts another search"
        )
    try:
        storage = _storage(folder)
        if optuna.get_all_study_names(storage):
            return _only_study(storage)
        return optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except Exception as error:  # SQLAlchemy's, sqlite3's and Optuna's own
        raise _unreadable(folder, error) from None


def read_study(folder: SearchFolder) -> optuna.Study:
    """The study of a search that this or another process keeps; InputError where there is none."""
    if not folder.study_db.is_file():
        raise InputError(f"{folder.path}: no search has started here ({folder.study_db.name} is missing)")
    try:
        return _only_study(_storage(folder))
    except Exception as error:
        raise _unreadable(folder, error) from None


def _only_study(storage: optuna.storages.RDBStorage) -> optuna.Study:
    """The one study that there is: its name is that of the folder when the search began, which may have changed."""
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def _storage(folder: SearchFolder) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.storages.RDBStorage(
        f"sqlite:///{folder.study_db}", engine_kwargs={"connect_args": {"timeout": _BUSY_S}}
    )


def _unreadable(folder: SearchFolder, error: Exception) -> InputError:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
    return InputError(
        f"{folder.study_db}: cannot be read as the search's study ({reason}); --name starts another search"
    )


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
