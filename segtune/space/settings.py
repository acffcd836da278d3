"""SearchSettings: how to search, the `search:` section of a space file."""

from __future__ import annotations

import enum
import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from segtune.mistakes import clash
from segtune.roles import declared


def _gpu_share(value: float) -> float:
    if not math.isfinite(value) or (value > 1 and value != int(value)):
        raise ValueError(f"must be a share of one GPU or a whole number of them, but got {value}")
    return value


_NUMBER = re.compile(r"\d+(\.\d+)?")
_DURATION = re.compile(r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?")


def _seconds(value: object) -> object:
    """Seconds in a duration such as 8h, 1h30m or 45s; a plain number is seconds already."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):  # on a command line all is text
        return float(value)
    if not isinstance(value, str):
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _DURATION.fullmatch(value.replace(" ", ""))
    if not value or not found or not any(found.groupdict().values()):
        raise ValueError(f"must be a duration such as 8h, 1h30m or 45s, or a number of seconds, but got {value!r}")
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return float(sum(float(number) * units[unit] for unit, number in found.groupdict().items() if number))


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, allow_inf_nan=False),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": r"^(\d+(\.\d+)?|(\d+d)?(\d+h)?(\d+m)?(\d+s)?)$"}, {"type": "number"}]}
    ),
]


class AtResume(enum.Enum):
    """What happens to a setting when a search is resumed. Declared on each field of SearchSettings."""

    SAME = enum.auto()  # it must be what it was: it decides which trials there are, and how they end
    KEPT = enum.auto()  # it stays what it was unless a flag changes it; the space file's value does not count
    FREE = enum.auto()  # the present value of the space file counts


class SearchSettings(BaseModel):
    """How to search: the `search:` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    trials: Annotated[int, AtResume.KEPT] = Field(
        20, ge=1, description="number of trials in total, the baseline included"
    )
    sampler: Annotated[Literal["tpe", "random", "grid"], AtResume.SAME] = Field(
        "tpe",
        description="how values are drawn: tpe learns from finished trials, grid tries every combination",
    )
    scheduler: Annotated[Literal["asha", "none"], AtResume.SAME] = Field(
        "asha", description="asha stops poor trials early; none trains every trial to the end"
    )
    grace_period: Annotated[int | None, AtResume.SAME] = Field(
        None, ge=1, description="epochs that every trial gets; left out: derived from the number of epochs"
    )
    reduction_factor: Annotated[int, AtResume.SAME] = Field(
        3, ge=2, description="of the trials at a rung, asha keeps one in so many"
    )
    compare: Annotated[str | None, AtResume.SAME] = Field(
        None,
        description="a searched setting whose values all get the same configurations (grid, no scheduler)",
    )
    gpus_per_trial: Annotated[Annotated[float, AfterValidator(_gpu_share)] | None, AtResume.KEPT] = Field(
        None, ge=0, description="GPUs per trial, such as 0.5; 0 trains on the CPU; left out: planned"
    )
    cpus_per_trial: Annotated[int | None, AtResume.KEPT] = Field(
        None, ge=1, description="CPU cores per trial; left out: planned"
    )
    max_concurrent: Annotated[int | None, AtResume.KEPT] = Field(
        None, ge=1, description="most trials at a time; left out: what fits"
    )
    seed: Annotated[int, AtResume.SAME] = Field(
        0, ge=0, le=2**31 - 1, description="of the sampler; a run's own seed is a setting of run"
    )
    keep: Annotated[int, AtResume.FREE] = Field(3, ge=1, description="weights of this many best trials stay on disk")
    disk_gb: Annotated[float | None, AtResume.KEPT] = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="most gigabytes of the search's folder: weights but the winner's go first, then the search stops",
    )
    time_budget: Annotated[Duration | None, AtResume.KEPT] = Field(
        None,
        description="time of all starts together, such as 8h (a plain number is seconds), after which the search ends; "
        "unfinished trials wait",
    )
    patience: Annotated[int | None, AtResume.KEPT] = Field(
        None, ge=1, description="end the search when so many trials in a row brought no improvement"
    )
    max_trial_time: Annotated[Duration | None, AtResume.SAME] = Field(
        None, description="training time, such as 2h, after which a trial is stopped at the end of its epoch"
    )
    collapse_epochs: Annotated[int | None, AtResume.SAME] = Field(
        10, ge=1, description="stop a trial that predicted one class everywhere for so many epochs in a row"
    )
    hang_time: Annotated[Duration, AtResume.FREE] = Field(
        600.0, description="a trial that shows no sign of life for so long is killed, and repeated"
    )
    retries: Annotated[int, AtResume.FREE] = Field(
        1,
        ge=0,
        description="times that a trial is repeated after a fault not of its settings, such as a lost worker",
    )

    @model_validator(mode="after")
    def _comparable(self) -> SearchSettings:
        if self.compare is not None and (self.sampler, self.scheduler) != ("grid", "none"):
            raise clash(
                f"compare needs sampler grid and scheduler none, but got "
                f"(sampler={self.sampler}, scheduler={self.scheduler})",
                *("compare", "sampler", "scheduler"),
            )
        return self


_AT_RESUME = declared(SearchSettings, AtResume)
# The settings that may change when a search is resumed, and those of them that only a flag changes.
CHANGEABLE = tuple(name for name, role in _AT_RESUME.items() if role is not AtResume.SAME)
KEPT = tuple(name for name, role in _AT_RESUME.items() if role is AtResume.KEPT)
