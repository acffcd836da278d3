"""Values that go with no others. RunConfig alone knows the rules; here they are found by trying."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.space.parameters import Parameter, walk
from segtune.space.searched import Places
from segtune.space.spacefile import SpaceFile, Steps


class ClashFinder:
    """Reports what RunConfig refuses in every combination; `origin` and `places` say where settings stand."""

    def __init__(self, file: SpaceFile, origin: Mapping[str, Steps], places: Places) -> None:
        self._file = file
        self._origin = origin
        self._places = places

    def find(self, fixed: dict[str, Any], parameters: Sequence[Parameter]) -> tuple[dict[str, list[Any]], bool]:
        """Report values that go with no others.

        Returns the searched settings with the values tried, and whether the fixed ones go together.
        """
        free: dict[str, list[Any]] = {}
        for parameter in walk(parameters):
            free.setdefault(parameter.name, []).extend(parameter.extremes)
        start = {parameter.name: parameter.extremes[0] for parameter in parameters} | fixed
        clash = resolve(start, free)
        if isinstance(clash, str) and words_of(clash).isdisjoint(self._file.refused | free.keys()):
            self._fixed_mistake(clash)
            return free, False
        self._each_value(parameters, start, free)
        return free, True

    def _fixed_mistake(self, clash: str) -> None:
        guilty = words_of(clash) & self._origin.keys()
        if guilty:  # of several, the one that RunConfig lists last
            self._file.mistake(self._origin[max(guilty, key=list(RunConfig.model_fields).index)], clash)
        else:
            self._file.mistake_elsewhere(clash)

    def _each_value(
        self, parameters: Iterable[Parameter], settings: dict[str, Any], free: Mapping[str, list[Any]]
    ) -> None:
        for parameter in parameters:
            rest = {name: values for name, values in free.items() if name != parameter.name}
            place, *places = self._places[parameter.key]
            for value, here in zip(parameter.extremes, places, strict=True):
                clash = resolve(settings | {parameter.name: value}, rest)
                # A clash of other settings alone is told of at those.
                words = words_of(clash) if isinstance(clash, str) else set()
                if parameter.name in words and words.isdisjoint(self._file.refused):
                    self._file.mistake(place, str(clash), here)
            for value, branch in parameter.items():
                self._each_value(branch, settings | {parameter.name: value}, rest)


def resolve(settings: dict[str, Any], free: Mapping[str, list[Any]]) -> dict[str, Any] | str:
    """The settings as RunConfig accepts them, changed at `free` ones that clash; else the clash that stays.

    RunConfig's messages name the settings that clash, so that only those few need to be tried.
    """
    try:
        RunConfig.from_settings(settings)
        return settings
    except InputError as error:
        clash = str(error)
    for name in [name for name in free if name in words_of(clash)]:
        rest = {other: values for other, values in free.items() if other != name}
        for value in free[name]:
            found = resolve(settings | {name: value}, rest)
            if isinstance(found, dict):
                return found
            clash = found
    return clash


def words_of(message: str) -> set[str]:
    return set(re.findall(r"\w+", message))
