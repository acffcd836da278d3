"""The `forbid:` section: its entries, and whether each of them forbids something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segtune.config import RunConfig
from segtune.errors import nearest, short
from segtune.fields import NOT_SEARCHABLE, base_type, unknown_setting
from segtune.mistakes import SettingsError
from segtune.space.combinations import groups
from segtune.space.forbid import Forbidden, is_wildcard
from segtune.space.parameters import Choice, Parameter, Range, walk
from segtune.space.space import defaults
from segtune.space.spacefile import SpaceFile, Steps, label


@dataclass(frozen=True)
class Runs:
    """The runs that can be drawn: searched parameters and fixed settings."""

    parameters: Sequence[Parameter]
    fixed: Mapping[str, Any]

    def some_match(self, *entries: Forbidden) -> bool:
        """Return whether some run is forbidden by one of the entries."""
        return any(self._matches(entries))

    def all_match(self, *entries: Forbidden) -> bool:
        """Return whether every run is forbidden by one of the entries."""
        return all(self._matches(entries))

    def _matches(self, entries: Sequence[Forbidden]) -> Iterator[bool]:
        rest = defaults() | dict(self.fixed)
        for drawn, _ in groups(self.parameters, entries):
            yield any(entry.matches(rest | drawn) for entry in entries)


class ForbidReader:
    """Reads the entries. `in_file` are the runs of the file, `left` those after the command line fixed settings."""

    def __init__(self, file: SpaceFile, in_file: Runs, left: Runs) -> None:
        self._file = file
        self._in_file = in_file
        self._left = left

    def read(self, baseline: RunConfig | None) -> tuple[Forbidden, ...]:
        """Return the entries that forbid something, after the command line fixed settings."""
        kept, before = [], self._file.count()
        for here, entry in self._entries():
            if not self._left.parameters:
                continue  # which was reported already
            if self._left.all_match(entry):
                self._file.mistake(("forbid",), f"{entry} forbids every run of the space", here)
            elif baseline is not None and entry.matches(baseline.settings()):
                text = f"{entry} forbids the first run; set another one under baseline:"
                self._file.mistake(("forbid",), text, here)
            elif left := self._occurring(entry, here):
                kept.append(left)
        if kept and self._file.count() == before and self._left.all_match(*kept):
            self._file.mistake(("forbid",), "its entries together forbid every run of the space")
        return tuple(kept)

    def _entries(self) -> Iterator[tuple[Steps, Forbidden]]:
        """Yield the entries of the file, each with its place."""
        example = "{model: fpn, encoder: vgg*}"
        section = self._file.data.get("forbid")
        if section is not None and not isinstance(section, list):
            self._file.mistake(("forbid",), f"expected a list of entries such as {example}, but got {short(section)}")
            return
        for index, given in enumerate(section or ()):
            here = ("forbid", index)
            if not isinstance(given, dict) or not given:
                text = f"expected settings that exclude each other, such as {example}, but got {short(given)}"
                self._file.mistake(("forbid",), text, here)
                continue
            before = self._file.count()
            entry = Forbidden({str(n): self._excluded(str(n), value, (*here, n)) for n, value in given.items()})
            if self._file.count() == before and entry.values.keys().isdisjoint(self._file.refused):
                yield here, entry

    def _excluded(self, name: str, given: Any, steps: Steps) -> tuple[Any, ...]:
        """Return the values of one setting in an entry: a single value, or a list (any of them matches)."""
        said = ("forbid", name)
        if name not in RunConfig.model_fields:
            self._file.mistake(said, unknown_setting(name).message, steps)
            return ()
        if name in NOT_SEARCHABLE:
            self._file.mistake(said, "is the same in all trials, so that forbidding it excludes nothing", steps)
            return ()
        several = isinstance(given, list)
        if several and base_type(name) is list:
            several = bool(given) and all(isinstance(value, list) for value in given)
        kept = []
        for value, here in [(v, (*steps, i)) for i, v in enumerate(given)] if several else [(given, steps)]:
            wildcard = base_type(name) is str and is_wildcard(name, value)
            try:
                kept.append(value if wildcard else self._file.check(name, value))
            except SettingsError as error:
                self._file.mistake(said, str(error).removeprefix(f"{name}: "), here)
        if several and not given:
            self._file.mistake(said, "has no values; list at least one", steps)
        return tuple(kept)

    def _occurring(self, entry: Forbidden, here: Steps) -> Forbidden | None:
        """Return the part of an entry that runs can match, or None. It is a mistake if no run of the file can match."""

        left: dict[str, tuple[Any, ...]] = dict.fromkeys(entry.values, ())
        unknown = False
        for name, values in entry.values.items():
            for value in values:
                one = Forbidden({name: (value,)})
                if self._left.some_match(one):
                    left[name] += (value,)
                elif not self._in_file.some_match(one):
                    self._unmatched(name, value, here)
                    unknown = True
        found = Forbidden(left)
        if all(left.values()) and self._left.some_match(found):
            return found
        if not unknown and not self._in_file.some_match(entry):
            self._file.mistake(("forbid",), f"{entry} forbids nothing: no run has all of these values", here)
        return None

    def _unmatched(self, name: str, value: Any, here: Steps) -> None:
        tried = [p for p in walk(self._in_file.parameters) if p.name == name]
        values = [v for p in tried if isinstance(p, Choice) for v in p.values] or [self._in_file.fixed.get(name)]
        if any(isinstance(parameter, Range) for parameter in tried):
            text = f"forbids nothing: its range never gives {value!r}"
        elif tried or name in self._in_file.fixed:
            known = dict.fromkeys(map(label, values))
            text = f"forbids nothing: no run has {value!r}{nearest(str(value), known)} (values: {', '.join(known)})"
        else:
            text = f"forbids nothing: it is not searched, and {value!r} is not its default"
        self._file.mistake(("forbid", name), text, (*here, name))
