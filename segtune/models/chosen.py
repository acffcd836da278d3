"""Find the models that a command line names."""

from __future__ import annotations

from pathlib import Path

from segtune.errors import InputError, counted
from segtune.files.atomic import MANIFEST, WEIGHTS
from segtune.files.folders import SearchFolder, find_model
from segtune.files.model_files import no_model_file, no_model_folder
from segtune.files.yamlfile import read_yaml
from segtune.objectives import MIOU


def model_at(path: Path, flag: str = "-c") -> Path:
    """Return the folder of a model that a flag names, by its folder or by its weights; InputError if it is none."""
    if not path.exists():
        raise InputError(f"{flag}: {path}: no such folder or file")
    if path.is_file() and path.name != WEIGHTS:
        raise InputError(f"{flag}: {path} {no_model_file(path)}")
    folder = path.parent if path.name == WEIGHTS else path
    if not (folder / WEIGHTS).is_file():
        if (folder / "best" / WEIGHTS).is_file():
            raise InputError(f"{flag}: {folder} holds its model in best; -cd {folder} takes that")
        raise InputError(f"{flag}: {folder} {no_model_folder(folder)}")
    return folder


def compared_model(path: Path) -> Path:
    """Return the folder of the model that `--compare` names: of a search, a run or a model, or by its weights.

    Raises InputError if there is none.
    """
    if not path.is_dir():
        return model_at(path, "--compare")
    try:
        return find_model(path)
    except InputError as error:
        raise InputError(f"--compare: {mistake}" for mistake in error.mistakes) from None


def models_in(folder: Path, trial: int | None = None, top: int | None = None) -> list[Path]:
    """Return the folders of the models that `-cd` names: one, or with `top` those of a search's best trials.

    Without `trial` and `top`, a search has the model of its winner. Raises InputError where there is no model.
    """
    if trial is None and top is None:
        return [find_model(folder)]
    search = SearchFolder(folder)
    flag = "--trial" if top is None else "--top"
    if not search.search_yaml.is_file():
        raise InputError(f"{flag}: is for a search, and {folder} has no {search.search_yaml.name}")
    if trial is not None:
        run = search.trial(trial)
        if not run.path.is_dir():
            raise InputError(f"--trial: {folder} has no trial {trial}")
        return [find_model(run.path)]
    if top is not None and top < 1:
        raise InputError(f"--top: must be at least 1, but got {top}")
    kept = [run.best for run in search.trials() if (run.best / WEIGHTS).is_file()]
    known = {place: read_yaml(place / MANIFEST) for place in kept}
    reached = {place: one.get("metrics", {}).get(one.get("objective", MIOU)) for place, one in known.items()}
    scores = [(score, place) for place, score in reached.items() if score is not None]
    best = [place for _, place in sorted(scores, key=lambda pair: -pair[0])]  # of equal ones, the earlier trial first
    if len(best) < (top or 0):
        raise InputError(
            f"--top: {top} were asked for, but {folder} keeps the weights of {counted(len(best), 'trial')} (keep: N "
            f"sets how many)"
        )
    return best[:top]
