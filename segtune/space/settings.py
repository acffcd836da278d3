"""SearchSettings: the `search:` section of a space file."""

from __future__ import annotations

import enum
import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from segtune.mistakes import clash
from segtune.objectives import MIOU
from segtune.roles import Acts, declared
from segtune.space.confirm import AUTO_CONFIRM, TIME_SHARE, Confirm, ConfirmSetting
from segtune.space.objectives import Objectives, Prefer
from segtune.space.prefer import Preference
from segtune.vocabulary import FEWEST_FOLDS, MOST_FOLDS


def _gpu_share(value: float) -> float:
    if not math.isfinite(value) or (value > 1 and value != int(value)):
        raise ValueError(f"must be a fraction of one GPU, or a whole number of GPUs, but got {value}")
    return value


_NUMBER = re.compile(r"\d+(\.\d+)?")
_DURATION = re.compile(r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?")


def _seconds(value: object) -> object:
    """Return the seconds of a duration such as 8h, 1h30m or 45s; a plain number is in seconds."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):  # from the command line
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

    SAME = enum.auto()  # it may not change: it decides which trials there are, and when they end
    KEPT = enum.auto()  # it keeps its value unless a flag changes it; a new value in the space file has no effect
    FREE = enum.auto()  # it has the value that the space file has now


SHIPPED, NO_PORTFOLIO = "portfolio", "none"  # values of `start` that are not a file


def _start(value: str) -> str:
    if value.lower() in (SHIPPED, NO_PORTFOLIO):
        return value.lower()
    if not value.lower().endswith((".yaml", ".yml")):
        raise ValueError(f"{value!r} is neither portfolio nor none, nor a file whose name ends in .yaml or .yml")
    return value


Start = Annotated[
    str,
    AfterValidator(_start),
    WithJsonSchema(
        {"anyOf": [{"enum": [SHIPPED, NO_PORTFOLIO]}, {"type": "string", "pattern": r"\.[yY][aA]?[mM][lL]$"}]}
    ),
]


class SearchSettings(BaseModel):
    """How to search: the `search:` section. Each field declares what happens to it when the search is resumed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    trials: Annotated[int, AtResume.KEPT] = Field(20, ge=1, description="total number of trials, with the baseline")
    sampler: Annotated[Literal["tpe", "random", "grid"], AtResume.SAME] = Field(
        "tpe",
        description="how values are drawn: tpe learns from trials, random does not, grid tries every combination",
    )
    objectives: Annotated[Objectives, AtResume.SAME] = Field(
        [MIOU],
        description="what is searched for: miou, f1, boundary_iou, iou/LABEL, or a weighted mean such as "
        "{iou/1: 2, iou/3: 1}; the best epoch, stopping, sampling and the winner follow it; and costs beside it: "
        "parameters, latency, gpu_memory, seconds",
    )
    prefer: Annotated[Prefer, AtResume.KEPT] = Field(
        None,
        description="limits of costs, such as miou, latency < 20ms: the winner is the best trial that keeps them; "
        "none: no limits",
    )
    start: Annotated[Start, AtResume.SAME] = Field(
        SHIPPED,
        description="what is tried after the baseline: portfolio is a list of configurations that did well on other "
        "data; none begins with the sampler; or a file that `python -m segtune.tools portfolio` wrote",
    )
    scheduler: Annotated[Literal["asha", "none"], AtResume.SAME] = Field(
        "asha", description="asha pauses trials and lets the best go on; none trains every trial to the end"
    )
    grace_period: Annotated[int | None, AtResume.SAME, Acts("scheduler", ("asha",), elsewhere="nothing")] = Field(
        None, ge=1, description="epochs before asha may pause a trial; if not given: derived from the number of epochs"
    )
    reduction_factor: Annotated[int, AtResume.SAME, Acts("scheduler", ("asha",), elsewhere="nothing")] = Field(
        3, ge=2, description="asha compares trials at some epochs (rungs) and lets one in so many go on at each"
    )
    folds: Annotated[int | None, AtResume.SAME] = Field(
        None,
        ge=FEWEST_FOLDS,
        le=MOST_FOLDS,
        description="for small data sets: score a trial by the mean over so many parts (folds) of train and val, each "
        "predicted by a model of the others; if not given: trials are scored on val",
    )
    compare: Annotated[str | None, AtResume.SAME] = Field(
        None,
        description="a searched setting to compare: all of its values are tried with the same other settings; needs "
        "sampler grid and scheduler none",
    )
    gpus_per_trial: Annotated[Annotated[float, AfterValidator(_gpu_share)] | None, AtResume.KEPT] = Field(
        None,
        ge=0,
        description="GPUs for each trial, such as 0.5; 0 is the CPU; if not given: chosen for the machine",
    )
    cpus_per_trial: Annotated[int | None, AtResume.KEPT] = Field(
        None, ge=1, description="CPU cores for each trial; if not given: chosen for the machine"
    )
    max_concurrent: Annotated[int | None, AtResume.KEPT] = Field(
        None, ge=1, description="largest number of trials at the same time; if not given: as many as fit"
    )
    seed: Annotated[int, AtResume.SAME] = Field(
        0, ge=0, le=2**31 - 1, description="random seed of the sampler; the seed of the runs is a setting under run:"
    )
    keep: Annotated[int, AtResume.FREE] = Field(3, ge=1, description="number of best trials whose weights stay on disk")
    disk_gb: Annotated[float | None, AtResume.KEPT] = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="largest size of the search's folder in gigabytes: above it, weights are deleted (never the "
        "winner's), then the search stops",
    )
    time_budget: Annotated[Duration | None, AtResume.KEPT] = Field(
        None,
        description="time for the search, over all its starts, such as 8h (a plain number is in seconds); then it "
        "ends, and unfinished trials wait",
    )
    confirm: Annotated[ConfirmSetting, AtResume.FREE] = Field(
        AUTO_CONFIRM,
        description="train the best trials and the baseline again with fresh seeds at the end, such as "
        "{top: 3, seeds: 3}; auto: that, where there is a time_budget, of which a quarter is kept for it; none: never",
    )
    patience: Annotated[int | None, AtResume.KEPT] = Field(
        None, ge=1, description="end the search after so many trials in a row without improvement"
    )
    max_trial_time: Annotated[Duration | None, AtResume.SAME] = Field(
        None, description="training time, such as 2h, after which a trial is stopped at the end of its epoch"
    )
    collapse_epochs: Annotated[int | None, AtResume.SAME] = Field(
        10, ge=1, description="stop a trial that predicted a single class everywhere for so many epochs in a row"
    )
    hang_time: Annotated[Duration, AtResume.FREE] = Field(
        600.0, description="time without a sign of life after which a trial is killed and repeated"
    )
    log_to: Annotated[Literal["mlflow", "wandb", "none"], AtResume.FREE] = Field(
        "none",
        description="experiment tracker that gets a run for the search and one for each trial: mlflow or wandb",
    )
    retries: Annotated[int, AtResume.FREE] = Field(
        1,
        ge=0,
        description="how often a trial is repeated after a failure not caused by its settings, such as a lost worker",
    )

    @property
    def objective(self) -> str:
        """The measure of quality that trials are compared by."""
        return self.objectives[0]

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs that are shown beside the quality: those of `objectives` and of `prefer`."""
        limited = [cost for cost, _ in self.preference.limits] if self.preference else []
        return tuple(dict.fromkeys([*self.objectives[1:], *limited]))

    @property
    def preference(self) -> Preference | None:
        """The limits of what a model may cost; None where there are none."""
        return Preference.of(self.prefer) if self.prefer else None

    def confirms(self) -> Confirm | None:
        """Return how the winner is confirmed; None where it is not."""
        if isinstance(self.confirm, str):
            return Confirm() if self.time_budget is not None else None
        return self.confirm

    def trials_budget(self) -> float | None:
        """Return the part of the time budget that trials may use, in seconds; None where there is no budget."""
        if self.time_budget is None or self.confirms() is None:
            return self.time_budget
        return self.time_budget * (1 - TIME_SHARE)

    @model_validator(mode="after")
    def _comparable(self) -> SearchSettings:
        if self.compare is not None and (self.sampler, self.scheduler) != ("grid", "none"):
            raise clash(
                f"compare needs sampler grid and scheduler none, but got "
                f"(sampler={self.sampler}, scheduler={self.scheduler})",
                *("compare", "sampler", "scheduler"),
            )
        if self.preference and self.preference.objective not in (None, self.objective):
            text = f"{self.preference.objective} is not what this search is by, which is {self.objective}"
            raise clash(f"prefer: {text}", "prefer", "objectives")
        if self.sampler == "grid" and self.start not in (SHIPPED, NO_PORTFOLIO):
            raise clash(f"start: a grid is tried in its own order, but got {self.start}", "start", "sampler")
        return self


_AT_RESUME = declared(SearchSettings, AtResume)
# The settings that may change when a search is resumed, and those of them that only a flag changes.
CHANGEABLE = tuple(name for name, role in _AT_RESUME.items() if role is not AtResume.SAME)
KEPT = tuple(name for name, role in _AT_RESUME.items() if role is AtResume.KEPT)
