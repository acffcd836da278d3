"""Measure the winner over fresh seeds and the baseline on the test tiles, and find the groups of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segtune.config import RunConfig
from segtune.confirmed import Confirmed, Look, Repeated
from segtune.data.dataset import DataInfo
from segtune.errors import InputError
from segtune.evaluation.intervals import bootstrap, compare, tile_groups
from segtune.evaluation.validate import Validation, validate
from segtune.files.folders import SearchFolder
from segtune.space.confirm import Confirm
from segtune.space.settings import SearchSettings
from segtune.space.space import Space
from segtune.training.repeat import name_in_set, scored_sets, tile_names
from segtune.training.resolve import resolve


def look_at(place: Path, result: Confirmed, wanted: Confirm, folder: SearchFolder, device: str) -> Look:
    """Measure the models of the median seeds of the winner and the baseline on the tiles of a split.

    Raises InputError where the split is not sound or a model is gone, and DeviceMemoryError where memory is not enough.
    """

    def validated(one: Repeated) -> Validation:
        return validate(folder.path / one.run / "best", place, device)

    winner, base = result.winner, result.baseline
    own = validated(winner)
    groups = groups_of(wanted, own.measured.names)
    several, classes = own.tiles > 1, own.manifest.config.classes
    interval = bootstrap(own.measured.tiles, classes, groups).miou if several else None
    if base is None or winner.baseline:
        return Look(str(place), own.tiles, winner.trial, own.scores.miou, interval, None, None)
    other = validated(base)
    tiles = own.measured.tiles, other.measured.tiles
    gain = compare((str(winner.trial), "0"), tiles, classes, groups).miou if several else None
    return Look(str(place), own.tiles, winner.trial, own.scores.miou, interval, other.scores.miou, gain)


def too_few_tiles(baseline: RunConfig, info: DataInfo) -> str | None:
    """Return why nothing can be compared on the validation tiles of a resolved run; None where something can."""
    names = tile_names(scored_sets(baseline, info))
    return None if len(names) > 1 else f"an interval needs at least 2 validation tiles, and there is {len(names)}"


def trials_search(space: Space, info: DataInfo) -> SearchSettings:
    """Return the settings of a search as its trials see them: no time is kept for a confirmation that cannot be."""
    search = space.with_search({"trials": space.trials()}).search
    none = search.confirms() and too_few_tiles(resolve(space.baseline, info), info)
    return search.model_copy(update={"confirm": None}) if none else search


def check_groups(space: Space, info: DataInfo) -> None:
    """Raise InputError where the `group` of `confirm:` does not fit the names of the validation tiles."""
    wanted = space.search.confirms()
    if wanted and wanted.group is not None:
        names = tile_names(scored_sets(resolve(space.baseline, info), info))
        groups_of(wanted, [name_in_set(name) for name in names])


def groups_of(wanted: Confirm, names: Sequence[str]) -> list[str] | None:
    """Return the group of each tile by its name in its set; None where tiles are drawn one by one.

    Raises InputError where the pattern does not fit the names.
    """
    if wanted.group is None:
        return None
    try:
        return tile_groups(names, wanted.group)
    except InputError as error:
        raise InputError(line.replace("--group", "search.confirm.group", 1) for line in error.mistakes) from None
