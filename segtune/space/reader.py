"""Reading a search space: a YAML file, and the settings that the command line puts over it.

All mistakes of a file are reported at once, each with its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segtune.config import DATA_SETTINGS, NOT_SEARCHABLE, RunConfig, base_type, check_setting, explain
from segtune.errors import InputError, nearest
from segtune.files.yamlfile import Document, read_document
from segtune.space.combinations import share_forbidden
from segtune.space.forbid import Forbidden, is_wildcard
from segtune.space.parameters import Choice, Parameter, Range, not_countable, walk
from segtune.space.settings import SearchSettings
from segtune.space.space import Space

Checks = Mapping[str, Callable[[Any], "str | None"]]
Steps = tuple[Any, ...]  # the keys that lead to a part of the file

_SECTIONS = ("run", "space", "forbid", "baseline", "search")
_MOST_STEPS = 100_000  # of a range: each of them is looked at
_RANGE_KEYS = ("low", "high", "log", "step")


def load_space(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    search_overrides: Mapping[str, Any] | None = None,
    checks: Checks | None = None,
) -> Space:
    """Read a search space; InputError with every mistake of the file, each with its line.

    `overrides` are settings from the command line. They win over the file and fix what is searched; of a
    choice with branches, the settings of the branch that is left move up to its place and lose its part of
    their keys. `search_overrides` are for the search section; None stands for a flag that was not given.
    `checks` are further checks by setting, of every value in the file and in `overrides`.
    """
    return _Reader(read_document(path), overrides or {}, search_overrides or {}, checks or {}).read()


class _Reader:
    """One file on its way to a Space. Goes on after a mistake, to find the others."""

    def __init__(
        self,
        document: Document,
        overrides: Mapping[str, Any],
        search_overrides: Mapping[str, Any],
        checks: Checks,
    ) -> None:
        self.document = document
        self.checks = checks
        self.search_overrides = {k: value for k, value in search_overrides.items() if value is not None}
        self.mistakes = [(line, f"{document.path}:{line}: {text}") for line, text in document.repeated]
        # Settings with a mistake of their own: what they would be combined with cannot be judged.
        self.refused: set[str] = set()
        self.origin: dict[str, Steps] = {}  # where a fixed setting stands
        self.places: dict[str, list[Steps]] = {}  # by key: where a parameter stands, then each of its values
        self.listed: Sequence[Parameter] = ()  # what the file searches,
        self.given: dict[str, Any] = {}  # and what it fixes, before the command line changes either
        self.overrides: dict[str, Any] = {}
        for name, value in overrides.items():
            kept, mistake = _check(name, value, checks)
            if mistake is None:
                self.overrides[name] = kept
            else:
                self.refused.add(name)
                self.mistakes.append((0, mistake))

    def read(self) -> Space:
        path, data = self.document.path, self.document.data
        if not isinstance(data, dict):
            raise InputError(f"{path}: expected a mapping with run: and space:, but got {_short(data)}")
        self._unknown_sections(data)
        fixed = self._fixed(data)
        parameters = self._parameters(fixed)
        search = self._search(parameters)
        free, possible = self._combined(fixed, parameters)
        baseline = self._baseline(fixed, free) if possible else None
        forbid = self._forbid(parameters, fixed, baseline)
        if not parameters and not self.mistakes:
            whose = "the command line fixes" if self.overrides else "one value is given for"
            self._mistake(("space",), f"nothing is searched: {whose} every setting that is listed")
        if self.mistakes or baseline is None or search is None:
            raise InputError(text for _, text in sorted(self.mistakes, key=lambda mistake: mistake[0]))
        return Space(path.stem, path, fixed, baseline, parameters, search, forbid)

    # Sections.

    def _unknown_sections(self, data: Mapping[Any, Any]) -> None:
        known = (*DATA_SETTINGS, *_SECTIONS)
        for key in data:
            if key in RunConfig.model_fields and key not in DATA_SETTINGS:
                self._mistake((key,), "does not stand at the top; put it under run: to fix it")
            elif key not in known:
                self._mistake((key,), f"unknown key {key!r}{nearest(str(key), known)}")

    def _section(self, name: str) -> dict[Any, Any]:
        section = self.document.data.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self._mistake((name,), f"expected a mapping of settings, but got {_short(section)}")
            return {}
        return section

    def _fixed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[Any, Steps] = {name: (name,) for name in DATA_SETTINGS if name in data}
        for name in self._section("run"):
            if name in DATA_SETTINGS:
                self._mistake(("run", name), "describes the data, not the run; write it at the top, beside dataset")
            else:
                given[name] = ("run", name)
        fixed: dict[str, Any] = {}
        for name, steps in given.items():
            value = data[name] if len(steps) == 1 else data["run"][name]
            self.origin[str(name)] = steps
            self._accept(str(name), value, steps, fixed)
        self.given = dict(fixed)
        return fixed | self.overrides

    def _parameters(self, fixed: dict[str, Any]) -> tuple[Parameter, ...]:
        """The parameters of `space:`; single values at its top are added to `fixed`."""
        section = self._section("space")
        if self.document.data.get("space") in (None, {}):
            self._mistake(("space",), "nothing is searched: list values, or low and high, of some setting")
        searched = []
        for parameter in self._level(section, ("space",), "", ()):
            if isinstance(parameter, Choice) and not isinstance(section[parameter.name], list | dict):
                fixed.setdefault(parameter.name, parameter.values[0])
                self.given[parameter.name] = parameter.values[0]
                self.origin[parameter.name] = ("space", parameter.name)
            else:
                searched.append(parameter)
        self.listed = searched
        places, self.places = self.places, {}
        return tuple(self._left(searched, "", places))

    def _left(
        self, parameters: Iterable[Parameter], prefix: str, places: Mapping[str, list[Steps]]
    ) -> Iterator[Parameter]:
        """What `overrides` leave to be searched, under the keys that it then has."""
        for parameter in parameters:
            if parameter.name in self.overrides:
                for value, branch in parameter.items():
                    if value == self.overrides[parameter.name]:
                        yield from self._left(branch, prefix, places)
                continue
            key = prefix + parameter.name
            self.places[key] = places[parameter.key]
            if isinstance(parameter, Range):
                yield replace(parameter, key=key)
                continue
            branches = tuple(
                tuple(self._left(branch, f"{key}.{_label(value)}.", places)) for value, branch in parameter.items()
            )
            yield replace(parameter, key=key, branches=branches)

    def _search(self, parameters: Sequence[Parameter]) -> SearchSettings | None:
        try:
            search = SearchSettings.model_validate(self._section("search") | self.search_overrides)
        except ValidationError as error:
            for name, text in explain(error, SearchSettings):
                self._search_mistake(name or "compare", text)
            return None
        if search.sampler == "grid":
            for parameter in walk(parameters):
                if reason := not_countable(parameter):
                    self._mistake(self.places[parameter.key][0], reason)
        names = [parameter.name for parameter in parameters if isinstance(parameter, Choice)]
        if search.compare is not None and search.compare not in names:
            hint = nearest(search.compare, names) or f" (those that are: {', '.join(names) or 'none'})"
            text = f"{search.compare!r} is no list of values at the top of space:{hint}"
            self._search_mistake("compare", text)
        for parameter in parameters:
            if parameter.name == search.compare and any(branch for _, branch in parameter.items()):
                text = f"the values of {search.compare} bring settings of their own, so nothing else is equal"
                self._search_mistake("compare", text)
        return search

    def _search_mistake(self, name: str, text: str) -> None:
        text = text.removeprefix(f"{name}: ")
        if name in self.search_overrides:
            self.mistakes.append((0, f"{name}: {text}"))
        else:
            self._mistake(("search", name), text)

    # Parts of `space:`.

    def _level(
        self, settings: Mapping[Any, Any], steps: Steps, prefix: str, above: tuple[str, ...]
    ) -> tuple[Parameter, ...]:
        """The parameters of one mapping; `above` are the settings that lead to it."""
        found: list[Parameter] = []
        first: dict[str, Steps] = {}  # every setting that this level can bring, its branches included
        for raw, given in settings.items():
            name, here = str(raw), (*steps, raw)
            if mistake := self._misplaced(name, above):
                self._mistake(here, mistake)
                self.refused.add(name)
                continue
            parameter = self._parameter(name, given, here, prefix + name, (*above, name))
            if parameter is None:
                continue
            brought = {inner.name: self.places[inner.key][0] for inner in walk([parameter])}
            for again in filter(first.__contains__, brought):
                self._mistake(brought[again], f"is set twice: {self._at(first[again])} brings it too")
            first = brought | first
            found.append(parameter)
        return tuple(found)

    def _misplaced(self, name: str, above: tuple[str, ...]) -> str | None:
        if name not in RunConfig.model_fields:
            return check_setting(name, None)[1]
        if name in NOT_SEARCHABLE:
            where = "at the top of the file" if name in DATA_SETTINGS else "under run:"
            return f"results are comparable only when it is the same in all trials; put it {where}"
        if name in self.origin:
            return f"is fixed already by {self._at(self.origin[name])}; keep one of the two"
        return "is set twice: its own branch brings it again" if name in above else None

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
            self._mistake(steps, "lists no value")
            return None
        return self._choice(name, entries, steps, key, above)

    def _choice(
        self, name: str, entries: list[tuple[Any, Any, Steps]], steps: Steps, key: str, above: tuple[str, ...]
    ) -> Choice | None:
        accepted: dict[str, Any] = {}
        values, branches, places = [], [], [steps]
        for raw, branch, here in entries:
            ok = self._accept(name, raw, here, accepted, steps)
            value = accepted[name] if ok else raw
            brought: tuple[Parameter, ...] = ()
            if isinstance(branch, dict):
                brought = self._level(branch, here, f"{key}.{_label(value)}.", above)
            elif branch is not None:
                self._mistake(here, f"expected the settings that it brings, but got {_short(branch)}")
            if ok and value in values:
                self._mistake(steps, f"{_short(value)} is listed twice", here)
            elif ok:
                values.append(value)
                branches.append(brought)
                places.append(here)
        self.places[key] = places
        return Choice(name, key, tuple(values), tuple(branches)) if values else None

    def _range(self, name: str, given: Mapping[Any, Any], steps: Steps, key: str) -> Range | None:
        before = len(self.mistakes)
        integer = base_type(name) is int
        if base_type(name) not in (int, float):
            self._mistake(steps, "is no number, so it has no range; list its values")
            return None
        for raw in given:
            if raw not in _RANGE_KEYS:
                text = f"unknown key {raw!r} in a range{nearest(str(raw), _RANGE_KEYS)}"
                self._mistake((*steps, raw), f"{text} (known: {', '.join(_RANGE_KEYS)})")
        bounds: dict[str, Any] = {}
        accepted: dict[str, Any] = {}
        for bound in ("low", "high"):
            if bound not in given:
                self._mistake(steps, f"a range needs low and high, but has no {bound}")
            elif given[bound] is None:
                self._mistake((*steps, bound), "must be a number, but got None")
            elif self._accept(name, given[bound], (*steps, bound), accepted):
                bounds[bound] = accepted[name]
        log, step = given.get("log", False), given.get("step")
        if not isinstance(log, bool):
            self._mistake((*steps, "log"), f"must be true or false, but got {log!r}")
        if step is not None and not _positive(step, integer):
            kind = "whole number" if integer else "number"
            self._mistake((*steps, "step"), f"must be a {kind} above 0, but got {step!r}")
        if len(self.mistakes) == before:
            step = step if step is None or integer else float(step)
            found = Range(name, key, bounds["low"], bounds["high"], log, step, integer)
            if (mistake := _bad_range(found)) is None:
                self.places[key] = [steps, (*steps, "low"), (*steps, "high")]
                return found
            self._mistake(steps, mistake)
        self.refused.add(name)
        return None

    # What goes together. RunConfig alone knows the rules; here they are found by trying.

    def _combined(self, fixed: dict[str, Any], parameters: Sequence[Parameter]) -> tuple[dict[str, list[Any]], bool]:
        """Report values that go with no others.

        Returns the searched settings with the values tried, and whether the fixed ones go together.
        """
        free: dict[str, list[Any]] = {}
        for parameter in walk(parameters):
            free.setdefault(parameter.name, []).extend(parameter.extremes)
        start = {parameter.name: parameter.extremes[0] for parameter in parameters} | fixed
        clash = _resolve(start, free)
        if isinstance(clash, str) and _words(clash).isdisjoint(self.refused | free.keys()):
            self._fixed_mistake(clash)
            return free, False
        self._each_value(parameters, start, free)
        return free, True

    def _fixed_mistake(self, clash: str) -> None:
        guilty = _words(clash) & self.origin.keys() - self.overrides.keys()
        if guilty:  # of several, the one that RunConfig lists last
            self._mistake(self.origin[max(guilty, key=list(RunConfig.model_fields).index)], clash)
        else:
            self.mistakes.append((0, clash))

    def _each_value(
        self, parameters: Iterable[Parameter], settings: dict[str, Any], free: Mapping[str, list[Any]]
    ) -> None:
        for parameter in parameters:
            rest = {name: values for name, values in free.items() if name != parameter.name}
            place, *places = self.places[parameter.key]
            for value, here in zip(parameter.extremes, places, strict=True):
                clash = _resolve(settings | {parameter.name: value}, rest)
                # A clash of other settings alone is told of at those.
                words = _words(clash) if isinstance(clash, str) else set()
                if parameter.name in words and words.isdisjoint(self.refused):
                    self._mistake(place, str(clash), here)
            for value, branch in parameter.items():
                self._each_value(branch, settings | {parameter.name: value}, rest)

    def _baseline(self, fixed: Mapping[str, Any], free: Mapping[str, list[Any]]) -> RunConfig | None:
        given: dict[str, Any] = {}
        for raw, value in self._section("baseline").items():
            if raw in NOT_SEARCHABLE:
                self._mistake(("baseline", raw), "is the same in all trials, the baseline included")
            else:
                self._accept(str(raw), value, ("baseline", raw), given)
        settings = {**fixed, **given, **self.overrides}
        found = _resolve(settings, {name: values for name, values in free.items() if name not in settings})
        if isinstance(found, dict):
            return RunConfig.from_settings(found)
        guilty = [name for name in given if name in _words(found)]
        if guilty and _words(found).isdisjoint(self.refused):
            self._mistake(("baseline", guilty[0]), found)
        elif not self.mistakes:
            self._mistake(("baseline",), found)
        return None

    # What excludes each other.

    def _forbid(
        self, parameters: Sequence[Parameter], fixed: Mapping[str, Any], baseline: RunConfig | None
    ) -> tuple[Forbidden, ...]:
        """The entries of `forbid:` that have something to forbid once the command line has fixed what it fixes."""
        kept, before = [], len(self.mistakes)
        for here, entry in self._entries():
            if not parameters:
                continue  # another mistake already
            if share_forbidden(parameters, fixed, [entry])[1]:
                self._mistake(("forbid",), f"{entry} forbids every run of the space", here)
            elif baseline is not None and entry.matches(baseline.settings()):
                self._mistake(("forbid",), f"{entry} forbids the first run; another one stands under baseline:", here)
            elif left := self._occurring(entry, here, parameters, fixed):
                kept.append(left)
        if kept and len(self.mistakes) == before and share_forbidden(parameters, fixed, kept)[1]:
            self._mistake(("forbid",), "its entries together forbid every run of the space")
        return tuple(kept)

    def _entries(self) -> Iterator[tuple[Steps, Forbidden]]:
        """What stands in the file, each with its place."""
        example = "{model: fpn, encoder: vgg*}"
        section = self.document.data.get("forbid")
        if section is not None and not isinstance(section, list):
            self._mistake(("forbid",), f"expected a list of entries such as {example}, but got {_short(section)}")
            return
        for index, given in enumerate(section or ()):
            here = ("forbid", index)
            if not isinstance(given, dict) or not given:
                text = f"expected settings that exclude each other, such as {example}, but got {_short(given)}"
                self._mistake(("forbid",), text, here)
                continue
            before = len(self.mistakes)
            entry = Forbidden({str(n): self._excluded(str(n), value, (*here, n)) for n, value in given.items()})
            if len(self.mistakes) == before and entry.values.keys().isdisjoint(self.refused):
                yield here, entry

    def _excluded(self, name: str, given: Any, steps: Steps) -> tuple[Any, ...]:
        """The values of one setting in an entry: one, or a list of which any counts."""
        said = ("forbid", name)
        if name not in RunConfig.model_fields:
            self._mistake(said, str(check_setting(name, None)[1]), steps)
            return ()
        if name in NOT_SEARCHABLE:
            self._mistake(said, "is the same in all trials, and excludes nothing", steps)
            return ()
        several = isinstance(given, list)
        if several and base_type(name) is list:
            several = bool(given) and all(isinstance(value, list) for value in given)
        kept = []
        for value, here in [(v, (*steps, i)) for i, v in enumerate(given)] if several else [(given, steps)]:
            wildcard = is_wildcard(value) and base_type(name) is str
            accepted, mistake = (value, None) if wildcard else _check(name, value, self.checks)
            if mistake is None:
                kept.append(accepted)
            else:
                self._mistake(said, mistake.removeprefix(f"{name}: "), here)
        if several and not given:
            self._mistake(said, "lists no value", steps)
        return tuple(kept)

    def _occurring(
        self, entry: Forbidden, here: Steps, parameters: Sequence[Parameter], fixed: Mapping[str, Any]
    ) -> Forbidden | None:
        """What of an entry runs can have; None where it forbids nothing (any more), which in the file is a mistake."""

        def occurs(part: Forbidden) -> bool:
            return share_forbidden(parameters, fixed, [part])[0]

        left: dict[str, tuple[Any, ...]] = dict.fromkeys(entry.values, ())
        unknown = False
        for name, values in entry.values.items():
            for value in values:
                one = Forbidden({name: (value,)})
                if occurs(one):
                    left[name] += (value,)
                elif not self._in_file(one):
                    self._unmatched(name, value, here)
                    unknown = True
        found = Forbidden(left)
        if all(left.values()) and occurs(found):
            return found
        if not unknown and not self._in_file(entry):
            self._mistake(("forbid",), f"{entry} forbids nothing: no run has all of it together", here)
        return None

    def _in_file(self, entry: Forbidden) -> bool:
        """Whether an entry forbids anything before the command line changes the space."""
        return bool(self.overrides) and share_forbidden(self.listed, self.given, [entry])[0]

    def _unmatched(self, name: str, value: Any, here: Steps) -> None:
        tried = [p for p in walk(self.listed) if p.name == name]
        values = [v for p in tried if isinstance(p, Choice) for v in p.values] or [self.given.get(name)]
        if any(isinstance(parameter, Range) for parameter in tried):
            text = f"forbids nothing: no draw from its range is {value!r}"
        elif tried or name in self.given:
            known = dict.fromkeys(map(_label, values))
            text = f"forbids nothing: no run has {value!r}{nearest(str(value), known)} (tried: {', '.join(known)})"
        else:
            text = f"forbids nothing: it is not searched, and {value!r} is not its default"
        self._mistake(("forbid", name), text, (*here, name))

    # Messages.

    def _accept(self, name: str, value: Any, steps: Steps, into: dict[str, Any], said: Steps | None = None) -> bool:
        """Check a value and put it `into` a mapping, or report it (as the setting at `said`)."""
        # What the command line replaces need not exist, a folder for instance.
        kept, mistake = _check(name, value, {} if name in self.overrides else self.checks)
        if mistake is None:
            into[name] = kept
            return True
        self.refused.add(name)
        if name in RunConfig.model_fields and base_type(name) is list and isinstance(value, str | int):
            mistake += f"; a list of one is [{value}]"
        self._mistake(said or steps, mistake.removeprefix(f"{name}: "), steps)
        return False

    def _mistake(self, steps: Steps, text: str, at: Steps | None = None) -> None:
        line = self.document.line(*(at or steps))
        self.mistakes.append((line, f"{self.document.path}:{line}: {_dotted(steps)}: {text}"))

    def _at(self, steps: Steps) -> str:
        return f"{_dotted(steps)} (line {self.document.line(*steps)})"


def _check(name: str, value: object, checks: Checks | None = None) -> tuple[Any, str | None]:
    """RunConfig's verdict on one value, and then that of the caller's own check."""
    value, mistake = check_setting(name, value)
    if mistake is None and checks and name in checks and (found := checks[name](value)):
        mistake = found if found.startswith(f"{name}: ") else f"{name}: {found}"
    return value, mistake


def _resolve(settings: dict[str, Any], free: Mapping[str, list[Any]]) -> dict[str, Any] | str:
    """The settings as RunConfig accepts them, changed at `free` ones that clash; else the clash that stays.

    RunConfig's messages name the settings that clash, so that only those few need to be tried.
    """
    try:
        RunConfig.from_settings(settings)
        return settings
    except InputError as error:
        clash = str(error)
    for name in [name for name in free if name in _words(clash)]:
        rest = {other: values for other, values in free.items() if other != name}
        for value in free[name]:
            found = _resolve(settings | {name: value}, rest)
            if isinstance(found, dict):
                return found
            clash = found
    return clash


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


def _words(message: str) -> set[str]:
    return set(re.findall(r"\w+", message))


def _label(value: object) -> str:
    return "null" if value is None else str(value)


def _dotted(steps: Steps) -> str:
    return ".".join(map(_label, steps))


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
