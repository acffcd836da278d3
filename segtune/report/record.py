"""The record of a search that a page, its figures and the index are made of: plain data, read from disk or made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from segtune.evaluation.intervals import Interval
from segtune.objectives import MIOU, title
from segtune.report.answer import Answer, answer
from segtune.trials import SearchState, Trial, ranked


@dataclass(frozen=True)
class Curve:
    """The score of a trial over its epochs; epochs without a score are left out."""

    epochs: tuple[int, ...]
    scores: tuple[float, ...]

    def at(self, epoch: int) -> float | None:
        """Return the best score up to an epoch; None for a trial that did not reach it, or has no score until there."""
        if not self.epochs or self.epochs[-1] < epoch:
            return None
        return max(
            (score for number, score in zip(self.epochs, self.scores, strict=True) if number <= epoch), default=None
        )


@dataclass(frozen=True)
class Effect:
    """How the trials with one value of a setting, or with values of one range, did."""

    value: str
    trials: int
    mean: float  # of the score, at the epoch at which trials are compared
    interval: tuple[float, float] | None  # of that mean, 95%; None for fewer than three trials
    best: float  # the best score of these trials in all of their epochs


@dataclass(frozen=True)
class Influence:
    """How much a searched setting decided, and what each of its values brought."""

    key: str  # such as optimizer.sgd.momentum
    share: float | None  # of the importance of all settings, from 0 to 1; None where it is not known
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class ClassRow:
    """The IoU of one class for the winner and the baseline; None where it is not known, or where no mask holds it."""

    title: str
    winner: float | None
    baseline: float | None
    interval: Interval | None = None  # of the winner's, over the tiles
    share: float | None = None  # of the validation pixels that count


@dataclass(frozen=True)
class Example:
    """A validation tile as WebP pictures: image, truth, prediction and error."""

    kind: Literal["worst", "median", "best"]
    name: str
    iou: float
    pictures: tuple[bytes, bytes, bytes, bytes]


@dataclass(frozen=True)
class Examples:
    """Validation tiles of the winner, the colours of their masks, and what was measured on all tiles beside."""

    tiles: tuple[Example, ...]
    legend: tuple[tuple[str, tuple[int, int, int]], ...]
    interval: Interval | None  # of the score
    classes: Mapping[str, Interval | None]  # by label
    shares: Mapping[str, float]  # of the pixels that count, by label and for background
    split: str
    count: int
    unsure: str | None = None  # why several tiles give no interval


@dataclass(frozen=True)
class DataFigures:
    """The data set in figures."""

    dataset: str
    tiles: Mapping[str, int]  # used, by split
    left_out: Mapping[str, int]
    classes: tuple[str, ...]
    bands: tuple[tuple[str, float, float, float, float], ...]  # name, mean, deviation, lowest and highest value
    tile_size: int | None  # pixels
    resolution: float | None  # metres per pixel
    fingerprint: str


@dataclass(frozen=True)
class Candidate:
    """A configuration that was trained again with fresh seeds.

    `gain` is over the baseline, and None for the baseline itself. `lead` is the winner's over this one, and
    `probability` that the winner is better in truth; both are None for the winner.
    """

    name: str
    settings: str
    searched: float | None  # the search's own number
    seeds: tuple[float, ...]
    gain: Interval | None = None
    lead: Interval | None = None
    probability: float | None = None


@dataclass(frozen=True)
class Confirmation:
    """What fresh seeds showed: plain sentences, the candidates, the winner first, and what else is to be known."""

    sentence: str
    candidates: tuple[Candidate, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A command line and what it does."""

    what: str
    line: str


@dataclass(frozen=True)
class Report:
    """A search in its present condition, with all that its page shows."""

    name: str
    state: SearchState
    written: float  # by time.time()
    space: str  # the search space as YAML
    searched: tuple[str, ...]  # the names of the searched settings
    began: float | None = None  # by time.time()
    curves: Mapping[int, Curve] = field(default_factory=dict)  # by trial
    ended_after: Mapping[int, float] = field(default_factory=dict)  # seconds, by trial
    influences: tuple[Influence, ...] = ()  # the most important first
    compared_after: int | None = None  # epochs after which `influences` compare trials
    classes: tuple[ClassRow, ...] = ()
    examples: Examples | None = None
    no_examples: str = "this page was written without them; --report adds them"
    data: DataFigures | None = None
    confirmation: Confirmation | None = None
    unconfirmed: tuple[str, ...] = ()  # what there is of one that has no result, or no longer counts
    versions: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[Command, ...] = ()
    remarks: tuple[str, ...] = ()  # what could not be read

    @property
    def costs(self) -> Sequence[str]:
        """The costs that are shown beside the score."""
        return self.state.costs

    @property
    def prefer(self) -> str | None:
        """The limits of costs."""
        return self.state.prefer

    @property
    def measure(self) -> str:
        """What trials are compared by, as headings have it."""
        return title(next((trial.objective for trial in self.trials), MIOU))

    @property
    def trials(self) -> list[Trial]:
        """The trials, by number."""
        return self.state.trials

    @cached_property
    def order(self) -> list[Trial]:
        """The trials with a score, best first."""
        return ranked(self.state.trials)

    @cached_property
    def answer(self) -> Answer:
        """What the search found."""
        return answer(self.state.trials, self.state.over)

    @cached_property
    def winner(self) -> Trial | None:
        """The best trial, if it learnt something."""
        order = self.order
        return order[0] if order and order[0].learnt else None

    @cached_property
    def baseline(self) -> Trial | None:
        """The first trial."""
        return next((trial for trial in self.trials if trial.baseline), None)

    def values(self, trial: Trial) -> dict[str, Any]:
        """Return what a trial has for every searched setting; a setting that it did not draw is left out."""
        return {name: trial.searched[name] for name in self.searched if name in trial.searched}
