"""What a search space is: parameters, some of them under a condition, beside what is fixed.

A space draws from whatever implements `Suggest`; it knows no Optuna and no Ray. `segtune.space.reader` reads it from
a file.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from segtune.config import DATA_SETTINGS, NOT_SEARCHABLE, RunConfig
from segtune.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One of several values; each may bring settings of its own."""

    name: str  # the setting of RunConfig
    key: str  # its unique name in the space: "encoder", or "optimizer.sgd.momentum" inside a branch
    values: tuple[Any, ...]
    branches: tuple[tuple[Parameter, ...], ...]  # one per value, mostly empty

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values that stand for all of them when combinations are tried: here simply all."""
        return self.values

    def items(self) -> Iterator[tuple[Any, tuple[Parameter, ...]]]:
        """Each value with the parameters that it brings."""
        return zip(self.values, self.branches, strict=True)


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both included."""

    name: str
    key: str
    low: float | int
    high: float | int
    log: bool
    step: float | int | None
    integer: bool

    @property
    def extremes(self) -> tuple[float | int, float | int]:
        """The two bounds."""
        return self.low, self.high

    def items(self) -> Iterator[tuple[Any, tuple[Parameter, ...]]]:
        """Nothing: no number brings parameters of its own."""
        return iter(())

    def steps(self) -> tuple[float | int, ...] | None:
        """The numbers from low to high where `step` makes them countable, or where they are one; else None."""
        if self.low == self.high:
            return (self.low,)
        if self.step is None:
            return None
        # In decimals, as they were written: 0.1 + 2 * 0.1 is 0.3 and the last one is `high` itself.
        low, high, step = (Decimal(repr(number)) for number in (self.low, self.high, self.step))
        kind = int if self.integer else float
        return tuple(kind(low + i * step) for i in range(int((high - low) / step) + 1))

    def numbers(self) -> Sequence[float | int] | None:
        """All numbers that are drawn from it, None where there is no end of them."""
        if self.integer and self.step is None:
            return range(int(self.low), int(self.high) + 1)
        return self.steps()

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.integer else (int, float)):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8


Parameter = Choice | Range


class Suggest(Protocol):
    """What draws values."""

    def choice(self, parameter: Choice) -> int:
        """The index into the choice's values."""

    def number(self, parameter: Range) -> float | int:
        """A number inside the range."""


class RandomSuggest:
    """Draws evenly: among values and steps, between bounds, and between the logarithms of a log range's bounds."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def choice(self, parameter: Choice) -> int:
        """The index into the choice's values."""
        return self._random.randrange(len(parameter.values))

    def number(self, parameter: Range) -> float | int:
        """A number inside the range, an int where the setting is one."""
        if steps := parameter.steps():
            return self._random.choice(steps)
        # A whole number stands for what is rounded to it, so that the bounds are drawn as often as their neighbours.
        margin = 0.5 if parameter.integer else 0.0
        low, high = parameter.low - margin, parameter.high + margin
        if parameter.log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            drawn = self._random.uniform(low, high)
        return min(max(round(drawn) if parameter.integer else drawn, parameter.low), parameter.high)


@dataclass(frozen=True)
class Forbidden:
    """Values that exclude each other: a run that has, of every setting named, one of the values is not tried."""

    values: Mapping[str, tuple[Any, ...]]  # by setting; a text may hold the wildcards of fnmatch

    def meets(self, name: str, value: Any) -> bool:
        """Whether a value of a setting is among those that are named."""
        return any(_same(value, other) for other in self.values[name])

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run with these settings is forbidden."""
        return all(self.meets(name, settings[name]) for name in self.values)

    def plain(self) -> dict[str, Any]:
        """As YAML values: a single one without its list."""
        return {name: list(values) if len(values) > 1 else values[0] for name, values in self.values.items()}

    def __str__(self) -> str:
        return f"{{{', '.join(f'{name}: {_flow(value)}' for name, value in self.plain().items())}}}"


def is_wildcard(value: object) -> bool:
    """Whether a text stands for several values."""
    return isinstance(value, str) and not set(value).isdisjoint("*?[")


def _same(value: Any, named: Any) -> bool:
    if isinstance(value, float) and isinstance(named, float):
        return math.isclose(value, named, rel_tol=1e-9)  # a sampler adds up its steps
    return value == named or (isinstance(value, str) and is_wildcard(named) and fnmatchcase(value, named))


def _flow(value: Any) -> str:
    return f"[{', '.join(map(_flow, value))}]" if isinstance(value, list) else "null" if value is None else str(value)


def _gpu_share(value: float) -> float:
    if not math.isfinite(value) or (value > 1 and value != int(value)):
        raise ValueError(f"must be a share of one GPU or a whole number of them, but got {value}")
    return value


_NUMBER = re.compile(r"\d+(\.\d+)?")
_DURATION = re.compile(r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?")


def _seconds(value: object) -> object:
    """Seconds in a duration such as 8h, 1h30m or 45s; a plain number is seconds already."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):  # on a command line all is text
        return float(value)
    if not isinstance(value, str):
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _DURATION.fullmatch(value.replace(" ", ""))
    if not value or not found or not any(found.groupdict().values()):
        raise ValueError(f"must be a duration such as 8h, 1h30m or 45s, or a number of seconds, but got {value!r}")
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return float(sum(float(number) * units[unit] for unit, number in found.groupdict().items() if number))


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, allow_inf_nan=False),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": r"^(\d+(\.\d+)?|(\d+d)?(\d+h)?(\d+m)?(\d+s)?)$"}, {"type": "number"}]}
    ),
]


class SearchSettings(BaseModel):
    """How to search: the `search:` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    trials: int = Field(20, ge=1, description="number of trials in total, the baseline included")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="how values are drawn: tpe learns from finished trials, grid tries every combination",
    )
    scheduler: Literal["asha", "none"] = Field(
        "asha", description="asha stops poor trials early; none trains every trial to the end"
    )
    grace_period: int | None = Field(
        None, ge=1, description="epochs that every trial gets; left out: derived from the number of epochs"
    )
    reduction_factor: int = Field(3, ge=2, description="of the trials at a rung, asha keeps one in so many")
    teach: Literal["complete", "pruned", "top_rung"] = Field(
        "complete",
        description="how trials that were stopped early teach tpe: as complete with their last value, as pruned (worse "
        "than any finished one), or by the highest rung that enough trials reached (top_rung)",
    )
    compare: str | None = Field(
        None,
        description="a searched setting whose values all get the same configurations (grid, no scheduler)",
    )
    gpus_per_trial: Annotated[float, AfterValidator(_gpu_share)] | None = Field(
        None, ge=0, description="GPUs per trial, such as 0.5; 0 trains on the CPU; left out: planned"
    )
    cpus_per_trial: int | None = Field(None, ge=1, description="CPU cores per trial; left out: planned")
    max_concurrent: int | None = Field(None, ge=1, description="most trials at a time; left out: what fits")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the sampler; a run's own seed is a setting of run")
    keep: int = Field(3, ge=1, description="weights of this many best trials stay on disk")
    disk_gb: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="most gigabytes of the search's folder: weights but the winner's go first, then the search stops",
    )
    time_budget: Duration | None = Field(
        None,
        description="time of all starts together, such as 8h (a plain number is seconds), after which the search ends; "
        "unfinished trials wait",
    )
    patience: int | None = Field(
        None, ge=1, description="end the search when so many trials in a row brought no improvement"
    )
    max_trial_time: Duration | None = Field(
        None, description="training time, such as 2h, after which a trial is stopped at the end of its epoch"
    )
    collapse_epochs: int | None = Field(
        10, ge=1, description="stop a trial that predicted one class everywhere for so many epochs in a row"
    )
    hang_time: Duration = Field(
        600.0, description="a trial that shows no sign of life for so long is killed, and repeated"
    )
    retries: int = Field(
        1,
        ge=0,
        description="times that a trial is repeated after a fault not of its settings, such as a lost worker",
    )

    @model_validator(mode="after")
    def _comparable(self) -> SearchSettings:
        if self.compare is not None and (self.sampler, self.scheduler) != ("grid", "none"):
            raise ValueError(
                f"compare needs sampler grid and scheduler none, but got "
                f"(sampler={self.sampler}, scheduler={self.scheduler})"
            )
        return self


# What may change when a search goes on: how much is spent on it, and of what. The first ones stay as they were where
# the command line does not say otherwise: it is what set them, as a rule, and not the file.
KEPT = ("trials", "time_budget", "patience", "disk_gb", "gpus_per_trial", "cpus_per_trial", "max_concurrent")
_CHANGEABLE = (*KEPT, "keep", "retries", "hang_time")


@dataclass(frozen=True)
class Space:
    """A search space that was read and checked. Two that search the same are equal, whatever their file."""

    name: str = field(compare=False)  # the file's stem
    path: Path = field(compare=False)
    fixed: dict[str, Any]  # what was given for every run: nothing that is searched
    # The first run: the defaults, `fixed` and `baseline:`. A searched value stands in for a default that
    # cannot go with these, as 50 epochs cannot with a warm-up of 60.
    baseline: RunConfig
    parameters: tuple[Parameter, ...]
    search: SearchSettings
    forbid: tuple[Forbidden, ...] = ()

    def changes_from(self, other: Space) -> list[str]:
        """What keeps a search that was started with the other from going on with this one; nothing where it can.

        Budget, machine, and where on it the data lies may differ; that it is the same data is seen by its fingerprint.
        """
        before, now = other._what_matters(), self._what_matters()
        runs = _differing(before.fixed, now.fixed)
        baseline = _differing(before.baseline.settings(), now.baseline.settings())
        searched = _differing(*({p.key: p for p in walk(space.parameters)} for space in (before, now)))
        rules = _differing(before.search.model_dump(), now.search.model_dump())
        return [
            *(f"run: {name} ({old} -> {new})" for name, (old, new) in runs.items()),
            *(f"baseline: {name} ({old} -> {new})" for name, (old, new) in baseline.items() if name not in runs),
            *(f"space: {name}" for name in searched),
            *(f"search: {name} ({old} -> {new})" for name, (old, new) in rules.items()),
            *(["forbid"] if before.forbid != now.forbid else []),
        ]

    def _what_matters(self) -> Space:
        """The same without what results do not depend on."""
        search = dict.fromkeys(_CHANGEABLE)
        machine = dict.fromkeys(("dataset", "val_dir", "add_val_dirs", "cache_dir", "cache_gb", "workers", "threads"))
        machine["device"] = None
        weights = {"encoder_weights": PurePath(self.baseline.encoder_weights).name}  # a file may lie elsewhere
        fixed = {name: value for name, value in self.fixed.items() if name not in machine}
        return replace(
            self,
            fixed=fixed | (weights if "encoder_weights" in fixed else {}),
            baseline=self.baseline.model_copy(update=machine | weights),
            search=self.search.model_copy(update=search),
        )

    def with_search(self, changes: Mapping[str, Any]) -> Space:
        """The same with other values of `search:`, which were checked."""
        return replace(self, search=self.search.model_copy(update=dict(changes)))

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """The settings of one run: the fixed ones and those drawn along the branches taken."""
        return self.fixed | dict(_draw(self.parameters, suggest))

    def forbidden(self, settings: Mapping[str, Any]) -> str | None:
        """Why a run with these settings is not tried: the entry of `forbid:` that excludes it; None where none does.

        A setting that is not given has its default.
        """
        run = _defaults() | dict(settings)
        entry = next((entry for entry in self.forbid if entry.matches(run)), None)
        return f"forbid: {entry}" if entry else None

    def locate(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """{key: value} of the parameters that this run takes, or None when it lies outside the space.

        Outside is also a run that differs in a setting which is not searched, unless that is one of
        NOT_SEARCHABLE, such as its device. A setting that is not given has its default.
        """
        run = _defaults() | dict(settings)
        taken = _locate(self.parameters, run)
        if taken is None:
            return None
        drawn = {parameter.name for parameter, _ in taken}
        for name, value in (_defaults() | self.fixed).items():
            if name not in drawn | NOT_SEARCHABLE and run[name] != value:
                return None
        return {parameter.key: value for parameter, value in taken}

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination that is not forbidden as {key: value}.

        `search.compare` varies fastest, then the last parameter.
        """
        for parameter in walk(self.parameters):
            if mistake := not_countable(parameter):
                raise InputError(f"{self.path}: {mistake}")
        # sorted() is stable: all others stay in the order of the file.
        points = _combinations(tuple(sorted(self.parameters, key=lambda p: p.name == self.search.compare)))
        return (point for point in points if not self.forbidden(self.settings_at(point)))

    def points(self) -> Iterator[dict[str, Any]] | None:
        """Every combination as {key: value}, also what is forbidden; None where a range brings no end of them."""
        if any(isinstance(parameter, Range) and parameter.numbers() is None for parameter in walk(self.parameters)):
            return None
        return _combinations(self.parameters)

    def settings_at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the run at a point, {key: value}: the fixed ones and the point's own."""
        return self.fixed | {key.rpartition(".")[2]: value for key, value in point.items()}  # no setting has a dot

    def size(self) -> int | None:
        """The number of combinations that are not forbidden, or None when a range without a step is among them.

        Counted without listing them, however many there are.
        """
        if any(not_countable(parameter) for parameter in walk(self.parameters)):
            return None
        kinds = _tally(self.parameters, self.forbid)
        return sum(count for kind, count in kinds.items() if not self._excluded(kind))

    def trials(self) -> int:
        """Trials that a search of the space ends with: those asked for, or all that a grid has, and the baseline."""
        if self.search.sampler != "grid":
            return self.search.trials
        outside = self.locate(self.baseline.settings()) is None
        return min(self.search.trials, (self.size() or 0) + outside)

    def searched(self) -> tuple[str, ...]:
        """The settings that are searched, those of branches included, each once."""
        return tuple(dict.fromkeys(parameter.name for parameter in walk(self.parameters)))

    def values_of(self, name: str) -> tuple[Any, ...]:
        """Every value that a setting takes in this space; of a range without a step its two bounds."""
        values, always = _values(self.parameters, name)
        if not always:
            values.append((_defaults() | self.fixed)[name])
        return _unique(values)

    def combinations(self, *names: str) -> list[tuple[Any, ...]]:
        """The combinations of values that these settings take in runs of this space, the baseline among them.

        Of a range without a step, the two bounds. What is forbidden, whatever other settings are, is left out.
        """
        parts = _projected(self.parameters, names, self.forbid)
        drawn = [_defaults() | self.fixed | part for part, kind in parts if not self._excluded(kind)]
        return list(_unique(tuple(run[name] for name in names) for run in [*drawn, self.baseline.settings()]))

    def channels(self) -> list[str]:
        """The extra channels that any run of this space has."""
        return list(dict.fromkeys(name for (names,) in self.combinations("channels") for name in names))

    def _excluded(self, kind: _Kind) -> bool:
        """Whether runs of a kind are forbidden."""
        return any(_holds(position, kind, self.forbid, self.fixed) for position in range(len(self.forbid)))

    def dump(self) -> dict[str, Any]:
        """Plain data that, written as YAML in this order, `load_space` reads as an equal space."""
        expected = _defaults() | self.fixed
        baseline = {k: value for k, value in self.baseline.settings().items() if value != expected[k]}
        return {
            **{name: self.fixed[name] for name in DATA_SETTINGS if name in self.fixed},
            "run": {name: value for name, value in self.fixed.items() if name not in DATA_SETTINGS},
            "space": _dump(self.parameters),
            **({"forbid": [entry.plain() for entry in self.forbid]} if self.forbid else {}),
            "baseline": baseline,
            "search": {
                name: value
                for name, value in self.search.model_dump(mode="json").items()
                # What is switched off by leaving it empty must be written down as empty.
                if value is not None or SearchSettings.model_fields[name].default is not None
            },
        }


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys((*before, *now))
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def walk(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """All parameters, each before those of its branches."""
    for parameter in parameters:
        yield parameter
        for _, branch in parameter.items():
            yield from walk(branch)


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


def _options(parameter: Parameter) -> Iterator[dict[str, Any]]:
    if isinstance(parameter, Range):
        yield from ({parameter.key: value} for value in parameter.numbers() or ())
    for value, branch in parameter.items():
        yield from ({parameter.key: value} | inner for inner in _combinations(branch))


def _combinations(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    if not parameters:
        yield {}
        return
    for head in _options(parameters[0]):
        yield from (head | tail for tail in _combinations(parameters[1:]))


# What can be said of a combination that matters to `forbid:`: for each setting named there that was drawn, the
# positions of the entries of which the value meets the part about this setting. There are few kinds, and many
# combinations of each.
_Kind = frozenset[tuple[str, frozenset[int]]]


def _kind(name: str, value: Any, forbid: Sequence[Forbidden]) -> _Kind:
    about = [position for position, entry in enumerate(forbid) if name in entry.values]
    met = frozenset(position for position in about if forbid[position].meets(name, value))
    return frozenset({(name, met)} if about else ())


def _tally(parameters: Iterable[Parameter], forbid: Sequence[Forbidden]) -> Counter[_Kind]:
    """How many combinations there are of each kind; a range without a step has a value for each that is named."""
    total: Counter[_Kind] = Counter({frozenset(): 1})
    for parameter in parameters:
        options: Counter[_Kind] = Counter()
        if isinstance(parameter, Range):
            options.update(_kind(parameter.name, value, forbid) for value in _samples(parameter, forbid))
        for value, branch in parameter.items():
            here = _kind(parameter.name, value, forbid)
            for kind, count in _tally(branch, forbid).items():
                options[here | kind] += count
        before, total = total, Counter()
        for kind, count in before.items():
            for other, times in options.items():
                total[kind | other] += count * times
    return total


def _samples(parameter: Range, forbid: Sequence[Forbidden]) -> Sequence[Any]:
    """Values of a range among which there is one of each kind."""
    if (steps := parameter.steps()) is not None:
        return steps
    named = [value for entry in forbid for value in entry.values.get(parameter.name, ())]
    # Of a continuous range no draw is exactly the number that an entry names.
    inside = [value for value in _unique(named) if parameter.integer and value in parameter]
    others = not parameter.integer or parameter.high - parameter.low + 1 > len(inside)
    return [*inside, None] if others else inside  # None, which nothing names, stands for all the others


def _holds(position: int, kind: _Kind, forbid: Sequence[Forbidden], fixed: Mapping[str, Any]) -> bool:
    """Whether an entry forbids the combinations of a kind; what they do not draw is fixed, or has its default."""
    entry, drawn = forbid[position], dict(kind)
    rest = _defaults() | dict(fixed)
    return all(position in drawn[n] if n in drawn else entry.meets(n, rest[n]) for n in entry.values)


def share_forbidden(
    parameters: Iterable[Parameter], fixed: Mapping[str, Any], forbid: Sequence[Forbidden]
) -> tuple[bool, bool]:
    """Whether entries forbid any of the runs that can be drawn, and whether they forbid all of them."""
    kinds = _tally(parameters, forbid)
    found = [any(_holds(position, kind, forbid, fixed) for position in range(len(forbid))) for kind in kinds]
    return any(found), all(found)


def not_countable(parameter: Parameter) -> str | None:
    """Why a grid cannot list the values of a parameter, or None when it can."""
    if isinstance(parameter, Choice) or parameter.steps() is not None:
        return None
    return f"sampler grid needs lists: {parameter.name} is a range without a step"


def _values(parameters: Iterable[Parameter], name: str) -> tuple[list[Any], bool]:
    """The values of a setting in these parameters, and whether every draw from them has one."""
    values: list[Any] = []
    always = False
    for parameter in parameters:
        if parameter.name == name:
            steps = parameter.steps() if isinstance(parameter, Range) else None
            return list(steps or parameter.extremes), True
        inner = [_values(branch, name) for _, branch in parameter.items()]
        values += (value for found, _ in inner for value in found)
        always = always or (bool(inner) and all(every for _, every in inner))
    return values, always


def _projected(
    parameters: Iterable[Parameter], names: Sequence[str], forbid: Sequence[Forbidden]
) -> list[tuple[dict[str, Any], _Kind]]:
    """What draws look like, with their kind, when only the named settings are looked at; each once."""
    found: list[tuple[dict[str, Any], _Kind]] = [({}, frozenset())]
    for parameter in parameters:
        shown = parameter.name in names
        options: list[tuple[dict[str, Any], _Kind]] = []
        if isinstance(parameter, Range):
            values = (parameter.steps() or parameter.extremes) if shown else _samples(parameter, forbid)
            options = [({parameter.name: value}, _kind(parameter.name, value, forbid)) for value in values]
        for value, branch in parameter.items():
            here = _kind(parameter.name, value, forbid)
            inner = _projected(branch, names, forbid)
            options += [({parameter.name: value} | part, here | kind) for part, kind in inner]
        kept: dict[tuple[str, _Kind], tuple[dict[str, Any], _Kind]] = {}
        for part, kind in options:
            part = {name: value for name, value in part.items() if name in names}
            kept.setdefault((repr(part), kind), (part, kind))
        found = [(head | tail, kind | other) for head, kind in found for tail, other in kept.values()]
    return found


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({repr(value): value for value in values}.values())  # lists among the values have no hash


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


@functools.cache
def _defaults() -> dict[str, Any]:
    return RunConfig.from_settings({}).settings()
