"""What a setting is, declared once, on its field: ``lr: Annotated[float, SEARCHABLE] = Field(1e-3, ...)``."""

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
    SEARCH = 2  # when a search is resumed, too
    MACHINE = 3  # it belongs to the machine: a resumed trial takes the present value


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a setting is, and what follows from it."""

    searchable: bool = False  # trials of a search may differ in it; all other settings are the same in all trials
    data: bool = False  # describes the data; a search space has it at its top, beside `dataset`
    validation: bool = False  # decides what a run is scored on
    change: Change = Change.NEVER
    affects_score: bool = True  # False: a score differs no more with it than by chance; nor with the machine
    path: Literal["folder", "folders", "file"] | None = None  # what on disk it names, if anything


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
