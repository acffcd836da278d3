"""The `prior:` section: its entries, and whether the space can have the values that they name."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from segtune.config import RunConfig
from segtune.errors import nearest, short
from segtune.fields import NOT_SEARCHABLE, unknown_setting
from segtune.mistakes import SettingsError
from segtune.space.parameters import Choice, Parameter, walk
from segtune.space.prior import CONFIDENCES, Belief, Prior, has
from segtune.space.space import Space, defaults
from segtune.space.spacefile import SpaceFile, Steps, label
from segtune.values import lower
from segtune.vocabulary import yaml_text

_KEYS = ("value", "confidence")
_FORM = f"{{value: ..., confidence: {' | '.join(CONFIDENCES)}}}"


class PriorReader:
    """Reads the entries. `listed` are the parameters of the file, `origin` has the places of its fixed settings."""

    def __init__(self, file: SpaceFile, listed: Sequence[Parameter], origin: Mapping[str, Steps]) -> None:
        self._file, self._listed, self._origin = file, listed, origin

    def read(self, left: Sequence[Parameter], grid: bool) -> Prior:
        """Return what is expected of the parameters that the command line left to be searched.

        It is a mistake if no run of the file can have a value, and if the search is a `grid`, which draws nothing.
        """
        section = self._file.section("prior")
        if section and grid:
            self._file.mistake(("prior",), "needs sampler tpe or random: a grid tries every combination")
        beliefs: dict[str, Belief] = {}
        for name, entry in section.items():
            self._accept(str(name), entry, ("prior", name), beliefs)
        for name in beliefs:
            self._check_together(name, Prior(beliefs))
        possible = Prior(beliefs).held(left)
        return Prior({name: belief for name, belief in beliefs.items() if name in possible})

    def check(self, space: Space) -> None:
        """Report expected values that no run of the space may have together."""
        beliefs, point = space.prior.beliefs, space.prior_point()
        if point is None:
            return
        drawn = space.settings_at(point)
        free = set(space.searched()) - beliefs.keys()
        for entry in space.forbid:
            if entry.matches(defaults() | drawn) and free.isdisjoint(entry.values):
                self._file.mistake(("prior", *_first(beliefs, entry.values)), f"forbid: {entry} excludes it")
        try:
            RunConfig.from_settings(drawn)
        except SettingsError as clash:
            if free.isdisjoint(clash.settings):
                self._file.mistake(("prior", *_first(beliefs, clash.settings)), str(clash))

    def _accept(self, name: str, given: Any, here: Steps, into: dict[str, Belief]) -> None:
        """Check an entry: put it `into` a mapping, or report its mistakes."""
        if mistake := self._misplaced(name):
            self._file.mistake(here, mistake)
        if mistake or name in self._file.refused:
            return
        before = self._file.count()
        entry = given if isinstance(given, dict) else {"value": given}
        for key in entry:
            if key not in _KEYS:
                text = f"unknown key {key!r}{nearest(str(key), _KEYS)} (known: {', '.join(_KEYS)})"
                self._file.mistake((*here, key), text)
        confidence: Any = lower(entry.get("confidence", "medium"))
        if confidence not in CONFIDENCES:
            hint = nearest(str(confidence), CONFIDENCES)
            text = f"must be one of {', '.join(CONFIDENCES)}, but got {short(confidence)}{hint}"
            self._file.mistake((*here, "confidence"), text)
        if "value" not in entry:
            self._file.mistake(here, f"has no value; give it alone, or as {_FORM}")
            return
        accepted: dict[str, Any] = {}
        steps = (*here, "value") if isinstance(given, dict) else here
        if self._file.accept(name, entry["value"], steps, accepted, here):
            if mistake := self._outside(name, accepted[name]):
                self._file.mistake(here, mistake, steps)
            elif self._file.count() == before:
                into[name] = Belief(accepted[name], confidence)

    def _misplaced(self, name: str) -> str | None:
        if name not in RunConfig.model_fields:
            return unknown_setting(name).message
        if name in NOT_SEARCHABLE:
            return "is the same in all trials, so that there is nothing to expect"
        if name in self._file.refused or any(parameter.name == name for parameter in walk(self._listed)):
            return None
        if name in self._origin:
            return f"is fixed by {self._file.place(self._origin[name])}; only what is searched can have a prior"
        return "is not searched; list it under space:, or fix it under run:"

    def _outside(self, name: str, value: Any) -> str | None:
        """Return why no run of the file has a value; None if one has it."""
        found = [parameter for parameter in walk(self._listed) if parameter.name == name]
        if any(has(parameter, value) for parameter in found):
            return None
        values = [label(v) for parameter in found if isinstance(parameter, Choice) for v in parameter.values]
        expected = " or ".join(dict.fromkeys(_values_text(parameter) for parameter in found))
        return f"must be {expected}, as under space:, but got {short(value)}{nearest(str(value), values)}"

    def _check_together(self, name: str, prior: Prior) -> None:
        """Report a value that no run has together with the other expected values."""
        clashing = []
        for way in _ways(self._listed, name, prior.beliefs[name].value):
            others = [(choice, value) for choice, value in way if (other := prior.of(choice)) and other.value != value]
            if not others:
                return
            clashing.append(others[0])
        where = " or ".join(dict.fromkeys(f"{choice.name} {label(value)}" for choice, value in clashing))
        has_now = ", ".join(dict.fromkeys(f"{c.name} {label(prior.beliefs[c.name].value)}" for c, _ in clashing))
        text = f"only runs with {where} can have {yaml_text(prior.beliefs[name].value)}, but prior: has {has_now}"
        self._file.mistake(("prior", name), text)


def _first(beliefs: Iterable[str], names: Container[str]) -> Steps:
    return tuple(name for name in beliefs if name in names)[:1]


def _ways(
    parameters: Iterable[Parameter], name: str, value: Any, above: tuple[tuple[Choice, Any], ...] = ()
) -> Iterator[tuple[tuple[Choice, Any], ...]]:
    """Yield the choices, each with its value, that lead to each parameter of this name that has the value."""
    for parameter in parameters:
        if parameter.name == name and has(parameter, value):
            yield above
        if isinstance(parameter, Choice):
            for chosen, branch in parameter.items():
                yield from _ways(branch, name, value, (*above, (parameter, chosen)))


def _values_text(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return f"one of {', '.join(map(label, parameter.values))}"
    text = f"from {parameter.low:.12g} to {parameter.high:.12g}"
    return text if parameter.step is None else f"{text} in steps of {parameter.step:.12g}"
