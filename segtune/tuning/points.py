"""Convert points of a space to what an Optuna study stores, and draw them from Optuna trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from segtune.space.parameters import Choice, Parameter, Range

# A point up to rounding; a partly drawn point equals no other.
Signature = frozenset[tuple[str, Any]]


def signature(point: Mapping[str, Any]) -> Signature:
    """Return a key that equal points share, whatever rounding their steps produced."""
    return frozenset((key, float(f"{v:.12g}") if isinstance(v, float) else v) for key, v in point.items())


class Lookup:
    """Draws a space's parameters by looking up their keys."""

    def __init__(self, value: Callable[[str], Any]) -> None:
        self._value = value

    def choice(self, parameter: Choice) -> int:
        """Return the index of the value."""
        return _categories(parameter).index(self._value(parameter.key))

    def number(self, parameter: Range) -> float | int:
        """Return the number."""
        number: float | int = self._value(parameter.key)
        return number


class FromTrial:
    """Draws a space's parameters from an Optuna trial, which records them."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choice(self, parameter: Choice) -> int:
        """Return the index of the drawn value."""
        values = _categories(parameter)
        return values.index(self._trial.suggest_categorical(parameter.key, values))

    def number(self, parameter: Range) -> float | int:
        """Return the drawn number, an int where the setting is one."""
        if parameter.integer:
            return self._trial.suggest_int(
                parameter.key, int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
            )
        return self._trial.suggest_float(
            parameter.key, parameter.low, parameter.high, log=parameter.log, step=parameter.step
        )


def encode(point: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a point of the space to what the study stores."""
    return {key: _category(value) for key, value in point.items()}


def distributions(parameters: Sequence[Parameter]) -> list[tuple[str, BaseDistribution]]:
    """Return the Optuna distribution of every parameter, those of branches included, by key."""
    found: list[tuple[str, BaseDistribution]] = []
    for parameter in parameters:
        found.append((parameter.key, distribution(parameter)))
        for _, branch in parameter.items():
            found += distributions(branch)
    return found


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return the Optuna distribution of a parameter."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(_categories(parameter))
    if parameter.integer:
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _categories(parameter: Choice) -> list[Any]:
    return [_category(value) for value in parameter.values]


def _category(value: Any) -> Any:
    # Optuna's categories are scalars; a list (of channels) is stored as JSON.
    return json.dumps(value) if isinstance(value, list) else value
