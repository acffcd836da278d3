"""What a setting is, declared once, on its field: ``lr: Annotated[float, SEARCHABLE] = Field(1e-3, ...)``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from segtune.vocabulary import loss_terms

R = TypeVar("R")


class Change(enum.IntEnum):
    """When a setting may change. Each member includes the ones before it."""

    NEVER = 0
    RUN = 1  # when a run is resumed
    SEARCH = 2  # also when a search is resumed
    MACHINE = 3  # with the machine: a resumed trial uses the present value


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a setting describes, and when it may vary."""

    searchable: bool = False  # may differ between the trials of a search
    data: bool = False  # describes the data; stands at the top of a search space, beside `dataset`
    validation: bool = False  # decides what a run is scored on
    change: Change = Change.NEVER
    affects_score: bool = True  # False: it changes a score only by chance; settings of the machine do not affect it
    single_run: bool = False  # no setting for a search, which has settings of its own for this
    path: Literal["folder", "folders", "file"] | None = None  # the kind of path that it holds, if any


SEARCHABLE = Role(searchable=True)
DATA = Role(data=True)
FIXED = Role()  # the same in all trials, and for the whole life of a run
MACHINE = Role(change=Change.MACHINE)


@dataclass(frozen=True)
class Acts:
    """Declares that a setting has an effect only where another setting has one of these values.

    It stands on the field, after the role: ``Acts("lr_schedule", ("plateau",))``. In a sum of losses, each loss counts.
    Without values, the other setting must be given: not empty, and not ``none``.
    """

    name: str  # the other setting
    values: tuple[str, ...] = ()
    # What happens elsewhere: RunConfig refuses all values but the default; the setting changes nothing; or it changes
    # a run, but is made for the others.
    elsewhere: Literal["refused", "nothing", "little"] = "refused"

    def at(self, value: Any) -> bool:
        """Return whether the setting has its effect where the other setting has this value."""
        if not self.values:
            return bool(value) and value != "none"
        names = {name for _, name in loss_terms(value)} if self.name == "loss" else {value}
        return not names.isdisjoint(self.values)

    def needs(self) -> str:
        """Return what the other setting must be: ``lr_schedule step or plateau``."""
        return f"{self.name} {listed(self.values, 'or')}" if self.values else self.name


def listed(words: Sequence[str], last: str) -> str:
    """Join words for a sentence: ``ce, bce and boundary_ce``."""
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def acts(model: type[BaseModel]) -> dict[str, Acts]:
    """Return the settings of a model that have an effect only with some values of another one."""
    fields = model.model_fields.items()
    return {name: item for name, field in fields for item in field.metadata if isinstance(item, Acts)}


def declared(model: type[BaseModel], kind: type[R]) -> dict[str, R]:
    """Return the record of type `kind` that each field of a model declares, by field.

    Raises TypeError for a field that declares none, or more than one.
    """
    found = {}
    for name, field in model.model_fields.items():
        records = [item for item in field.metadata if isinstance(item, kind)]
        if len(records) != 1:
            raise TypeError(f"{model.__name__}.{name} must declare one {kind.__name__}, but declares {len(records)}")
        found[name] = records[0]
    return found
