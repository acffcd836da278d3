"""The `space:` section: settings become parameters, and the command line may fix some of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from segtune.config import RunConfig
from segtune.errors import nearest, short
from segtune.fields import DATA_SETTINGS, NOT_SEARCHABLE, SINGLE_RUN, base_type, unknown_setting
from segtune.space.parameters import Choice, Parameter, Range, walk
from segtune.space.spacefile import SpaceFile, Steps, label

_MOST_STEPS = 100_000  # of a range: all of them are looked at
_FOR_SINGLE_RUNS = {
    "early_stopping": "a search has scheduler: asha, which stops poor trials, and patience",
    "objective": "a search has objectives, under search:",
}
_RANGE_KEYS = ("low", "high", "log", "step")
Places = Mapping[str, list[Steps]]  # by key: the place of a parameter, then the places of its values


class ParameterReader:
    """Reads mappings of settings as parameters. `origin` has the places of the fixed settings."""

    def __init__(self, file: SpaceFile, origin: Mapping[str, Steps]) -> None:
        self._file = file
        self._origin = origin
        self.places: dict[str, list[Steps]] = {}

    def level(
        self, settings: Mapping[Any, Any], steps: Steps, prefix: str, above: tuple[str, ...]
    ) -> tuple[Parameter, ...]:
        """Return the parameters of one mapping; `above` are the settings whose branches lead to it."""
        found: list[Parameter] = []
        first: dict[str, Steps] = {}  # all settings of this level and its branches
        for raw, given in settings.items():
            name, here = str(raw), (*steps, raw)
            if mistake := self._misplaced(name, above):
                self._file.mistake(here, mistake)
                self._file.refused.add(name)
                continue
            parameter = self._parameter(name, given, here, prefix + name, (*above, name))
            if parameter is None:
                continue
            brought = {inner.name: self.places[inner.key][0] for inner in walk([parameter])}
            for again in filter(first.__contains__, brought):
                self._file.mistake(brought[again], f"is set twice: {self._file.place(first[again])} sets it too")
            first = brought | first
            found.append(parameter)
        return tuple(found)

    def _misplaced(self, name: str, above: tuple[str, ...]) -> str | None:
        if name not in RunConfig.model_fields:
            return unknown_setting(name).message
        if name in SINGLE_RUN:
            return for_single_runs(name)
        if name in NOT_SEARCHABLE:
            where = "at the top of the file" if name in DATA_SETTINGS else "under run:"
            return f"results are comparable only when it is the same in all trials; put it {where}"
        if name in self._origin:
            return f"is fixed already by {self._file.place(self._origin[name])}; keep one of the two"
        return "is set twice: its own branch sets it again" if name in above else None

    def _parameter(self, name: str, given: Any, steps: Steps, key: str, above: tuple[str, ...]) -> Parameter | None:
        if isinstance(given, dict):
            numeric = base_type(name) in (int, float) and any(isinstance(raw, str) for raw in given)
            if numeric or not {"low", "high"}.isdisjoint(given):
                return self._range(name, given, steps, key)
            entries = [(raw, branch, (*steps, raw)) for raw, branch in given.items()]
        elif isinstance(given, list):
            entries = [(raw, None, (*steps, i)) for i, raw in enumerate(given)]
        else:
            entries = [(given, None, steps)]
        if not entries:
            self._file.mistake(steps, "has no values; list at least one")
            return None
        return self._choice(name, entries, steps, key, above)

    def _choice(
        self, name: str, entries: list[tuple[Any, Any, Steps]], steps: Steps, key: str, above: tuple[str, ...]
    ) -> Choice | None:
        accepted: dict[str, Any] = {}
        values, branches, places = [], [], [steps]
        for raw, branch, here in entries:
            ok = self._file.accept(name, raw, here, accepted, steps)
            value = accepted[name] if ok else raw
            brought: tuple[Parameter, ...] = ()
            if isinstance(branch, dict):
                brought = self.level(branch, here, f"{key}.{label(value)}.", above)
            elif branch is not None:
                self._file.mistake(here, f"expected a mapping of settings for this value, but got {short(branch)}")
            if ok and value in values:
                self._file.mistake(steps, f"{short(value)} is listed twice", here)
            elif ok:
                values.append(value)
                branches.append(brought)
                places.append(here)
        self.places.setdefault(key, places)  # of a value that is listed twice, the first place
        return Choice(name, key, tuple(values), tuple(branches)) if values else None

    def _range(self, name: str, given: Mapping[Any, Any], steps: Steps, key: str) -> Range | None:
        before = self._file.count()
        integer = base_type(name) is int
        if base_type(name) not in (int, float):
            self._file.mistake(steps, "is not a number, so it cannot have a range; list its values")
            return None
        for raw in given:
            if raw not in _RANGE_KEYS:
                text = f"unknown key {raw!r} in a range{nearest(str(raw), _RANGE_KEYS)}"
                self._file.mistake((*steps, raw), f"{text} (known: {', '.join(_RANGE_KEYS)})")
        bounds: dict[str, Any] = {}
        accepted: dict[str, Any] = {}
        for bound in ("low", "high"):
            if bound not in given:
                self._file.mistake(steps, f"a range needs low and high, but {bound} is missing")
            elif given[bound] is None:
                self._file.mistake((*steps, bound), "must be a number, but got None")
            elif self._file.accept(name, given[bound], (*steps, bound), accepted):
                bounds[bound] = accepted[name]
        log, step = given.get("log", False), given.get("step")
        if not isinstance(log, bool):
            self._file.mistake((*steps, "log"), f"must be true or false, but got {log!r}")
        if step is not None and not _positive(step, integer):
            kind = "whole number" if integer else "number"
            self._file.mistake((*steps, "step"), f"must be a {kind} above 0, but got {step!r}")
        if self._file.count() == before:
            step = step if step is None or integer else float(step)
            found = Range(name, key, bounds["low"], bounds["high"], log, step, integer)
            if (mistake := _bad_range(found)) is None:
                self.places.setdefault(key, [steps, (*steps, "low"), (*steps, "high")])
                return found
            self._file.mistake(steps, mistake)
        self._file.refused.add(name)
        return None


def left_by(
    overrides: Mapping[str, Any], parameters: Iterable[Parameter], places: Places
) -> tuple[tuple[Parameter, ...], dict[str, list[Steps]]]:
    """Return the parameters that `overrides` do not fix, with the places by their new keys.

    If a choice is fixed, the branch of its value moves up to its place, and its keys become shorter.
    """
    kept: dict[str, list[Steps]] = {}

    def left(parameters: Iterable[Parameter], prefix: str) -> Iterator[Parameter]:
        for parameter in parameters:
            if parameter.name in overrides:
                for value, branch in parameter.items():
                    if value == overrides[parameter.name]:
                        yield from left(branch, prefix)
                continue
            key = prefix + parameter.name
            kept[key] = places[parameter.key]
            if isinstance(parameter, Range):
                yield replace(parameter, key=key)
                continue
            branches = tuple(tuple(left(branch, f"{key}.{label(value)}.")) for value, branch in parameter.items())
            yield replace(parameter, key=key, branches=branches)

    return tuple(left(parameters, "")), kept


def for_single_runs(name: str) -> str:
    """Return what is wrong with a setting of single runs in a search, and what a search has instead."""
    return f"is for single runs; {_FOR_SINGLE_RUNS[name]}"


def _bad_range(found: Range) -> str | None:
    low, high, step = (None if n is None else f"{n:.12g}" for n in (found.low, found.high, found.step))
    if found.low > found.high:
        return f"`low <= high` must hold, but got (low={low}, high={high})"
    if found.log and found.low <= 0:
        return f"a log range needs `low > 0`, but got (low={low}, high={high})"
    if found.log and step is not None:
        return f"a range has either log or step, but got (log=true, step={step})"
    if found.step is not None and (found.high - found.low) / found.step >= _MOST_STEPS:
        return f"steps of {step} from {low} to {high} are more than {_MOST_STEPS:,}; leave step out, or make it larger"
    if (values := found.steps()) and values[-1] != found.high:
        return f"steps of {step} from {low} miss high={high}; the last one is {values[-1]:.12g}"
    return None


def _positive(value: object, integer: bool) -> bool:
    kinds = int if integer else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 < value < math.inf
