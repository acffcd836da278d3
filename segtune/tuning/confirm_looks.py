"""Measure the winner over fresh seeds and the baseline on the test tiles, and find the groups of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segtune.config import RunConfig
from segtune.confirmed import Confirmed, Look, Repeated
from segtune.data.dataset import DataInfo
from segtune.data.pairs import find_tiles
from segtune.data.splits import test_place
from segtune.data.tiles import Layout
from segtune.errors import InputError, one_line
from segtune.evaluation.grouping import Grouping, find_groups
from segtune.evaluation.validate import Validation, measure_of, validate
from segtune.files.folders import SearchFolder
from segtune.space.confirm import Confirm
from segtune.space.settings import SearchSettings
from segtune.space.space import Space
from segtune.training.repeat import scored_sets, tile_names, validation_groups
from segtune.training.resolve import resolve

_SETTING = "search.confirm.group"


def look_at(place: Path, result: Confirmed, wanted: Confirm, folder: SearchFolder, device: str) -> Look:
    """Measure the models of the median seeds of the winner and the baseline on the tiles of a split.

    Raises InputError where the split is not sound or a model is gone, and DeviceMemoryError where memory is not enough.
    """

    def validated(one: Repeated) -> Validation:
        return validate(folder.path / one.run / "best", place, device)

    winner, base = result.winner, result.baseline
    own = validated(winner)
    groups = find_groups(find_tiles(place, own.manifest.layout), wanted.group, _SETTING).groups
    several, measure, tiles = own.tiles > 1, measure_of(own), own.measured.tiles
    score = measure.of(tiles)
    if score is None:
        raise InputError(f"the masks lack a class that {measure.objective.name} needs")
    interval = measure.interval(tiles, groups) if several else None
    alone = Look(
        str(place),
        own.tiles,
        winner.trial,
        score,
        interval,
        baseline=None,
        gain=None,
        objective=measure.objective.name,
        unsure=measure.unsure(tiles, groups) if several else None,
    )
    if base is None or winner.baseline:
        return alone
    theirs = validated(base).measured.tiles
    gain = measure.gain(tiles, theirs, groups) if several else None
    return replace(alone, baseline=measure.of(theirs), gain=gain)


def no_look(space: Space) -> str | None:
    """Return a line that says why no winner of a search can be measured on the data set's test tiles.

    None where one can, as far as the names of the files tell, and where there are no test tiles.
    """
    place = test_place(space.baseline)
    try:
        if place:
            find_tiles(place, Layout.of(space.baseline, space.channels()))
    except InputError as error:
        more = f", and {len(error.mistakes) - 1} more like it" if len(error.mistakes) > 1 else ""
        reason = f"{one_line(error.mistakes[0])}{more}"
        return f"{place}: the winner cannot be measured there at the end, unless you mend it before: {reason}"
    return None


def too_few_tiles(baseline: RunConfig, info: DataInfo) -> str | None:
    """Return why nothing can be compared on the validation tiles of a resolved run; None where something can."""
    if info.folds:  # of at least two tiles together
        return None
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
        groups_of(wanted, names, space.baseline)


def groups_of(wanted: Confirm, names: Sequence[str], config: RunConfig) -> Grouping:
    """Return which validation tiles are drawn together; see `validation_groups`."""
    return validation_groups(names, config, wanted.group, _SETTING)
