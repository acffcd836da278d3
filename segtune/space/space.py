"""Space: the fixed settings, the searched settings and the settings of the search."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import CHANGEABLE_IN_SEARCH, DATA_SETTINGS, FILES, NOT_SEARCHABLE, SINGLE_RUN
from segtune.files.transforms_file import TransformsFile
from segtune.roles import acts
from segtune.space.combinations import combinations, groups, matching, side_by_side
from segtune.space.forbid import Forbidden
from segtune.space.parameters import Choice, Parameter, Range, Suggest, not_countable, walk
from segtune.space.prior import Prior
from segtune.space.settings import CHANGEABLE, SearchSettings
from segtune.values import AUTO
from segtune.vocabulary import yaml_text

WEIGHTS = "encoder_weights"

AUGMENTATION_FILES = "augmentation_files"  # the section of search.yaml with their texts


@dataclass(frozen=True)
class Space:
    """A search space that was read and checked. Spaces with the same content are equal, also from different files."""

    name: str = field(compare=False)  # the file's stem
    path: Path = field(compare=False)
    fixed: dict[str, Any]  # settings that were given for all runs
    # The first run: the defaults, replaced by `fixed` and `baseline:`. If a default does not go with these (50 epochs
    # with a warm-up of 60, say), a searched value replaces it.
    baseline: RunConfig
    parameters: tuple[Parameter, ...]
    search: SearchSettings
    forbid: tuple[Forbidden, ...] = ()
    prior: Prior = field(default_factory=Prior)
    # The texts of the files of transforms that `augmentation` names, once they are read; compared on resume.
    transforms: Mapping[str, str] = field(default_factory=dict, compare=False)

    def changes_from(self, other: Space) -> list[str]:
        """Return the differences that keep a search that was started with `other` from being resumed with this space.

        Budget, machine and the location of the data may differ: the fingerprint shows whether it is the same data.
        """
        before, now = other._what_matters(), self._what_matters()
        runs = _differing(before.fixed, now.fixed)
        baseline = _differing(before.baseline.settings(), now.baseline.settings())
        searched = _differing(*({p.key: p for p in walk(space.parameters)} for space in (before, now)))
        rules = _differing(before.search.model_dump(), now.search.model_dump())
        return [
            *(f"run: {name} ({change})" for name, change in runs.items()),
            *(f"baseline: {name} ({change})" for name, change in baseline.items() if name not in runs),
            *(f"space: {name}" for name in searched),
            *(f"search: {name} ({change})" for name, change in rules.items()),
            *(["forbid"] if before.forbid != now.forbid else []),
            *(f"prior: {name}" for name in _differing(before.prior.beliefs, now.prior.beliefs)),
        ]

    def _what_matters(self) -> Space:
        """Return this space without the settings that may change when a search is resumed."""
        search = dict.fromkeys(CHANGEABLE)
        machine = dict.fromkeys((*CHANGEABLE_IN_SEARCH, *SINGLE_RUN))  # a search has settings of its own for the latter
        # Files may be in another folder.
        files = {name: PurePath(getattr(self.baseline, name)).name for name in FILES}
        fixed = {name: value for name, value in self.fixed.items() if name not in machine}
        return replace(
            self,
            fixed=fixed | {name: PurePath(fixed[name]).name for name in FILES if name in fixed},
            baseline=self.baseline.model_copy(update=machine | files),
            search=self.search.model_copy(update=search),
        )

    def with_search(self, changes: Mapping[str, Any]) -> Space:
        """Return this space with other values, already checked, under `search:`."""
        return replace(self, search=self.search.model_copy(update=dict(changes)))

    def with_weights(self, weights: str, first: str | None = None) -> Space:
        """Return this space with `encoder_weights: auto` decided, for runs that draw none and for the first run."""
        searched = any(parameter.name == WEIGHTS for parameter in self.parameters)
        given = self.fixed.get(WEIGHTS, AUTO)
        fixed = self.fixed if searched or given != AUTO else self.fixed | {WEIGHTS: weights}
        decided = {WEIGHTS: first or weights} if self.baseline.encoder_weights == AUTO else {}
        return replace(self, fixed=fixed, baseline=self.baseline.model_copy(update=decided))

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """Return the settings of one run: the fixed ones, and those drawn, with the branches of drawn values."""
        return self.fixed | dict(_draw(self.parameters, suggest))

    def forbidden(self, settings: Mapping[str, Any]) -> str | None:
        """Return the entry of `forbid:` that excludes a run with these settings, as a message; None if there is none.

        A setting that is not given has its default.
        """
        run = defaults() | dict(settings)
        entry = next((entry for entry in self.forbid if entry.matches(run)), None)
        return f"forbid: {entry}" if entry else None

    def locate(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return {key: value} of the parameters that this run draws; None if it is outside the space.

        A run is also outside if it differs in a setting that is not searched but could be; a difference in one of
        NOT_SEARCHABLE, such as the device, does not count. A setting that is not given has its default.
        """
        run = defaults() | dict(settings)
        taken = _locate(self.parameters, run)
        if taken is None:
            return None
        drawn = {parameter.name for parameter, _ in taken}
        for name, value in (defaults() | self.fixed).items():
            if name not in drawn | NOT_SEARCHABLE and run[name] != value:
                return None
        return {parameter.key: value for parameter, value in taken}

    def prior_point(self) -> dict[str, Any] | None:
        """Return the point {key: value} that `prior:` expects to be good; None if nothing is expected."""
        return self.prior.point(self.parameters, self.baseline.settings()) if self.prior.beliefs else None

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every combination that is not forbidden as {key: value}.

        `search.compare` varies fastest, side by side with its branches; then the last parameter. Raises InputError for
        a range without a step.
        """
        for parameter in walk(self.parameters):
            if mistake := not_countable(parameter):
                raise InputError(f"{self.path}: {mistake}")
        points = combinations(tuple(parameter for parameter in self.parameters if parameter != self._compared))
        if compared := self._compared:
            points = (point | own for point in points for own in side_by_side(compared))
        return (point for point in points if not self.forbidden(self.settings_at(point)))

    @property
    def _compared(self) -> Choice | None:
        """The parameter that `search.compare` names."""
        choices = (parameter for parameter in self.parameters if isinstance(parameter, Choice))
        return next((choice for choice in choices if choice.name == self.search.compare), None)

    def configuration(self, drawn: Mapping[str, Any]) -> str | None:
        """Return the configuration of a run, given the settings that it drew; None if it is not one of the comparison.

        Runs with the same configuration differ in `search.compare` alone, and in the settings of its branches: the
        first combination of a branch is compared with the first one of each other branch.
        """
        if (compared := self._compared) is None:
            return None
        inner = {parameter.name for _, branch in compared.items() for parameter in walk(branch)}
        others = {name: value for name, value in drawn.items() if name not in {compared.name, *inner}}
        for value, branch in compared.items():
            if value == drawn[compared.name] and (number := matching(branch, drawn)) is not None:
                return repr((others, number))
        return None

    def points(self) -> Iterator[dict[str, Any]] | None:
        """Return all combinations as {key: value}, forbidden ones too; None if a range is continuous."""
        if any(isinstance(parameter, Range) and parameter.numbers() is None for parameter in walk(self.parameters)):
            return None
        return combinations(self.parameters)

    def settings_at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the run at a point {key: value}: the fixed ones and those of the point."""
        return self.fixed | {
            key.rpartition(".")[2]: value for key, value in point.items()
        }  # no setting has a dot in its name

    def size(self) -> int | None:
        """Return the number of combinations that are not forbidden; None if there is a range without a step.

        Combinations are counted in groups and not one by one, so that millions take no time.
        """
        if any(not_countable(parameter) for parameter in walk(self.parameters)):
            return None
        found = groups(self.parameters, self.forbid)
        return sum(count for drawn, count in found if not self.forbidden(self.fixed | drawn))

    def trials(self) -> int:
        """Return the number of trials of a whole search: `search.trials`, or less if the grid is smaller."""
        if self.search.sampler != "grid":
            return self.search.trials
        outside = self.locate(self.baseline.settings()) is None
        return min(self.search.trials, (self.size() or 0) + outside)

    def searched(self) -> tuple[str, ...]:
        """Return the names of the searched settings, with those in branches, each once."""
        return tuple(dict.fromkeys(parameter.name for parameter in walk(self.parameters)))

    def searched_in(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the searched settings of a run, whether it lies in the space or not.

        Settings of branches are left out where they have no effect in the run, such as momentum beside adamw.
        """
        always = {parameter.name for parameter in self.parameters}
        needed = {name: item for name, item in acts(RunConfig).items() if name not in always}
        return {
            name: settings[name]
            for name in self.searched()
            if name not in needed or needed[name].at(settings[needed[name].name])
        }

    def values_of(self, name: str) -> tuple[Any, ...]:
        """Return all values that a setting has in this space; only the bounds of a range without a step."""
        runs = [drawn for drawn, _ in groups(self.parameters, (), [name])]
        values = [drawn[name] for drawn in runs if name in drawn]
        if len(values) < len(runs):
            values.append((defaults() | self.fixed)[name])
        return _unique(values)

    def combinations(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the combinations of values that these settings have in runs of this space and in the baseline.

        A range without a step has its two bounds. A combination is left out if all runs that have it are forbidden.
        """
        runs = [defaults() | self.fixed | drawn for drawn, _ in groups(self.parameters, self.forbid, names)]
        possible = [run for run in runs if not self.forbidden(run)]
        return list(_unique(tuple(run[name] for name in names) for run in [*possible, self.baseline.settings()]))

    def encoders(self) -> list[str]:
        """Return the encoders of the runs of this space."""
        return [encoder for (encoder,) in self.combinations("encoder")]

    def channels(self) -> list[str]:
        """Return the extra channels that runs of this space read."""
        return list(dict.fromkeys(name for (names,) in self.combinations("channels") for name in names))

    def transforms_of(self, setting: str) -> TransformsFile | None:
        """Return the file of transforms that a trial's `augmentation` names; None if it was not read."""
        name = PurePath(setting).name
        found = (text for path, text in self.transforms.items() if PurePath(path).name == name)
        text = next(found, None)
        return None if text is None else TransformsFile(setting, text)

    def dump(self) -> dict[str, Any]:
        """Return plain data: `load_space` reads the same space from it if it is written as YAML in this order."""
        expected = defaults() | self.fixed
        baseline = {k: value for k, value in self.baseline.settings().items() if value != expected[k]}
        return {
            **{name: self.fixed[name] for name in DATA_SETTINGS if name in self.fixed},
            "run": {name: v for name, v in self.fixed.items() if name not in (*DATA_SETTINGS, *SINGLE_RUN)},
            "space": _dump(self.parameters),
            **({AUGMENTATION_FILES: dict(self.transforms)} if self.transforms else {}),
            **({"forbid": [entry.plain() for entry in self.forbid]} if self.forbid else {}),
            "baseline": baseline,
            **({"prior": self.prior.plain()} if self.prior.beliefs else {}),
            "search": {
                name: value
                for name, value in self.search.model_dump(mode="json").items()
                # null switches some settings off that are on by default.
                if value is not None or SearchSettings.model_fields[name].default is not None
            },
        }


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the names whose values differ, each with its change: ``4 -> null``."""
    pairs = ((name, before.get(name), now.get(name)) for name in dict.fromkeys((*before, *now)))
    return {name: f"{yaml_text(old)} -> {yaml_text(new)}" for name, old, new in pairs if old != new}


def _draw(parameters: Iterable[Parameter], suggest: Suggest) -> Iterator[tuple[str, Any]]:
    for parameter in parameters:
        if isinstance(parameter, Range):
            yield parameter.name, suggest.number(parameter)
        else:
            index = suggest.choice(parameter)
            yield parameter.name, parameter.values[index]
            yield from _draw(parameter.branches[index], suggest)


def _locate(parameters: Iterable[Parameter], run: Mapping[str, Any]) -> list[tuple[Parameter, Any]] | None:
    taken: list[tuple[Parameter, Any]] = []
    for parameter in parameters:
        value = run[parameter.name]
        if value not in (parameter if isinstance(parameter, Range) else parameter.values):
            return None
        taken.append((parameter, value))
        for other, branch in parameter.items():
            if other == value:
                inner = _locate(branch, run)
                if inner is None:
                    return None
                taken += inner
    return taken


def _dump(parameters: Iterable[Parameter]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for parameter in parameters:
        if isinstance(parameter, Range):
            plain[parameter.name] = {"low": parameter.low, "high": parameter.high}
            if parameter.log:
                plain[parameter.name]["log"] = True
            if parameter.step is not None:
                plain[parameter.name]["step"] = parameter.step
        elif any(parameter.branches):
            plain[parameter.name] = {value: _dump(branch) for value, branch in parameter.items()}
        else:
            plain[parameter.name] = list(parameter.values)
    return plain


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({repr(value): value for value in values}.values())  # repr: lists cannot be keys


@functools.cache
def defaults() -> dict[str, Any]:
    """Return the default of every setting of a run."""
    return RunConfig.from_settings({}).settings()
