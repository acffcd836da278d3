"""What can be drawn from parameters: all combinations of their values, and what `forbid:` leaves of them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from segtune.config import RunConfig
from segtune.space.forbid import Forbidden
from segtune.space.parameters import Parameter, Range


def _options(parameter: Parameter) -> Iterator[dict[str, Any]]:
    if isinstance(parameter, Range):
        yield from ({parameter.key: value} for value in parameter.numbers() or ())
    for value, branch in parameter.items():
        yield from ({parameter.key: value} | inner for inner in combinations(branch))


def combinations(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    if not parameters:
        yield {}
        return
    for head in _options(parameters[0]):
        yield from (head | tail for tail in combinations(parameters[1:]))


# What can be said of a combination that matters to `forbid:`: for each setting named there that was drawn, the
# positions of the entries of which the value meets the part about this setting. There are few kinds, and many
# combinations of each.
Kind = frozenset[tuple[str, frozenset[int]]]


def _kind(name: str, value: Any, forbid: Sequence[Forbidden]) -> Kind:
    about = [position for position, entry in enumerate(forbid) if name in entry.values]
    met = frozenset(position for position in about if forbid[position].meets(name, value))
    return frozenset({(name, met)} if about else ())


def tally(parameters: Iterable[Parameter], forbid: Sequence[Forbidden]) -> Counter[Kind]:
    """How many combinations there are of each kind; a range without a step has a value for each that is named."""
    total: Counter[Kind] = Counter({frozenset(): 1})
    for parameter in parameters:
        options: Counter[Kind] = Counter()
        if isinstance(parameter, Range):
            options.update(_kind(parameter.name, value, forbid) for value in _samples(parameter, forbid))
        for value, branch in parameter.items():
            here = _kind(parameter.name, value, forbid)
            for kind, count in tally(branch, forbid).items():
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
    inside = [value for value in unique(named) if parameter.integer and value in parameter]
    others = not parameter.integer or parameter.high - parameter.low + 1 > len(inside)
    return [*inside, None] if others else inside  # None, which nothing names, stands for all the others


def holds(position: int, kind: Kind, forbid: Sequence[Forbidden], fixed: Mapping[str, Any]) -> bool:
    """Whether an entry forbids the combinations of a kind; what they do not draw is fixed, or has its default."""
    entry, drawn = forbid[position], dict(kind)
    rest = defaults() | dict(fixed)
    return all(position in drawn[n] if n in drawn else entry.meets(n, rest[n]) for n in entry.values)


def share_forbidden(
    parameters: Iterable[Parameter], fixed: Mapping[str, Any], forbid: Sequence[Forbidden]
) -> tuple[bool, bool]:
    """Whether entries forbid any of the runs that can be drawn, and whether they forbid all of them."""
    kinds = tally(parameters, forbid)
    found = [any(holds(position, kind, forbid, fixed) for position in range(len(forbid))) for kind in kinds]
    return any(found), all(found)


def values_in(parameters: Iterable[Parameter], name: str) -> tuple[list[Any], bool]:
    """The values of a setting in these parameters, and whether every draw from them has one."""
    values: list[Any] = []
    always = False
    for parameter in parameters:
        if parameter.name == name:
            steps = parameter.steps() if isinstance(parameter, Range) else None
            return list(steps or parameter.extremes), True
        inner = [values_in(branch, name) for _, branch in parameter.items()]
        values += (value for found, _ in inner for value in found)
        always = always or (bool(inner) and all(every for _, every in inner))
    return values, always


def projected(
    parameters: Iterable[Parameter], names: Sequence[str], forbid: Sequence[Forbidden]
) -> list[tuple[dict[str, Any], Kind]]:
    """What draws look like, with their kind, when only the named settings are looked at; each once."""
    found: list[tuple[dict[str, Any], Kind]] = [({}, frozenset())]
    for parameter in parameters:
        shown = parameter.name in names
        options: list[tuple[dict[str, Any], Kind]] = []
        if isinstance(parameter, Range):
            values = (parameter.steps() or parameter.extremes) if shown else _samples(parameter, forbid)
            options = [({parameter.name: value}, _kind(parameter.name, value, forbid)) for value in values]
        for value, branch in parameter.items():
            here = _kind(parameter.name, value, forbid)
            inner = projected(branch, names, forbid)
            options += [({parameter.name: value} | part, here | kind) for part, kind in inner]
        kept: dict[tuple[str, Kind], tuple[dict[str, Any], Kind]] = {}
        for part, kind in options:
            part = {name: value for name, value in part.items() if name in names}
            kept.setdefault((repr(part), kind), (part, kind))
        found = [(head | tail, kind | other) for head, kind in found for tail, other in kept.values()]
    return found


def unique(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({repr(value): value for value in values}.values())  # lists among the values have no hash


@functools.cache
def defaults() -> dict[str, Any]:
    return RunConfig.from_settings({}).settings()
