"""Combinations of values that can be drawn from parameters, one by one or in groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from segtune.space.forbid import Forbidden
from segtune.space.parameters import Choice, Parameter, Range

Group = tuple[dict[str, Any], int]  # settings of one of its combinations, and the number of combinations
_OTHER = object()  # a number of a range that no entry of `forbid:` names


def combinations(parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """Yield every combination as {key: value}; the last parameter varies fastest."""
    if not parameters:
        yield {}
        return
    for head in _options(parameters[0]):
        yield from (head | tail for tail in combinations(parameters[1:]))


def side_by_side(parameter: Choice) -> Iterator[dict[str, Any]]:
    """Yield every combination of a parameter with its branches: the first one of each value, the second one, ..."""
    options = [
        [{parameter.key: value} | inner for inner in combinations(branch)] for value, branch in parameter.items()
    ]
    return itertools.chain.from_iterable(zip(*options, strict=True))


def matching(branch: Sequence[Parameter], drawn: Mapping[str, Any]) -> int | None:
    """Return which combination of a branch the drawn settings have, counted from 0; None if they have none of them."""
    for number, point in enumerate(combinations(branch)):
        settings = {key.rpartition(".")[2]: value for key, value in point.items()}
        if all(name in drawn and drawn[name] == value for name, value in settings.items()):
            return number
    return None


def _options(parameter: Parameter) -> Iterator[dict[str, Any]]:
    if isinstance(parameter, Range):
        yield from ({parameter.key: value} for value in parameter.numbers() or ())
    for value, branch in parameter.items():
        yield from ({parameter.key: value} | inner for inner in combinations(branch))


def that_draw(parameters: tuple[Parameter, ...]) -> Iterator[tuple[Parameter, tuple[Parameter, ...]]]:
    """Yield each parameter with the parameters of the runs that draw it: the choices above it have one value."""
    for position, parameter in enumerate(parameters):
        yield parameter, parameters
        for value, branch in parameter.items():
            for inner, narrowed in that_draw(branch):
                only = Choice(parameter.name, parameter.key, (value,), (narrowed,))
                yield inner, (*parameters[:position], only, *parameters[position + 1 :])


def groups(
    parameters: Sequence[Parameter], forbid: Sequence[Forbidden], shown: Collection[str] = ()
) -> Iterator[Group]:
    """Yield groups of combinations that have the same `shown` settings and match the same parts of `forbid`.

    The settings of a group are those that it draws and that `shown` or `forbid` name. A range without a step has its
    two bounds as `shown` values. Combinations are not listed one by one, so that millions of them take no time.
    """
    parts = [_agreeing(parameter, forbid, shown) for parameter in parameters]
    for chosen in itertools.product(*parts):
        settings = {name: value for part, _ in chosen for name, value in part.items()}
        yield settings, math.prod(count for _, count in chosen)


def _agreeing(parameter: Parameter, forbid: Sequence[Forbidden], shown: Collection[str]) -> Collection[Group]:
    """Return the groups that one parameter gives with its branches."""
    found: dict[str, Group] = {}
    for settings, count in _draws(parameter, forbid, shown):
        values = [(name, value) for name, value in settings.items() if name in shown]
        met = [
            (name, [name in entry.values and entry.meets(name, value) for entry in forbid])
            for name, value in settings.items()
        ]
        key = repr((values, met))  # repr: lists cannot be keys
        first, before = found.get(key, (settings, 0))
        found[key] = (first, before + count)
    return found.values()


def _draws(parameter: Parameter, forbid: Sequence[Forbidden], shown: Collection[str]) -> Iterator[Group]:
    name = parameter.name
    matters = name in shown or any(name in entry.values for entry in forbid)
    if isinstance(parameter, Range):
        numbers = _numbers(parameter, forbid, name in shown)
        yield from (({name: value}, count) for value, count in numbers if matters)
        if not matters:
            yield {}, sum(count for _, count in numbers)
    for value, branch in parameter.items():
        own = {name: value} if matters else {}
        yield from ((own | inner, count) for inner, count in groups(branch, forbid, shown))


def _numbers(parameter: Range, forbid: Iterable[Forbidden], shown: bool) -> list[tuple[Any, int]]:
    """Return numbers of a range, each with the number of values that it represents. Named numbers are among them."""
    if (steps := parameter.steps()) is not None:
        return [(value, 1) for value in steps]
    if shown:
        return [(value, 1) for value in parameter.extremes]
    if not parameter.integer:
        return [(_OTHER, 1)]  # a continuous range never gives exactly the number that an entry names
    entries = [value for entry in forbid for value in entry.values.get(parameter.name, ())]
    named = dict.fromkeys(value for value in entries if value in parameter)
    others = int(parameter.high - parameter.low) + 1 - len(named)
    return [*((value, 1) for value in named), *([(_OTHER, others)] if others else [])]
