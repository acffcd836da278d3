"""Settings that do nothing in the runs of a space, such as a `momentum` that is searched beside adam alone.

With which other settings a setting has an effect is declared on its field; see `Acts` in roles.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from segtune.config import RunConfig
from segtune.roles import Acts, acts, listed
from segtune.space.combinations import groups, that_draw
from segtune.space.parameters import Parameter, RandomSuggest, Range
from segtune.space.settings import SearchSettings
from segtune.space.space import Space, defaults
from segtune.vocabulary import yaml_text

_DRAWS = 1000  # runs that a share is estimated from
_SIZEABLE = 0.2  # share of the runs that is worth a hint


@dataclass(frozen=True)
class Unused:
    """A setting that has no effect in some runs of a space, as a line that says what would be right."""

    text: str
    dead: bool  # it has an effect in no run


def unused_settings(space: Space) -> list[Unused]:
    """Return the settings of a space that have no effect in any run, or in a sizeable share of the runs."""
    found = [*_fixed(space), *_of_search(space)]
    for parameter, narrowed in that_draw(space.parameters):
        if (needed := acts(RunConfig).get(parameter.name)) is None:
            continue
        values = _values(space, narrowed, needed.name)
        acting = [value for value in values if needed.at(value)]
        if values and not acting:
            found.append(_without_effect(f"space.{parameter.key}", parameter.name, needed, values))
        elif len(acting) < len(values) and (text := _hint(space, parameter, needed, acting)):
            found.append(Unused(text, dead=False))
    return found


def _values(space: Space, parameters: Sequence[Parameter], name: str) -> list[Any]:
    """Return the values that a setting has in the runs that these parameters draw and `forbid:` allows."""
    runs = [defaults() | space.fixed | drawn for drawn, _ in groups(parameters, space.forbid, [name])]
    return list({repr(run[name]): run[name] for run in runs if not space.forbidden(run)}.values())


def _fixed(space: Space) -> Iterator[Unused]:
    for name, needed in acts(RunConfig).items():
        values = [value for (value,) in space.combinations(needed.name)]
        if space.fixed.get(name, defaults()[name]) != defaults()[name] and not any(map(needed.at, values)):
            yield _without_effect(name, name, needed, values)


def _of_search(space: Space) -> Iterator[Unused]:
    search, longest = space.search, max(space.values_of("epochs"))
    if search.scheduler == "asha" and search.grace_period and search.grace_period >= longest:
        text = f"search.grace_period: asha stops no trial before {search.grace_period} epochs"
        yield Unused(f"{text}, and no trial has more than {longest}", dead=False)
    if search.folds and search.keep != _default(SearchSettings, "keep"):
        yield Unused("search.keep: has no effect with folds, whose models are not kept; leave keep out", dead=True)
    for name, needed in acts(SearchSettings).items():
        value = getattr(search, needed.name)
        if getattr(search, name) != _default(SearchSettings, name) and not needed.at(value):
            yield _without_effect(f"search.{name}", name, needed, [value])


def _default(model: type[BaseModel], name: str) -> Any:
    return model.model_fields[name].default


def _without_effect(place: str, name: str, needed: Acts, values: Sequence[Any]) -> Unused:
    if needed.elsewhere == "little":
        return Unused(f"{place}: is meant for pretrained encoders, but all encoders start with random weights", False)
    present = (
        f"{needed.name} is {listed([yaml_text(value) for value in values], 'or')}" if needed.values else "none is given"
    )
    return Unused(f"{place}: has no effect without {needed.needs()}, and {present}; leave {name} out", dead=True)


def _hint(space: Space, parameter: Parameter, needed: Acts, acting: Sequence[Any]) -> str | None:
    """Return a line where a setting has no effect in a sizeable share of the runs; None elsewhere.

    Where RunConfig refuses it, the other runs are drawn again. Only a range makes them rare or impossible.
    """
    if needed.elsewhere == "little" or (needed.elsewhere == "refused" and not isinstance(parameter, Range)):
        return None
    share = _share(space, parameter.name, needed)
    if share < _SIZEABLE:
        return None
    where = f"{needed.name} {listed([yaml_text(value) for value in acting], 'or')}"
    lost = "cannot use it" if needed.elsewhere == "nothing" else "are then impossible"
    branch = f"{needed.name}: {{{yaml_text(acting[0])}: {{{parameter.name}: ...}}, ...}}"
    text = f"{parameter.name} has an effect only with {where}, and about {round(share, 1):.0%} of the runs {lost}"
    return f"{text}; better: {branch}"


def _share(space: Space, name: str, needed: Acts) -> float:
    """Return the share of the runs that draw a setting without an effect, estimated from random runs."""
    suggest = RandomSuggest(random.Random(0))
    drawn = [settings for _ in range(_DRAWS) if not space.forbidden(settings := space.draw(suggest))]
    idle = [run for run in drawn if name in run and not needed.at((defaults() | run)[needed.name])]
    return len(idle) / max(1, len(drawn))
