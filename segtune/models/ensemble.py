"""Find the models whose predictions are averaged, and check that they are of one kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtune.errors import InputError, counted
from segtune.files.atomic import MANIFEST, WEIGHTS
from segtune.files.folders import SearchFolder, find_model
from segtune.files.model_files import models_below
from segtune.files.yamlfile import read_yaml
from segtune.models.manifest import Manifest

_FEWEST = 2


def ensemble_of(folder: Path) -> list[Path]:
    """Return the folders of the models that `--ensemble`, or `ensemble=True`, averages.

    Of a search, they are those of all fresh seeds of its winner, and best/, the one of the median seed, comes first. Of
    another folder, they are all models in it, or in the runs in it. Raises InputError where there are no two, or where
    they do not take the same images or predict the same classes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --ensemble takes a search, or a folder of runs or models")
    search = SearchFolder(folder)
    models = _of_winner(search) if search.search_yaml.is_file() else _below(folder)
    _check_alike({model: Manifest.read(model / MANIFEST) for model in models})
    return models


def _below(folder: Path) -> list[Path]:
    found = [find_model(path) for path in models_below(folder)]
    if len(found) < _FEWEST:
        raise InputError(
            f"--ensemble: {folder} holds {counted(len(found), 'model')}, and at least {_FEWEST} are averaged; "
            f"run_single.py --seeds N trains N of them"
        )
    return found


def _of_winner(search: SearchFolder) -> list[Path]:
    """Return best/ of a confirmed search, and the models of the winner's other seeds."""
    again = f"run_search.py --confirm {search.path.name}"
    result = _result(search.confirmation)
    if result is None:
        raise InputError(f"--ensemble: the winner of {search.path} has one model; {again} trains it with more seeds")
    if result.get("folds", 1) > 1:
        raise InputError(
            f"--ensemble: {search.path} was scored by folds, whose models are not kept; its winner has one model; "
            f"run_single.py --from-search {search.path} --seeds 3 trains three"
        )
    winner, best = result["configurations"][0], find_model(search.path)
    runs = [search.repeat(winner["trial"], seed) for seed in winner["seeds"]]
    if gone := [run.path for run in runs if not (run.best / WEIGHTS).is_file()]:
        raise InputError(f"--ensemble: {gone[0]} no longer has its model; delete that folder, then {again}")
    median = next((run for run in runs if run.path.name == winner["run"]), None)
    if median is None or _metrics(median.best) != _metrics(best):
        raise InputError(f"--ensemble: {search.path} has another winner since it was confirmed; {again} does it again")
    return [best, *(run.best for run in runs if run is not median)]


def _result(path: Path) -> dict[str, Any] | None:
    """Return what a confirmation found: read here as plain data, since its own class needs torch, which is slow."""
    try:
        found = json.loads(path.read_bytes())["result"]
        if found is not None:
            winner = found["configurations"][0]
            int(winner["trial"]), str(winner["run"]), [int(seed) for seed in winner["seeds"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError):
        raise InputError(f"{path}: damaged, not a confirmation") from None
    return found


def _metrics(model: Path) -> Any:
    return read_yaml(model / MANIFEST).get("metrics")


def _check_alike(models: Mapping[Path, Manifest]) -> None:
    """Raise InputError where models differ in what they take or predict."""
    (first, own), *others = [(model, _kind(manifest)) for model, manifest in models.items()]
    for model, kind in others:
        if different := next((name for name in own if own[name] != kind[name]), None):
            raise InputError(
                f"--ensemble: {first} and {model} differ in {different}; models are averaged that take the same images "
                f"and predict the same classes"
            )


def _kind(manifest: Manifest) -> dict[str, Any]:
    """Return what models must have in common, by the name that people know it by."""
    labels, config = manifest.labels, manifest.config
    return {
        "classes": labels.classes,
        "ignore": set(labels.ignore),
        "whether background is an output": (labels.background, labels.background_label),
        "channels": [band.name for band in manifest.bands],
        "mean and deviation of the bands": [(band.mean, band.std) for band in manifest.bands],
        "the type of their images": manifest.uint8,
        "image_size": config.image_size,
        "fit": config.fit,
        "nodata": config.nodata,
        "images_dir, masks_dir or suffixes": manifest.layout,
    }
