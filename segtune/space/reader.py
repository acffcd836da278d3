"""Reading a search space: a YAML file, and the settings from the command line that replace some of it.

All mistakes of a file are reported at once, each with its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segtune.class_names import split_classes, without_old_names
from segtune.config import RunConfig
from segtune.errors import InputError, nearest, nearest_or_all, short
from segtune.fields import DATA_SETTINGS, NOT_SEARCHABLE, SINGLE_RUN
from segtune.files.folders import SearchFolder
from segtune.files.yamlfile import Document, read_document
from segtune.mistakes import SettingsError, explain
from segtune.objectives import MIOU, Objective
from segtune.space.clashes import ClashFinder, Values, compatible, values_to_try
from segtune.space.combinations import groups
from segtune.space.forbid_section import ForbidReader, Runs
from segtune.space.parameters import Choice, Parameter, not_countable, walk
from segtune.space.prior_section import PriorReader
from segtune.space.settings import SearchSettings
from segtune.space.space import AUGMENTATION_FILES, WEIGHTS, Space
from segtune.space.space_section import ParameterReader, Places, for_single_runs, left_by
from segtune.space.spacefile import Checks, SpaceFile, Steps

_RETIRED = frozenset({"teach"})  # search settings of a former release, which its search.yaml files have
_ALWAYS_WRITTEN = frozenset({"trials", "sampler", "scheduler", "seed", "keep", "retries"})  # to a search's own file
_SECTIONS = ("run", "space", "forbid", "baseline", "prior", "search")


def load_space(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    search_overrides: Mapping[str, Any] | None = None,
    checks: Checks | None = None,
) -> Space:
    """Read a search space. Raises InputError with all mistakes of the file, each with its line.

    Parameters
    ----------
    overrides: settings from the command line. They replace those of the file, and fix searched ones. If a choice with
        branches is fixed, the branch of its value moves up to its place, and its keys become shorter.
    search_overrides: values for `search:` from the command line; None is a flag that was not given.
    checks: a further check for each value of a setting, in the file and in `overrides`; it returns what is wrong.
    """
    return _Reader(read_document(path), overrides or {}, search_overrides or {}, checks or {}).read()


class _Reader:
    """Reads one file section by section."""

    def __init__(
        self,
        document: Document,
        overrides: Mapping[str, Any],
        search_overrides: Mapping[str, Any],
        checks: Checks,
    ) -> None:
        self._file = SpaceFile(document, checks)
        self._search_overrides = {k: value for k, value in search_overrides.items() if value is not None}
        self._origin: dict[str, Steps] = {}  # places of the fixed settings
        self._overrides: dict[str, Any] = {}
        for name, value in overrides.items():
            try:
                self._overrides[name] = self._file.check(name, value)
                self._file.replaced.add(name)
            except SettingsError as error:
                self._file.refused.add(name)
                self._file.mistake_elsewhere(str(error))

    @property
    def _stored(self) -> bool:
        """Whether it is the search.yaml of a search."""
        return self._file.path.name == SearchFolder(self._file.path.parent).search_yaml.name

    def read(self) -> Space:
        path, data = self._file.path, self._file.data
        if not isinstance(data, dict):
            raise InputError(f"{path}: expected a mapping with run: and space:, but got {short(data)}")
        self._unknown_sections(data)
        kept = self._kept_weights(data)
        given = kept | self._fixed(data)
        single, listed, listed_places = self._searched()
        parameters, places = left_by(self._overrides, listed, listed_places)
        if any(parameter.name == WEIGHTS for parameter in parameters):
            given = {name: value for name, value in given.items() if name not in kept}
        fixed = without_old_names(given, self._overrides) | self._overrides | single | self._overrides
        search = self._search(parameters, places)
        origin = {name: steps for name, steps in self._origin.items() if name not in self._overrides}
        self._single_runs(fixed, origin)
        fixed |= self._objective(search, fixed)
        possible = ClashFinder(self._file, origin, places).find(fixed, parameters)
        baseline = self._baseline(kept | fixed, values_to_try(parameters)) if possible else None
        forbid = ForbidReader(self._file, Runs(listed, given | single), Runs(parameters, fixed)).read(baseline)
        expected = PriorReader(self._file, listed, self._origin)
        prior = expected.read(parameters, search is not None and search.sampler == "grid")
        if not parameters and not self._file.count():
            whose = "the command line fixes" if self._overrides else "one value is given for"
            self._file.mistake(("space",), f"nothing is searched: {whose} every setting that is listed")
        if self._file.count() or baseline is None or search is None:
            raise self._file.error()
        transforms = self._file.section(AUGMENTATION_FILES) if self._stored else {}
        texts = {str(name): str(text) for name, text in transforms.items()}
        space = Space(path.stem, path, fixed, baseline, parameters, search, forbid, prior, texts)
        expected.check(space)
        if self._file.count():
            raise self._file.error()
        return space

    def _unknown_sections(self, data: Mapping[Any, Any]) -> None:
        known = (*DATA_SETTINGS, *_SECTIONS, *([AUGMENTATION_FILES] if self._stored else []))
        for key in data:
            if key in RunConfig.model_fields and key not in DATA_SETTINGS:
                self._file.mistake((key,), "does not belong at the top; put it under run: to fix it")
            elif key not in known:
                self._file.mistake((key,), f"unknown key {key!r}{nearest(str(key), known)}")

    def _kept_weights(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take `encoder_weights` out of the file that a search wrote, where it says what auto stands for.

        It is no mistake there that a branch of `space:` lists values, too. Former releases wrote none of it: auto did
        not exist, and an encoder started with random weights.
        """
        search = data.get("search")
        # Nobody lists all of these settings by hand.
        if not (self._stored and isinstance(search, dict) and search.keys() >= _ALWAYS_WRITTEN):
            return {}
        kept: dict[str, Any] = {WEIGHTS: "none"}
        run = data.get("run")
        if isinstance(run, dict) and WEIGHTS in run:
            self._file.accept(WEIGHTS, run.pop(WEIGHTS), ("run", WEIGHTS), kept)
        return kept

    def _fixed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[Any, Steps] = {name: (name,) for name in DATA_SETTINGS if name in data}
        for name in self._file.section("run"):
            if name in DATA_SETTINGS:
                self._file.mistake(("run", name), "describes the data, not the run; put it at the top, beside dataset")
            else:
                given[name] = ("run", name)
        fixed: dict[str, Any] = {}
        for name, steps in given.items():
            value = data[name] if len(steps) == 1 else data["run"][name]
            self._origin[str(name)] = steps
            if name == "classes" and isinstance(value, dict):
                self._named_classes(fixed)
            else:
                self._file.accept(str(name), value, steps, fixed)
        return fixed

    def _named_classes(self, into: dict[str, Any]) -> None:
        """Read classes that are given with names, as a mapping."""
        steps, given = ("classes",), self._file.data
        try:
            found = split_classes({name: given[name] for name in ("classes", "class_names") if name in given})
        except InputError as error:
            self._file.mistake(steps, str(error).removeprefix("classes: "))
            self._file.refused.add("classes")
            return
        self._origin["class_names"] = steps
        for name, value in found.items():
            self._file.accept(name, value, steps, into)

    def _single_runs(self, fixed: Mapping[str, Any], origin: Mapping[str, Steps]) -> None:
        for name in SINGLE_RUN:
            if fixed.get(name) and name in origin:
                self._file.mistake(origin[name], for_single_runs(name))
            elif fixed.get(name):
                self._file.mistake_elsewhere(f"{name} {for_single_runs(name)}")

    def _searched(self) -> tuple[dict[str, Any], tuple[Parameter, ...], Places]:
        """Return the content of `space:`: single values at its top, which are fixed; parameters; and their places."""
        section = self._file.section("space")
        if self._file.data.get("space") in (None, {}):
            self._file.mistake(("space",), "nothing is searched: give a setting a list of values, or low and high")
        reader = ParameterReader(self._file, self._origin)
        single: dict[str, Any] = {}
        searched = []
        for parameter in reader.level(section, ("space",), "", ()):
            if isinstance(parameter, Choice) and not isinstance(section[parameter.name], list | dict):
                single[parameter.name] = parameter.values[0]
                self._origin[parameter.name] = ("space", parameter.name)
            else:
                searched.append(parameter)
        return single, tuple(searched), reader.places

    def _search(self, parameters: Sequence[Parameter], places: Places) -> SearchSettings | None:
        given = self._file.section("search")
        if self._stored:
            given = {name: value for name, value in given.items() if name not in _RETIRED}
        try:
            search = SearchSettings.model_validate(given | self._search_overrides)
        except ValidationError as error:
            for found in explain(error, SearchSettings):
                self._search_mistake(found.settings[0], found.message)
            return None
        if search.sampler == "grid":
            for parameter in walk(parameters):
                if reason := not_countable(parameter):
                    self._file.mistake(places[parameter.key][0], reason)
        names = [parameter.name for parameter in parameters if isinstance(parameter, Choice)]
        if search.compare is not None and search.compare not in names:
            hint = nearest_or_all(search.compare, names)
            text = f"{search.compare!r} is not a list of values at the top of space:{hint}"
            self._search_mistake("compare", text)
        for parameter in parameters:
            counts = [(value, sum(count for _, count in groups(branch, ()))) for value, branch in parameter.items()]
            if parameter.name == search.compare and len({count for _, count in counts}) > 1:
                each = ", ".join(f"{value} has {count}" for value, count in counts)
                text = f"needs equally many combinations in the branches of {search.compare}, but {each}"
                self._search_mistake("compare", text)
        return search

    def _objective(self, search: SearchSettings | None, fixed: Mapping[str, Any]) -> dict[str, str]:
        """Return what the search takes as the best as a setting of all of its runs; nothing for mIoU, the default."""
        if search is None or search.objective == MIOU:
            return {}
        classes = fixed.get("classes", RunConfig.model_fields["classes"].default)
        if mistake := Objective.of(search.objective).unknown(classes):
            self._search_mistake("objectives", mistake)
            return {}
        return {"objective": search.objective}

    def _search_mistake(self, name: str, text: str) -> None:
        text = text.removeprefix(f"{name}: ")
        if name in self._search_overrides:
            self._file.mistake_elsewhere(f"{name}: {text}")
        else:
            self._file.mistake(("search", name), text)

    def _baseline(self, fixed: Mapping[str, Any], free: Values) -> RunConfig | None:
        given: dict[str, Any] = {}
        for raw, value in self._file.section("baseline").items():
            if raw in NOT_SEARCHABLE:
                self._file.mistake(("baseline", raw), "is the same in all trials, the baseline included")
            else:
                self._file.accept(str(raw), value, ("baseline", raw), given)
        settings = {**fixed, **given, **self._overrides}
        others = {name: values for name, values in free.items() if name not in settings}
        try:
            return RunConfig.from_settings(compatible(settings, others))
        except SettingsError as clash:
            guilty = [name for name in given if name in clash.settings]
            if guilty and clash.settings.isdisjoint(self._file.refused):
                self._file.mistake(("baseline", guilty[0]), str(clash))
            elif not self._file.count():
                self._file.mistake(("baseline",), str(clash))
        return None
