"""The trials of a search as plain data, and trials.csv."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from segtune.config import RunConfig
from segtune.errors import printable
from segtune.evaluation.intervals import Interval
from segtune.files.atomic import write_text
from segtune.objectives import COSTS, MIOU
from segtune.training.stopwatch import PHASES

_LATE_EPOCHS = 3  # fewest epochs that give a deviation

UNKNOWN = "no reason is known"  # shown in place of an error
Status = Literal["finished", "stopped", "failed", "running", "paused", "pending"]
# Why a trial was tried: the first run, a list of good configurations, what the user expects, what the sampler drew, or
# the next point of a grid; a row of trials.csv may also repeat a trial with another seed.
Origin = Literal["baseline", "portfolio", "prior", "sampler", "grid", "confirm"]
ENDED: Sequence[Status] = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Seeds:
    """What a trial reached with fresh seeds."""

    mean: float  # of the score
    run: str  # the folder of the run with the median score, inside that of the search
    score: float  # of that run
    gained: bool  # whether the best trial's gain over the baseline is more than chance brings
    deviation: float | None = None  # standard deviation of the score from seed to seed
    interval: Interval | None = None  # of the mean, for other seeds and other tiles


@dataclass(frozen=True)
class Trial:
    """A trial in its present condition."""

    number: int
    status: Status
    settings: Mapping[str, Any]  # every setting of RunConfig
    epochs_done: int = 0
    miou: float | None = None  # mIoU of its best epoch, by the objective of the search
    best_epoch: int | None = None
    seconds: float | None = None
    error: str | None = None  # why it failed
    fingerprint: str = ""  # fingerprint of the data
    parameters: int | None = None  # number of the model's parameters
    note: str | None = None  # why it was stopped
    repeats: tuple[str, ...] = ()  # the errors after which it was repeated
    micro_batch: int | None = None  # tiles at a time; below batch_size where the memory of the GPU was too small
    spent: Mapping[str, float] = field(default_factory=dict)  # seconds of each of PHASES
    searched: Mapping[str, Any] = field(default_factory=dict)  # the settings that the search chose
    since: float | None = None  # when a running trial started, by time.time()
    where: str | None = None  # machine and GPU of a running trial
    collapsed: bool = False  # whether its best epoch predicts one class everywhere
    wobble: float | None = None  # see `wobble`; None where there are too few epochs
    origin: Origin = "sampler"
    confirmed: Seeds | None = None  # None where it was not trained again, or where that no longer counts
    interval: Interval | None = None  # of the score, over the validation tiles; None where its model is gone
    latency: float | None = None  # of a forward pass of one image, in milliseconds
    gpu_memory: float | None = None  # the most that training took, in gigabytes
    fits: bool = True  # whether it keeps the limits that the search's setting `prefer` has for its costs
    own: float | None = None  # the score of its best epoch where the objective is another one than mIoU
    folds: int = 1  # how many folds its score is the mean of, of which those to come count zero

    @property
    def objective(self) -> str:
        """What its best epoch is chosen by, and trials are compared by."""
        return str(self.settings.get("objective") or MIOU)

    @property
    def score(self) -> float | None:
        """The score of its best epoch by the objective of the search; None while no epoch was scored."""
        return self.miou if self.objective == MIOU else self.own

    @property
    def costs(self) -> dict[str, float | None]:
        """What it costs, by the names of COSTS; None where it is not known."""
        return {name: getattr(self, name) for name in COSTS}

    @property
    def share(self) -> float:
        """The share of its budget that it used, from 0 to 1."""
        return self.epochs_done / self.epochs

    @property
    def baseline(self) -> bool:
        """Whether this is the baseline, which is the first trial."""
        return self.number == 0

    @property
    def epochs(self) -> int:
        """The budget of the trial, in all folds together."""
        return int(self.settings["epochs"]) * self.folds

    @property
    def folds_done(self) -> int:
        """The number of folds that it trained to the end."""
        return self.epochs_done * self.folds // self.epochs

    @property
    def finished(self) -> bool:
        """Whether it used its whole budget."""
        return self.status == "finished"

    @property
    def ended(self) -> bool:
        """Whether it is over: neither running nor to be run again."""
        return self.status in ENDED

    @property
    def learnt(self) -> bool:
        """Whether it has a score above zero, and its best epoch does not predict one class everywhere."""
        return bool(self.score) and not self.collapsed

    def row(self) -> dict[str, Any]:
        """Return the trial's row of trials.csv: what happened, then every setting."""
        columns = {
            "trial": self.number,
            "status": self.status,
            "epochs": self.epochs_done,
            "miou": self.miou,
            **({} if self.objective == MIOU else {self.objective: self.own}),
            **({} if self.folds == 1 else {"folds": self.folds_done}),
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "error": _printable(self.error),
            "fingerprint": self.fingerprint,
            "parameters": self.parameters,
            "note": _printable(self.note),
            "repeats": printable("; ".join(self.repeats)),
            "micro_batch": self.micro_batch,
            "latency": _rounded(self.latency),
            "gpu_memory": _rounded(self.gpu_memory),
            "collapsed": self.collapsed,
            "origin": self.origin,
            **{f"spent_{name}": _rounded(self.spent.get(name)) for name in PHASES},
        }
        # In this table `epochs` is what was done, and the setting of that name, the budget, is `epochs_budget`.
        settings = {
            "epochs_budget" if name == "epochs" else name: _cell(self.settings.get(name))
            for name in RunConfig.model_fields
        }
        return columns | settings


@dataclass(frozen=True)
class SearchState:
    """A search in its present condition, running or not."""

    path: Path
    trials: list[Trial]
    wanted: int  # number of trials that were asked for
    seconds: float  # time that it has run, in all starts
    holder: str | None  # the process that runs it; None where none does
    budget: float | None = None  # seconds that it may run
    reason: str | None = None  # why it ended before all of its trials
    remarks: Sequence[str] = ()  # what is wrong with its files
    confirmation: Sequence[str] = ()  # how its confirmation stands, in lines
    costs: Sequence[str] = ()  # that are shown beside the score
    prefer: str | None = None  # the limits of costs
    waiting: int = 0  # runs of its confirmation that are neither done nor failed, and of its winner's last training

    @property
    def over(self) -> bool:
        """Whether nothing is left to do: its trials are over, and its confirmation as well if there is one."""
        return self.searched and not self.waiting

    @property
    def searched(self) -> bool:
        """Whether its trials are over: no process runs it, and it has its trials or a reason to end before."""
        counts = Counter(trial.status for trial in self.trials)
        if self.holder or counts["pending"] or counts["running"] or counts["paused"]:
            return False
        return bool(self.reason) or sum(trial.ended for trial in self.trials) >= self.wanted


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that have a score, whatever their status, best first; of equal ones, the earlier comes first.

    Those that keep the limits of costs come before all others.
    Where fresh seeds confirmed some of them, the one with the best mean over these seeds comes first. The first one is
    the winner, wherever a winner is named, shown or kept.
    """
    found = by_score(trials)
    confirmed = [
        (not trial.fits, -trial.confirmed.mean, not trial.baseline, place)
        for place, trial in enumerate(found)
        if trial.confirmed
    ]
    if confirmed:
        found.insert(0, found.pop(min(confirmed)[-1]))
    return found


def by_score(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that have a score: those that keep the limits first, best first by the search's own numbers."""
    scored = [trial for trial in trials if trial.score is not None]
    return sorted(scored, key=lambda trial: (not trial.fits, -(trial.score or 0.0), trial.number))


def front(trials: Iterable[Trial], costs: Sequence[str]) -> list[Trial]:
    """Return the trials that no other one beats: nothing is at least as good in score and costs and better in one.

    Trials are compared that used the same share of their budget: all of it or, while none did, the largest share that
    any trial used. A trial without a score, or with an unknown cost, is not compared. The best score comes first.
    """
    known = [trial for trial in by_score(trials) if None not in [trial.costs[name] for name in costs]]
    furthest = max((trial.share for trial in known), default=0.0)
    points = {
        trial.number: (trial.score or 0.0, *(-(trial.costs[name] or 0.0) for name in costs))
        for trial in known
        if trial.share == furthest
    }
    beaten = {
        number
        for number, mine in points.items()
        for other in points.values()
        if other != mine and all(theirs >= own for theirs, own in zip(other, mine, strict=True))
    }
    found = [trial for trial in known if trial.number in points.keys() - beaten]
    return sorted(found, key=lambda trial: -(trial.score or 0.0))


def wobble(scores: Sequence[float]) -> float | None:
    """Return the standard deviation of a score from epoch to epoch, in the second half of the epochs.

    It is computed from how the differences of neighbouring epochs vary, so that a score that still rises does not count
    as one that varies. None where there are too few epochs.
    """
    late = scores[len(scores) - len(scores) // 2 :]
    if len(late) < _LATE_EPOCHS:
        return None
    steps = [after - before for before, after in pairwise(late)]
    return statistics.pstdev(steps) / math.sqrt(2)


def write_trials(path: Path, trials: Iterable[Trial], repeats: Iterable[Trial] = ()) -> None:
    """Write trials.csv: a row per trial, ordered by number; nothing where there are no trials.

    `repeats` are the runs of trials with other seeds; their rows come last, with the origin `confirm`.
    """
    rows = [trial.row() for trial in [*sorted(trials, key=lambda trial: trial.number), *repeats]]
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _printable(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
