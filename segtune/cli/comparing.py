"""The work of validate.py --compare: measure another model on the same tiles, and say how the two differ."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from segtune.cli.places import Place, run_of
from segtune.cli.validation import METRICS, Found, changes_of, validated
from segtune.data.listing import shortest_ends
from segtune.data.pairs import find_tiles
from segtune.errors import InputError, first_few
from segtune.evaluation.intervals import compare
from segtune.evaluation.validate import Validation
from segtune.files.atomic import write_text
from segtune.files.checks import read_own_json
from segtune.models.chosen import compared_model
from segtune.models.foreign import manifest_of
from segtune.models.manifest import Manifest

_SAME = ("classes", "ignore", "nodata", "masks_dir", "mask_suffix")  # settings that decide which pixels are which


class Compared:
    """The model that --compare names, which is measured once on each data set."""

    def __init__(self, arguments: Namespace, console: Console) -> None:
        self._arguments, self._console = arguments, console
        self._measured: dict[Path, Validation] = {}  # by split

    def difference(self, place: Place, found: Found) -> str:
        """Write how a model differs from this one on the same tiles into metrics.json, and return a sentence.

        Raises InputError where the pixels that count are not the same.
        """
        split, own = place.data[0], found.result
        if split not in self._measured:
            folder = compared_model(Path(self._arguments.compare))
            self._measured[split] = validated(place, folder, self._arguments, None, self._console)
        theirs = self._measured[split]
        _check_same_pixels(own, theirs)
        names = _names(own.model_folder, theirs.model_folder)
        if own.ensemble:
            names = f"the mean of {1 + len(own.ensemble)} models", str(theirs.model_folder)
        tiles = own.measured.tiles, theirs.measured.tiles
        comparison = compare(names, tiles, own.manifest.config.classes, found.grouping.groups)
        if (metrics := read_own_json(place.out / METRICS, "miou", "-o")) is not None:
            write_text(place.out / METRICS, json.dumps(metrics | {"comparison": comparison.plain()}, indent=2) + "\n")
        return comparison.sentence()


def check_compared(places: Sequence[Place], arguments: Namespace) -> None:
    """Raise InputError where --compare names no model, or one whose score is that of other pixels or classes."""
    if not arguments.compare:
        return
    folder = compared_model(Path(arguments.compare))
    for place in places:
        if place.measurable:
            changes = changes_of(arguments, place.described)
            own, other = (changes.of(manifest_of(model, place.described)) for model in (place.model, folder))
            _check_settings(own, other)
            _check_tiles(place, own, other)


def _check_settings(own: Manifest, other: Manifest) -> None:
    for name in _SAME:
        first, second = getattr(own.config, name), getattr(other.config, name)
        if first != second and (name != "ignore" or set(first) != set(second)):
            raise InputError(
                f"--compare: the two models have different {name}, {_shown(first)} and {_shown(second)}; name a model "
                f"with the same {name}"
            )


def _shown(value: object) -> str:
    if value in (None, "", []):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_tiles(place: Place, own: Manifest, other: Manifest) -> None:
    split = place.data[0]
    names, others = (find_tiles(split, model.layout).names for model in (own, other))
    if names != others:
        different = sorted(set(names) ^ set(others)) or names
        raise InputError(
            f"--compare: the two models find other tiles in {split}, by images_dir and image_suffix: "
            f"{first_few(different)}; name a model with the same two settings"
        )
    if len(names) < 2:
        raise InputError(
            f"--compare: an interval needs at least 2 tiles, but {split} has {len(names)}; name a larger split"
        )


def _check_same_pixels(own: Validation, other: Validation) -> None:
    """Raise InputError where the two models were scored on different pixels, such as those with data in a channel."""
    differ = (own.measured.tiles.overlap.truth != other.measured.tiles.overlap.truth).any(axis=1)
    if differ.any():
        names = [own.measured.names[number] for number in np.flatnonzero(differ)]
        raise InputError(
            f"--compare: the two models are scored on different pixels, since their images or channels lack data in "
            f"different places: {first_few(names)}"
        )


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return the shortest ends of two paths that differ, without best."""
    one, other = run_of(first.absolute()), run_of(second.absolute())
    if one == other:
        return str(first), f"{second} (again)"
    name, other_name = shortest_ends((one, other))
    return name, other_name
