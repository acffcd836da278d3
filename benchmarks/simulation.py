"""Simulate one search in virtual time: segtune's own searcher, sampler and ASHA, on curves that are looked up."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
from methods import METHODS, Method, planned
from optuna.samplers import BaseSampler
from recorded import Recorded
from surrogate import Prediction, Surrogate, World
from table import FromTable, Table, in_table

from segtune.files.folders import SearchFolder
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.failures import Failure, Fault
from segtune.tuning.proposals import Proposals, TrialStart
from segtune.tuning.sampler import build_sampler
from segtune.tuning.scheduler import Decision
from segtune.tuning.searcher import Searcher
from segtune.tuning.stopping import Rules

BUDGETS = (5, 10, 20, 50)  # full trainings
SURROGATE, OWN, TABLE = "surrogate", "own", "table"
LANDSCAPES = (SURROGATE, OWN, TABLE)


@dataclass(frozen=True, order=True)
class Key:
    """Which search it is."""

    landscape: str
    set: str  # the data set
    method: str
    workers: int
    seed: int


@dataclass(frozen=True)
class Replay:
    """One simulated search."""

    key: Key
    trials: tuple[int, ...]  # begun, after each of `BUDGETS`
    finished: int  # that used their whole budget of epochs
    cpu_seconds: float  # that the replay took
    spent: tuple[float, ...]  # full trainings when the best mIoU rose
    best: tuple[float, ...]  # and to what

    def at(self, budget: float) -> float:
        """Return the best mIoU after the cost of so many full trainings."""
        return max((best for spent, best in zip(self.spent, self.best, strict=True) if spent <= budget), default=0.0)

    def reached(self, miou: float) -> float:
        """Return the full trainings spent until this mIoU was reached; infinity where it was not."""
        return next((spent for spent, best in zip(self.spent, self.best, strict=True) if best >= miou), float("inf"))


@dataclass(frozen=True)
class Ground:
    """What searches on a data set are simulated with."""

    recorded: Recorded
    surrogates: Mapping[str, Surrogate]  # by landscape; the table needs none
    others: tuple[Recorded, ...]  # the data sets that a method may learn from: never this one


class Landscape(Protocol):
    """Knows the curve of every configuration that a search can try."""

    def train(self, settings: Mapping[str, Any]) -> Prediction:
        """Return the training of a configuration."""


class Untold:
    """A watcher that ignores what happens to trials."""

    def epoch(self, number: int, result: EpochResult) -> None:
        pass

    def ended(self, number: int) -> None:
        pass

    def repeated(self, number: int, reason: str) -> None:
        pass


@dataclass
class _Training:
    """A trial, and the epochs that it has trained: a paused one goes on from there."""

    curve: Prediction
    done: int = 0


class Simulated:
    """Runs trials on virtual workers; each trains one trial at a time, at the speed that the landscape gives.

    Only training takes virtual time; asking the sampler, starting and pausing trials take none.
    """

    def __init__(self, landscape: Landscape, workers: int, epochs: int, seconds: float) -> None:
        self._landscape, self._workers, self._epochs, self._seconds = landscape, workers, epochs, seconds
        self._events: list[tuple[float, int, int]] = []  # when, order, trial
        self._trials: dict[int, _Training] = {}
        self._begun = 0
        self.history: list[tuple[float, int, int, float]] = []  # seconds, trial, epoch, best mIoU of the trial

    def run(self, searcher: Searcher) -> None:
        """Let every worker train until the virtual time is used up, or the searcher wants no more."""
        self._fill(searcher, 0.0)
        while self._events and self._events[0][0] <= self._seconds:
            now, order, number = heapq.heappop(self._events)
            if self._goes_on(searcher, now, number):
                self._schedule(now, order, number)
            else:
                self._fill(searcher, now)
        if searcher.error:
            raise searcher.error

    @property
    def goes_on(self) -> bool:
        """Whether trials were still running when the time was used up."""
        return bool(self._events)

    def _fill(self, searcher: Searcher, now: float) -> None:
        """Give every free worker a trial, if there is one."""
        while len(self._events) < self._workers and (start := searcher.next_trial()):
            self._begin(start, now)

    def _begin(self, start: TrialStart, now: float) -> None:
        if start.number not in self._trials:
            self._trials[start.number] = _Training(self._landscape.train(start.config.settings()))
        self._begun += 1
        self._schedule(now, self._begun, start.number)

    def _schedule(self, now: float, order: int, number: int) -> None:
        # If two epochs end at the same time, the trial that began first reports first.
        heapq.heappush(self._events, (now + self._trials[number].curve.seconds, order, number))

    def _goes_on(self, searcher: Searcher, now: float, number: int) -> bool:
        """Report an epoch that ended; return whether another one follows at once."""
        trial = self._trials[number]
        if trial.done >= len(trial.curve.best):
            searcher.ended(number, Failure("the loss became NaN", Fault.DIVERGED))
            return False
        value = trial.curve.best[trial.done]
        trial.done += 1
        self.history.append((now, number, trial.done, value))
        result = _epoch_result(trial.done, self._epochs, value, trial.done * trial.curve.seconds)
        if searcher.epoch(number, result) is Decision.CONTINUE and trial.done < self._epochs:
            return True
        searcher.ended(number)
        return False


def _epoch_result(epoch: int, epochs: int, value: float, seconds: float) -> EpochResult:
    """Make the record of an epoch, with the values that a search looks at."""
    return EpochResult(
        epoch=epoch,
        epochs=epochs,
        loss=math.nan,
        scores=None,
        added={},
        best_miou=value,
        best_epoch=epoch,
        lr=math.nan,
        micro_batch=0,
        collapsed_epochs=0,
        train_seconds=seconds / epoch,
        eval_seconds=0.0,
        data_seconds=0.0,
        checkpoint_seconds=0.0,
        report_seconds=0.0,
        seconds=seconds,
        spent={},
    )


def make_searcher(
    space: Space, workers: int, method: Method, others: Sequence[Recorded] = (), table: Recorded | None = None
) -> Searcher:
    """Make the searcher of a search that exists in memory only; with `table`, it tries recorded configurations."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: BaseSampler = build_sampler(space, lesson=method.lesson, inner=method.inner)
    if table is not None:
        sampler = FromTable(sampler, space, table, uniform=method.sampler == "random")
    study = optuna.create_study(direction="maximize", sampler=sampler)
    folder = SearchFolder(Path("replay"))
    proposals = Proposals(study, space, folder, lambda config: config, planned(method, space, others, table))
    rules, asha = Rules(space.search, study), method.compare(space, study, others)
    return Searcher(study, folder, proposals, workers, space.search.retries, asha, rules, Untold())


def simulate(ground: Ground, key: Key) -> Replay:
    """Simulate a search until the largest of `BUDGETS` is spent, in full trainings shared by all workers."""
    began = time.process_time()
    recorded, method = ground.recorded, METHODS[key.method]
    full = recorded.full_training()
    expecting = replace(recorded.space, prior=method.prior(recorded))
    if key.landscape == TABLE:
        space = method.space(in_table(expecting, recorded), key.seed, len(recorded.curves))
        landscape: Landscape = Table(recorded, key.seed)
        searcher = make_searcher(space, key.workers, method, ground.others, recorded)
    else:
        landscape = World(ground.surrogates[key.landscape], key.seed)
        searcher = make_searcher(method.space(expecting, key.seed), key.workers, method, ground.others)
    seconds = BUDGETS[-1] * full / key.workers
    backend = Simulated(landscape, key.workers, recorded.epochs, seconds)
    backend.run(searcher)
    if key.landscape != TABLE and not backend.goes_on:
        raise RuntimeError(f"the search ended early: {searcher.early_end()}")
    return _summary(key, backend, full, recorded.epochs, time.process_time() - began)


def _summary(key: Key, backend: Simulated, full: float, epochs: int, cpu_seconds: float) -> Replay:
    spent: list[float] = []
    best: list[float] = []
    for now, _, _, value in backend.history:
        if not best or value > best[-1]:
            spent.append(round(now * key.workers / full, 4))
            best.append(round(value, 5))
    begun = [now * key.workers / full for now, _, epoch, _ in backend.history if epoch == 1]
    trials = tuple(sum(spent <= budget for spent in begun) for budget in BUDGETS)
    finished = sum(epoch == epochs for _, _, epoch, _ in backend.history)
    return Replay(key, trials, finished, round(cpu_seconds, 2), tuple(spent), tuple(best))
