"""Refuse flags of validate.py that cannot apply to what it works on: they would do nothing, without a word."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segtune.cli.places import Place
from segtune.cli.validate_flags import validate_parser
from segtune.errors import InputError
from segtune.models.foreign import Described
from segtune.models.manifest import Manifest

_SEARCH = ("trial", "top")  # with -cd alone
_MASKS = ("vis", "worst", "group", "compare", "sweep_threshold", "store_threshold")
_NO_MASKS = ("cog", "polygons", "simplify", "resolution")
_OUTPUTS = ("com", "plots", "no_plots", "only_plots", "binary", "raw")
_PREDICTION = ("bands", "thres", "min_area", "tile_size", "precision", "tta", "overlap")
_SHORT = {"thres": "-t"}


def check_applicable(
    arguments: Namespace, places: Sequence[Place], models: Mapping[Path, Manifest], described: Described | None = None
) -> None:
    """Raise InputError with every flag that does nothing, since no data of `places` is of the kind that it is for."""
    mistakes = [*_of_models(arguments), *_of_outputs(arguments, places)]
    if not places:
        needed = (*_OUTPUTS, *_PREDICTION, *_MASKS, *_NO_MASKS)
        own = {"tile_size"} if described else set()  # which is then the size of what is exported
        mistakes += _line(
            arguments,
            (name for name in needed if name not in own),
            "data, which -d names; a model is exported and uploaded with its own settings",
        )
    elif all(place.measurable for place in places):
        where = places[0].data[0]
        images = where / models[places[0].model].config.images_dir
        hint = f"; -d {images} predicts its images" if where.is_dir() else ""
        mistakes += _line(arguments, _NO_MASKS, f"images without masks, and {where} has masks{hint}")
    elif not any(place.measurable for place in places):
        mistakes += _line(arguments, _MASKS, f"masks to compare with, and {places[0].data[0]} has none")
    if mistakes:
        raise InputError(mistakes)


def unused_overlap(arguments: Namespace, places: Sequence[Place], models: Mapping[Path, Manifest]) -> str | None:
    """Return a line where no tile is cut into windows, so that --overlap changes nothing; None where one is."""
    whole = all(place.measurable and models[place.model].config.fit != "crop" for place in places)
    if not places or arguments.compare or not whole or not given_flags(arguments, ("overlap",)):
        return None
    fit = models[places[0].model].config.fit
    return f"note: --overlap changes nothing: a model with fit {fit} sees each tile of a split as a whole"


def _of_models(arguments: Namespace) -> list[str]:
    flags = given_flags(arguments, _SEARCH) if arguments.check_path else []
    return [f"{flag}: chooses among the trials of a search, which -cd names; -c names one model" for flag in flags]


def _of_outputs(arguments: Namespace, places: Sequence[Place]) -> Iterable[str]:
    if arguments.simplify and not arguments.polygons:
        yield "--simplify: is for the outlines that --polygons writes; add it"
    if arguments.only_plots and given_flags(arguments, ("worst",)):
        yield "--worst: is for the sheet of the worst tiles, which --only-plots leaves out; leave out one of the two"
    if arguments.output_dir and not (places or arguments.export):
        yield "-o: is for what is measured, predicted or exported, and -d and --export are missing"
    predicted = sum(not place.measurable for place in places)
    if arguments.polygons and predicted > 1:
        yield f"--polygons: writes one file, but there are {predicted} predictions; predict one image with one model"


def _line(arguments: Namespace, names: Iterable[str], needed: str) -> list[str]:
    """Return a line with those of the flags that are given, and what they need; none where none is given."""
    flags = given_flags(arguments, names)
    return [f"{', '.join(flags)}: {'need' if flags[1:] else 'needs'} {needed}"] if flags else []


def given_flags(arguments: Namespace, names: Iterable[str]) -> list[str]:
    """Return the flags whose values are not what they are without them."""
    parser = validate_parser("")
    given = [name for name in names if getattr(arguments, name) != parser.get_default(name)]
    return [_SHORT.get(name, f"--{name.replace('_', '-')}") for name in given]
