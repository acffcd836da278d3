"""The work of validate.py --store-threshold: choose a threshold and a smallest area, and write them into run.yaml."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from segtune.cli.places import Place
from segtune.data.tiles import TRAIN
from segtune.errors import InputError
from segtune.evaluation.validate import Validation
from segtune.files.atomic import MANIFEST
from segtune.files.checks import check_writable
from segtune.models.card import update_card
from segtune.models.foreign import has_manifest
from segtune.models.manifest import Manifest


def check_choice(places: Sequence[Place], arguments: Namespace) -> None:
    """Raise InputError where --store-threshold cannot store what it finds, or must not choose on the data."""
    if not arguments.store_threshold:
        return
    measured = [place for place in places if place.measurable]
    if len({place.data for place in measured}) > 1:
        raise InputError("--store-threshold: a model has one threshold, but -d names several splits; name one")
    for place in measured:
        if not has_manifest(place.model):
            raise InputError(f"--store-threshold: {place.model} has no run.yaml to store it in; -t uses a threshold")
        check_writable(place.model, "--store-threshold")
        _check_for_choice(place)


def _check_for_choice(place: Place) -> None:
    """Raise InputError where a threshold must not be chosen on a split: a test set, or tiles of the training.

    A threshold that was chosen on test tiles fits their chance details, so their score is no longer that of new tiles.
    On tiles of the training, the model is surer than elsewhere.
    """
    split = place.data[0].resolve()
    dataset = Path(Manifest.read(place.model / MANIFEST).config.dataset)
    known = split.stem.lower() == TRAIN or split in {(dataset / name).resolve() for name in (TRAIN, f"{TRAIN}.txt")}
    if known or split.stem.lower() == "test":
        why = "the model knows these tiles by heart" if known else "their score would no longer be that of new data"
        raise InputError(f"--store-threshold: choose on validation tiles, not on {place.data[0]}: {why}")


def store_threshold(result: Validation) -> str:
    """Write the best threshold and smallest area into the model's run.yaml; return a line that says so.

    They are chosen on the tiles that were measured: see `check_choice`.
    """
    assert result.measured.areas
    best, path = result.measured.areas.best(), result.model_folder / MANIFEST
    threshold = result.manifest.threshold if best.threshold is None else best.threshold
    Manifest.store_threshold(path, threshold, best.min_area)
    update_card(result.model_folder)
    return f"stored in {path}: threshold {threshold:g}, min_area {best.min_area}"
