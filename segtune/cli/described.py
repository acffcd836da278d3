"""What the flags of validate.py say of a model without run.yaml."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from segtune.class_names import split_classes
from segtune.cli.assignments import parse_values
from segtune.cli.places import Place
from segtune.errors import InputError
from segtune.models.chosen import compared_model
from segtune.models.foreign import Described, has_manifest, manifest_of


def description(models: Sequence[Path], arguments: Namespace) -> Described | None:
    """Return what the flags say of the models without run.yaml; None if all have one.

    Raises InputError for a value that cannot be, and for flags that are not needed: run.yaml says it already.
    """
    said = _said(arguments)
    others = [compared_model(Path(arguments.compare))] if arguments.compare else []
    if any(not has_manifest(folder) for folder in (*models, *others)):
        for folder in others:
            manifest_of(folder, said)  # raises now, and not after the first model was measured
        return said
    if said.given:
        raise InputError(
            f"{said.given[0]}: {models[0]} has a run.yaml, which says what it was trained on; leave out "
            f"{', '.join(said.given)}"
        )
    return None


def description_line(place: Place) -> str | None:
    """Return a line about a model of which flags say what it was trained on; None for another one."""
    if place.described is None or has_manifest(place.model):
        return None
    side = place.described.image_size
    return (
        f"{place.model} has no run.yaml: classes, mean and std are those of the flags, and the network sees windows of "
        f"{side}x{side} pixels (--tile-size)"
    )


def _said(arguments: Namespace) -> Described:
    lists = {name: getattr(arguments, name) for name in ("classes", "ignore", "channels")}
    settings = split_classes({name: parse_values(name, words) for name, words in lists.items() if words})
    mean, std = (_values(name, getattr(arguments, name)) for name in ("mean", "std"))
    if any(value <= 0 for value in std):
        raise InputError(f"--std: must be above 0, but got {min(std):g}")
    return Described(
        classes=tuple(settings.get("classes", ())),
        names=tuple(settings.get("class_names", ())),
        ignore=tuple(settings.get("ignore", ())),
        channels=tuple(settings.get("channels", ())),
        mean=mean,
        std=std,
        image_size=arguments.tile_size,
    )


def _values(name: str, words: Sequence[str] | None) -> tuple[float, ...]:
    """Return the numbers that a flag lists, ``123.7,116.3`` or ``123.7 116.3``."""
    text = " ".join(words or ()).strip("[]")
    try:
        values = tuple(map(float, text.replace(",", " ").split()))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise InputError(f"--{name}: needs numbers, one for each band, such as 123.7,116.3,103.5, but got {text!r}")
    return values
