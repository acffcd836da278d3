"""Map the configurations of a portfolio into a search space: what a search tries after its baseline."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from segtune.data.dataset import DataInfo
from segtune.models.probe import encoder_parameters
from segtune.planning.feasibility import why_impossible
from segtune.planning.portfolio import Portfolio, portfolio_of
from segtune.space.parameters import Choice, Parameter, Range
from segtune.space.space import WEIGHTS, Space
from segtune.vocabulary import LEVELS, is_loss, is_number, loss_terms

_SHARE = 3  # one trial in so many comes from a portfolio
_NEAR = math.log(3.0)  # natural logarithm of the factor between numbers that still stand for each other
_LEAST_FITTING = (
    0.5  # share of the settings of an entry that a space searches, and that it must have nearly as they are
)
_LEAST_COMMON = 1 / 3  # share that two sums of losses have in common, to stand for each other
# Optimizers with nearly the same learning rates; the weight decay means something else in each of them.
_ALIKE = (frozenset({"adam", "adamw", "nadam", "nadamw", "radam"}), frozenset({"sgd", "sgdw"}))
_OF_ONE_OPTIMIZER = ("weight_decay",)

Allowed = Callable[[Mapping[str, Any]], "str | None"]


@dataclass(frozen=True)
class FirstRuns:
    """What a search tries after its baseline, from a portfolio."""

    points: tuple[dict[str, Any], ...]  # each as {key: value}
    fitting: int  # entries that fit the space
    entries: int  # of the portfolio
    expected: bool = False  # whether the values of `prior:` are tried before them

    def __str__(self) -> str:
        first = "start: baseline, the values of prior" if self.expected else "start: baseline"
        if self.points:
            return f"{first}, then {self._from_portfolio()}"
        why = ""
        if self.fitting:
            why = f"; the portfolio gets a third of the trials, so it begins at {_SHARE} trials"
        elif self.entries:
            why = f"; none of the {self.entries} portfolio entries fits this space"
        return f"{first}, then what the sampler draws{why}"

    def _from_portfolio(self) -> str:
        some = len(self.points)
        if some < self.fitting:
            which = f"{some} of the {self.fitting} portfolio entries that fit this space"
            return f"{which} (at most a third of the trials)"
        which = "portfolio entry that fits" if some == 1 else f"{some} portfolio entries that fit"
        return f"the {which} this space (of {self.entries})"


def planned_runs(space: Space, info: DataInfo) -> FirstRuns:
    """Return what a search of this space on this data tries after its baseline; InputError for a wrong `start`."""
    allowed = partial(why_impossible, space, info)
    return first_runs(portfolio_of(space.search.start) or Portfolio((), {}), space, allowed)


def first_runs(portfolio: Portfolio, space: Space, allowed: Allowed) -> FirstRuns:
    """Return the points of a space that stand for the entries of a portfolio, in its order.

    A setting has the entry's value, or the nearest one that the space has. Settings that the entry does not know have
    the baseline's value: it is the user's best guess, and a complete point can be checked. What the space fixes stays
    fixed. Left out are entries of which too little fits (`_LEAST_FITTING`), entries with another optimizer or for
    other initial weights, which need other learning rates, and points that cannot be run or that came before, as the
    baseline or from another entry. A third of the trials of a search come from a portfolio, at most.

    Parameters
    ----------
    allowed: returns why a point's settings cannot be run, None where they can.
    """
    baseline = space.baseline.settings()
    known = [space.locate(baseline)]
    found: list[dict[str, Any]] = []
    for entry in portfolio.entries if space.search.sampler != "grid" else ():
        point = _point(space, entry.settings, baseline)
        if point is not None and point not in [*known, *found] and allowed(space.settings_at(point)) is None:
            found.append(point)
    prior = space.prior_point()
    expected = prior is not None and prior not in known and allowed(space.settings_at(prior)) is None
    return FirstRuns(tuple(found[: space.search.trials // _SHARE]), len(found), len(portfolio.entries), expected)


@dataclass(frozen=True)
class _Placed:
    key: str
    value: Any
    fits: bool | None  # whether it stands for the entry's value; None where the entry has none


def _point(space: Space, entry: Mapping[str, Any], baseline: dict[str, Any]) -> dict[str, Any] | None:
    wanted = _with_own_optimizer(entry, space)
    placed = list(_place(space.parameters, wanted, baseline))
    point = {one.key: one.value for one in placed}
    run = baseline | space.settings_at(point)
    same = all(_kind(name, run[name]) == _kind(name, wanted[name]) for name in ("optimizer", WEIGHTS) if name in wanted)
    fits = [one.fits for one in placed if one.fits is not None]
    return point if same and fits and sum(fits) >= _LEAST_FITTING * len(fits) else None


def _kind(name: str, value: Any) -> Any:
    """Return what an entry and a run must have in common: the optimizer, and whether the encoder is pretrained."""
    return value not in ("none", "auto") if name == WEIGHTS else value


def _with_own_optimizer(entry: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return an entry with an optimizer that the space has, and without what belongs to another one."""
    known, name = space.values_of("optimizer"), entry.get("optimizer")
    alike = [other for group in _ALIKE if name in group for other in known if other in group]
    if name is None or name in known or not alike:
        return dict(entry)
    return {key: value for key, value in entry.items() if key not in _OF_ONE_OPTIMIZER} | {"optimizer": alike[0]}


def _place(parameters: Sequence[Parameter], wanted: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[_Placed]:
    """Yield the value of each parameter, with those of the branches of these values."""
    for parameter in parameters:
        known = parameter.name in wanted
        value, distance = nearest(parameter, (wanted if known else usual)[parameter.name])
        fits = distance <= _NEAR if known else None
        if known and distance == math.inf:
            value, _ = nearest(parameter, usual[parameter.name])
        yield _Placed(parameter.key, value, fits)
        for other, branch in parameter.items():
            if other == value:
                yield from _place(branch, wanted, usual)


def nearest(parameter: Parameter, value: Any) -> tuple[Any, float]:
    """Return the value of a parameter that is nearest to a value, and their distance.

    The distance is 0 for the value itself, and infinite where no value can stand for it. For numbers it is the
    logarithm of their ratio, for encoders that of their numbers of parameters.
    """
    if isinstance(parameter, Choice):
        if value in parameter.values:
            return value, 0.0
        distances = [_distance(parameter.name, value, other) for other in parameter.values]
        least = min(range(len(distances)), key=distances.__getitem__)
        return parameter.values[least], distances[least]
    if not is_number(value):
        return parameter.low, math.inf
    found = _in_range(parameter, value)
    return found, 0.0 if parameter.low <= value <= parameter.high else _ratio(value, found)


def _in_range(parameter: Range, value: float) -> float | int:
    if steps := parameter.steps():
        return min(steps, key=lambda step: abs(step - value))
    inside = min(max(value, parameter.low), parameter.high)
    return round(inside) if parameter.integer else float(inside)


def _distance(name: str, one: Any, other: Any) -> float:
    """Return the distance between two values of a setting."""
    if is_number(one) and is_number(other):
        return _ratio(one, other)
    if not (isinstance(one, str) and isinstance(other, str)):
        return math.inf
    if name == "encoder":
        return _between_encoders(one, other)
    if name == "augmentation" and {one, other} <= set(LEVELS):
        return _NEAR * abs(LEVELS.index(one) - LEVELS.index(other))
    if name == "loss" and is_loss(one) and is_loss(other):
        shares, others = _shares(one), _shares(other)
        common = sum(min(shares[term], others[term]) for term in shares.keys() & others.keys())
        return -math.log(common) if common >= _LEAST_COMMON else math.inf
    if name == WEIGHTS and "none" not in (one, other):  # two kinds of pretrained weights
        return _NEAR
    return math.inf


def _shares(loss: str) -> dict[str, float]:
    """Return the share of each loss in a sum."""
    terms = loss_terms(loss)
    return {name: weight / sum(other for other, _ in terms) for weight, name in terms}


def _between_encoders(one: str, other: str) -> float:
    sizes = encoder_parameters(one), encoder_parameters(other)
    if sizes[0] is None or sizes[1] is None:
        return math.inf
    size = _ratio(sizes[0], sizes[1])
    return size if _family(one) == _family(other) else size + 2 * _NEAR


def _family(encoder: str) -> str:
    """Return the first word of an encoder's name: ``resnet`` of resnet34, ``efficientnet`` of tu-tf_efficientnet_b0."""
    plain = re.sub(r"^(tu-|timm-)?(tf_)?", "", encoder)
    return re.match(r"[a-z]*?(?=v?\d|[^a-z]|$)", plain).group()  # type: ignore[union-attr]


def _ratio(one: float, other: float) -> float:
    if one == other:
        return 0.0
    return abs(math.log(one / other)) if one > 0 and other > 0 else math.inf
