"""Values that go with no others. RunConfig alone knows the rules; here they are found by trying."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segtune.config import RunConfig
from segtune.mistakes import SettingsError
from segtune.space.parameters import Parameter, walk
from segtune.space.searched import Places
from segtune.space.spacefile import SpaceFile, Steps

Values = Mapping[str, Sequence[Any]]  # by setting: what is tried for it


def values_to_try(parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    """Return, for each searched setting, the values that stand for all of its values."""
    found: dict[str, list[Any]] = {}
    for parameter in walk(parameters):
        found.setdefault(parameter.name, []).extend(parameter.extremes)
    return found


def resolve(settings: dict[str, Any], free: Values) -> dict[str, Any]:
    """Return the settings as RunConfig accepts them, changed at `free` ones that clash; SettingsError if none fit.

    The error says which settings clash, so that only those few need to be tried.
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
                return resolve(settings | {name: value}, rest)
            except SettingsError as error:
                clash = error
    raise clash


class ClashFinder:
    """Reports what RunConfig refuses in every combination; `origin` and `places` say where settings stand."""

    def __init__(self, file: SpaceFile, origin: Mapping[str, Steps], places: Places) -> None:
        self._file = file
        self._origin = origin
        self._places = places

    def find(self, fixed: Mapping[str, Any], parameters: Sequence[Parameter]) -> bool:
        """Report values that go with no others; return whether the fixed ones go together."""
        free = values_to_try(parameters)
        start = {parameter.name: parameter.extremes[0] for parameter in parameters} | dict(fixed)
        try:
            resolve(start, free)
        except SettingsError as clash:
            if clash.settings.isdisjoint(self._file.refused | free.keys()):
                self._fixed_mistake(clash)
                return False
        self._each_value(parameters, start, free)
        return True

    def _fixed_mistake(self, clash: SettingsError) -> None:
        guilty = clash.settings & self._origin.keys()
        if guilty:  # of several, the one that RunConfig lists last
            self._file.mistake(self._origin[max(guilty, key=list(RunConfig.model_fields).index)], str(clash))
        else:
            self._file.mistake_elsewhere(str(clash))

    def _each_value(self, parameters: Iterable[Parameter], settings: dict[str, Any], free: Values) -> None:
        for parameter in parameters:
            rest = _without(parameter.name, free)
            place, *places = self._places[parameter.key]
            for value, here in zip(parameter.extremes, places, strict=True):
                try:
                    resolve(settings | {parameter.name: value}, rest)
                except SettingsError as clash:
                    # A clash of other settings alone is reported at those.
                    if parameter.name in clash.settings and clash.settings.isdisjoint(self._file.refused):
                        self._file.mistake(place, str(clash), here)
            for value, branch in parameter.items():
                self._each_value(branch, settings | {parameter.name: value}, rest)


def _without(name: str, free: Values) -> Values:
    return {other: values for other, values in free.items() if other != name}
