"""What a search space is: parameters, some of them under a condition, beside what is fixed.

A space draws from whatever implements `Suggest`; it knows no Optuna and no Ray. `segtune.space` reads it from
a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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
        """The numbers from low to high where `step` makes them countable, else None."""
        if self.step is None:
            return None
        # In decimals, as they were written: 0.1 + 2 * 0.1 is 0.3 and the last one is `high` itself.
        low, high, step = (Decimal(repr(number)) for number in (self.low, self.high, self.step))
        kind = int if self.integer else float
        return tuple(kind(low + i * step) for i in range(int((high - low) / step) + 1))

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


def _gpu_share(value: float) -> float:
    if not math.isfinite(value) or (value > 1 and value != int(value)):
        raise ValueError(f"must be a share of one GPU or a whole number of them, but got {value}")
    return value


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

    @model_validator(mode="after")
    def _comparable(self) -> SearchSettings:
        if self.compare is not None and (self.sampler, self.scheduler) != ("grid", "none"):
            raise ValueError(
                f"compare needs sampler grid and scheduler none, but got "
                f"(sampler={self.sampler}, scheduler={self.scheduler})"
            )
        return self


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

    def same_search(self, other: Space) -> bool:
        """Whether one goes on with the other: all is equal but the budget and the share of the machine."""
        free = dict.fromkeys(("trials", "keep", "gpus_per_trial", "cpus_per_trial", "max_concurrent"))
        mine, others = (replace(space, search=space.search.model_copy(update=free)) for space in (self, other))
        return mine == others

    def with_trials(self, trials: int) -> Space:
        """The same with another number of trials."""
        return replace(self, search=self.search.model_copy(update={"trials": trials}))

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """The settings of one run: the fixed ones and those drawn along the branches taken."""
        return self.fixed | dict(_draw(self.parameters, suggest))

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
        """Every combination as {key: value}; `search.compare` varies fastest, then the last parameter."""
        for parameter in walk(self.parameters):
            if mistake := not_countable(parameter):
                raise InputError(f"{self.path}: {mistake}")
        # sorted() is stable: all others stay in the order of the file.
        return _combinations(tuple(sorted(self.parameters, key=lambda p: p.name == self.search.compare)))

    def size(self) -> int | None:
        """The number of combinations, or None when a range without a step is among them."""
        if any(not_countable(parameter) for parameter in walk(self.parameters)):
            return None
        return _count(self.parameters)

    def searched(self) -> tuple[str, ...]:
        """The settings that are searched, those of branches included, each once."""
        return tuple(dict.fromkeys(parameter.name for parameter in walk(self.parameters)))

    def values_of(self, name: str) -> tuple[Any, ...]:
        """Every value that a setting takes in this space; of a range without a step its two bounds."""
        values, always = _values(self.parameters, name)
        if not always:
            values.append((_defaults() | self.fixed)[name])
        return _unique(values)

    def dump(self) -> dict[str, Any]:
        """Plain data that, written as YAML in this order, `load_space` reads as an equal space."""
        expected = _defaults() | self.fixed
        baseline = {k: value for k, value in self.baseline.settings().items() if value != expected[k]}
        return {
            **{name: self.fixed[name] for name in DATA_SETTINGS if name in self.fixed},
            "run": {name: value for name, value in self.fixed.items() if name not in DATA_SETTINGS},
            "space": _dump(self.parameters),
            "baseline": baseline,
            "search": self.search.model_dump(mode="json", exclude_none=True),
        }


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
        yield from ({parameter.key: value} for value in parameter.steps() or ())
    for value, branch in parameter.items():
        yield from ({parameter.key: value} | inner for inner in _combinations(branch))


def _combinations(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    if not parameters:
        yield {}
        return
    for head in _options(parameters[0]):
        yield from (head | tail for tail in _combinations(parameters[1:]))


def _count(parameters: Iterable[Parameter]) -> int:
    return math.prod(
        len(parameter.steps() or ())
        if isinstance(parameter, Range)
        else sum(_count(branch) for branch in parameter.branches)
        for parameter in parameters
    )


def not_countable(parameter: Parameter) -> str | None:
    """Why a grid cannot list the values of a parameter, or None when it can."""
    if isinstance(parameter, Choice) or parameter.step is not None:
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


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    found: list[Any] = []  # lists among the values have no hash
    for value in values:
        if value not in found:
            found.append(value)
    return tuple(found)


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


def _defaults() -> dict[str, Any]:
    return RunConfig.from_settings({}).settings()
