"""Values that do not go with any others. Only RunConfig knows the rules, so that they are found by trying."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segtune.config import RunConfig
from segtune.mistakes import SettingsError
from segtune.roles import acts
from segtune.space.parameters import Parameter, walk
from segtune.space.space_section import Places
from segtune.space.spacefile import SpaceFile, Steps

Values = Mapping[str, Sequence[Any]]  # values to try, by setting


def values_to_try(parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    """Return the values to try for each searched setting: all values of a choice, the bounds of a range."""
    found: dict[str, list[Any]] = {}
    for parameter in walk(parameters):
        found.setdefault(parameter.name, []).extend(parameter.extremes)
    return found


def compatible(settings: dict[str, Any], free: Values) -> dict[str, Any]:
    """Return settings that RunConfig accepts: those given, with other values for `free` ones that clash.

    Raises SettingsError if no values go together. Only settings that clash are tried, so that this is quick.
    """
    try:
        RunConfig.from_settings(settings)
        return settings
    except SettingsError as error:
        clash = error
    for name in [name for name in free if name in clash.settings]:
        rest = _without(name, free)
        for value in free[name]:
            try:
                return compatible(settings | {name: value}, rest)
            except SettingsError as error:
                clash = error
    raise clash


class ClashFinder:
    """Reports values that RunConfig refuses in all combinations. `origin` and `places` have the places in the file."""

    def __init__(self, file: SpaceFile, origin: Mapping[str, Steps], places: Places) -> None:
        self._file = file
        self._origin = origin
        self._places = places

    def find(self, fixed: Mapping[str, Any], parameters: Sequence[Parameter]) -> bool:
        """Report values that do not go with any others; return whether the fixed settings go together."""
        free = values_to_try(parameters)
        start = {parameter.name: parameter.extremes[0] for parameter in parameters} | dict(fixed)
        try:
            compatible(start, free)
        except SettingsError as clash:
            if clash.settings.isdisjoint(self._file.refused | free.keys()):
                self._fixed_mistake(clash)
                return False
        self._each_value(parameters, start, free)
        return True

    def _fixed_mistake(self, clash: SettingsError) -> None:
        guilty = clash.settings & self._origin.keys()
        if guilty:  # if there are several, report the last one in the order of RunConfig
            self._file.mistake(self._origin[max(guilty, key=list(RunConfig.model_fields).index)], str(clash))
        else:
            self._file.mistake_elsewhere(str(clash))

    def _each_value(self, parameters: Iterable[Parameter], settings: dict[str, Any], free: Values) -> None:
        for parameter in parameters:
            rest = _without(parameter.name, free)
            place, *places = self._places[parameter.key]
            for value, here in zip(parameter.extremes, places, strict=True):
                try:
                    compatible(settings | {parameter.name: value}, rest)
                except SettingsError as clash:
                    # A clash of other settings alone is reported at those.
                    if parameter.name in clash.settings and clash.settings.isdisjoint(self._file.refused):
                        self._file.mistake(place, f"{clash}{_apart(clash, parameter.name, rest)}", here)
            for value, branch in parameter.items():
                self._each_value(branch, settings | {parameter.name: value}, rest)


def _apart(clash: SettingsError, other: str, free: Values) -> str:
    """Return the advice to search a setting in branches of the `other` one, on which it depends; else nothing."""
    for name in clash.settings & free.keys():
        if name in acts(RunConfig) and acts(RunConfig)[name].name == other:
            return f"; give {name} to the values of {other} that take it, in a branch"
    return ""


def _without(name: str, free: Values) -> Values:
    return {other: values for other, values in free.items() if other != name}
