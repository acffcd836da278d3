"""The role of a setting, declared once, on its field: ``lr: Annotated[float, SEARCHABLE] = Field(1e-3, ...)``."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel

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
