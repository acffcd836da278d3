"""What a model may cost: `prefer: miou, latency < 20ms` chooses the best one below some limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from segtune.errors import nearest, short
from segtune.objectives import COSTS, objective_name
from segtune.vocabulary import number_text

_LIMIT = re.compile(r"(?P<cost>\w+)\s*<=?\s*(?P<number>[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(?P<unit>[A-Za-z]*)")
# The units of each cost by their names, as multiples of the first one, in which it is measured.
UNITS: Mapping[str, Mapping[str, float]] = {
    "parameters": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
    "latency": {"ms": 1, "": 1, "s": 1e3},
    "gpu_memory": {"GB": 1, "": 1, "MB": 1e-3},
    "seconds": {"s": 1, "": 1, "m": 60, "min": 60, "h": 3600},
}
_FORM = "must be limits of costs, such as 'miou, latency < 20ms'"


@dataclass(frozen=True)
class Preference:
    """The limits of costs, each in the first of its `UNITS`. The best model that keeps them all is preferred."""

    objective: str | None  # what it is the best by, where it was said
    limits: tuple[tuple[str, float], ...]  # cost, and what is at most allowed

    @classmethod
    def of(cls, value: object) -> Preference:
        """Read ``miou, latency < 20ms, parameters < 10M``; raise ValueError for anything else."""
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{_FORM}, but got {short(value)}")
        parts = [part.strip() for part in value.split(",")]
        measures = [objective_name(part) for part in parts if "<" not in part and ">" not in part]
        limits = [_limit(part) for part in parts if "<" in part or ">" in part]
        if len(measures) > 1:
            raise ValueError(f"names {len(measures)} measures ({', '.join(measures)}); the best is by one alone")
        if not limits:
            raise ValueError(f"{_FORM}, but {value!r} has no limit")
        if len({cost for cost, _ in limits}) < len(limits):
            raise ValueError("limits a cost twice")
        return cls(measures[0] if measures else None, tuple(limits))

    @classmethod
    def of_setting(cls, value: object) -> Preference | None:
        """Read a value of the setting `prefer`, also as text of YAML; None where it sets no limit."""
        return None if value in (None, "none", "null") else cls.of(value)

    @property
    def text(self) -> str:
        """The preference as settings have it."""
        return ", ".join([*([self.objective] if self.objective else []), self.limits_text])

    @property
    def limits_text(self) -> str:
        """The limits alone, each with the unit that makes it shortest."""
        return ", ".join(f"{cost} < {_amount(most, UNITS[cost])}" for cost, most in self.limits)

    def kept_by(self, costs: Mapping[str, float | None]) -> bool:
        """Return whether a model with these costs keeps all limits; a cost that is not known keeps none."""
        return all((cost := costs.get(name)) is not None and cost <= most for name, most in self.limits)


def _amount(value: float, units: Mapping[str, float]) -> str:
    """Return a cost with the unit that makes it shortest; read again, it is the same number."""
    base = next(iter(units))
    texts = {name: number_text(value / size) for name, size in units.items() if name or not base}
    return min((text + name for name, text in texts.items() if float(text) * units[name] == value), key=len)


def _limit(text: str) -> tuple[str, float]:
    if ">" in text:
        raise ValueError(f"{text!r}: a cost is limited from above, such as latency < 20ms")
    found = _LIMIT.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no limit; {_FORM}")
    cost, unit = found["cost"], found["unit"]
    if cost not in COSTS:
        raise ValueError(f"{cost!r} is no cost{nearest(cost, COSTS)} (known: {', '.join(COSTS)})")
    if unit not in UNITS[cost]:
        raise ValueError(f"{text!r}: the units of {cost} are {', '.join(filter(None, UNITS[cost]))}, but got {unit!r}")
    return cost, float(found["number"]) * UNITS[cost][unit]
