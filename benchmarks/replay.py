"""Replay whole searches in virtual time: segtune's own searcher, sampler and ASHA, on curves that are looked up."""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from curves import append_row, read_curves
from surrogate import Prediction, Recorded, World

from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.asha import make_asha
from segtune.tuning.failures import Failure, Fault
from segtune.tuning.proposals import Proposals
from segtune.tuning.sampler import build_sampler
from segtune.tuning.searcher import Decision, Searcher
from segtune.tuning.stopping import Rules
from segtune.tuning.teaching import AsComplete, AsPruned, Lesson, TopRung

BUDGETS = (5, 10, 20, 50, 100)  # full trainings


@dataclass(frozen=True)
class Method:
    """A search method: settings of `search:`, and how stopped trials teach the sampler."""

    sampler: str
    scheduler: str
    lesson: Callable[[Space], Lesson] = AsComplete


METHODS: Mapping[str, Method] = {
    "random": Method("random", "none"),
    "random+asha": Method("random", "asha"),
    "tpe": Method("tpe", "none"),
    "tpe+asha complete": Method("tpe", "asha"),
    "tpe+asha pruned": Method("tpe", "asha", AsPruned),
    "tpe+asha top_rung": Method("tpe", "asha", TopRung),
}
DEFAULT = "tpe+asha complete"  # what a search does when nothing is given
_MANY = 1_000_000  # trials: the budget is what ends a replay
_SEARCHES = tuple(  # modules that are replayed
    f"segtune.tuning.{name}" for name in ("asha", "points", "proposals", "sampler", "searcher", "stopping", "teaching")
)


@dataclass(frozen=True)
class Replay:
    """One simulated search."""

    method: str
    workers: int
    seed: int
    trials: int  # begun
    finished: int  # that used their whole budget of epochs
    spent: tuple[float, ...]  # full trainings when the best mIoU rose
    best: tuple[float, ...]  # and to what

    def at(self, budget: float) -> float:
        """Return the best mIoU after the cost of so many full trainings."""
        return max((best for spent, best in zip(self.spent, self.best, strict=True) if spent <= budget), default=0.0)

    def reached(self, miou: float) -> float:
        """Return the full trainings spent until this mIoU was reached; infinity where it was not."""
        return next((spent for spent, best in zip(self.spent, self.best, strict=True) if best >= miou), float("inf"))


def with_method(space: Space, method: str, seed: int) -> Space:
    """Return the space with the settings of a method; all other settings of `search:` keep their defaults."""
    chosen = METHODS[method]
    update = {"sampler": chosen.sampler, "scheduler": chosen.scheduler, "trials": _MANY, "seed": seed}
    return replace(space, search=space.search.model_copy(update=update))


class Untold:
    """A watcher that ignores what happens to trials."""

    def epoch(self, number: int, result: EpochResult) -> None:
        pass

    def ended(self, number: int) -> None:
        pass

    def repeated(self, number: int, reason: str) -> None:
        pass


class Simulated:
    """Runs trials on virtual workers; each trains one trial at a time, at the speed that the world gives.

    Only training takes virtual time; asking the sampler and starting trials take none.
    """

    def __init__(self, world: World, workers: int, epochs: int, seconds: float) -> None:
        self._world, self._workers, self._epochs, self._seconds = world, workers, epochs, seconds
        self._events: list[tuple[float, int, int, int, Prediction]] = []  # when, order, epoch, trial, its curve
        self._begun = 0
        self.history: list[tuple[float, int, int, float]] = []  # seconds, trial, epoch, best mIoU of the trial

    def run(self, searcher: Searcher) -> None:
        """Let every worker train until the virtual time is used up."""
        for _ in range(self._workers):
            self._begin(searcher, 0.0)
        while self._events and self._events[0][0] <= self._seconds:
            now, order, epoch, number, curve = heapq.heappop(self._events)
            if self._goes_on(searcher, now, epoch, number, curve):
                self._schedule(now, order, epoch + 1, number, curve)
            else:
                self._begin(searcher, now)
        if searcher.error:
            raise searcher.error

    def _begin(self, searcher: Searcher, now: float) -> None:
        start = searcher.next_trial()
        if start is None:
            raise RuntimeError(f"the search ended early: {searcher.error or searcher.early_end()}")
        self._begun += 1
        self._schedule(now, self._begun, 1, start.number, self._world.train(start.config.settings()))

    def _schedule(self, now: float, order: int, epoch: int, number: int, curve: Prediction) -> None:
        # If two epochs end at the same time, the trial that began first reports first.
        heapq.heappush(self._events, (now + curve.seconds, order, epoch, number, curve))

    def _goes_on(self, searcher: Searcher, now: float, epoch: int, number: int, curve: Prediction) -> bool:
        """Report an epoch that ended; return whether another one follows."""
        if epoch > len(curve.best):
            searcher.ended(number, Failure("the loss became NaN", Fault.DIVERGED))
            return False
        value = curve.best[epoch - 1]
        self.history.append((now, number, epoch, value))
        decision = searcher.epoch(number, _epoch_result(epoch, self._epochs, value, epoch * curve.seconds))
        if decision is Decision.CONTINUE and epoch < self._epochs:
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


def make_searcher(space: Space, workers: int, lesson: Callable[[Space], Lesson] = AsComplete) -> Searcher:
    """Make the searcher of a search that exists in memory only."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=build_sampler(space, lesson=lesson))
    folder = SearchFolder(Path("replay"))
    proposals = Proposals(study, space, folder, lambda config: config)
    rules = Rules(space.search, study)
    return Searcher(study, folder, proposals, workers, space.search.retries, make_asha(space, study), rules, Untold())


def simulate(space: Space, recorded: Recorded, method: str, workers: int, seed: int) -> Replay:
    """Simulate a search until the largest of `BUDGETS` is spent, in full trainings shared by all workers."""
    full = recorded.full_training()
    space, epochs = with_method(space, method, seed), max(space.values_of("epochs"))
    backend = Simulated(World(recorded, seed), workers, epochs, BUDGETS[-1] * full / workers)
    backend.run(make_searcher(space, workers, METHODS[method].lesson))
    spent: list[float] = []
    best: list[float] = []
    for now, _, _, value in backend.history:
        if not best or value > best[-1]:
            spent.append(round(now * workers / full, 4))
            best.append(round(value, 5))
    numbers = {number for _, number, _, _ in backend.history}
    finished = sum(epoch == epochs for _, _, epoch, _ in backend.history)
    return Replay(method, workers, seed, len(numbers), finished, tuple(spent), tuple(best))


# Many of them, kept in a file.


@dataclass(frozen=True)
class Plan:
    """The searches to replay, and the curves to replay them on."""

    space: Path
    curves: tuple[Path, ...]
    results: Path
    methods: tuple[str, ...] = tuple(METHODS)
    workers: tuple[int, ...] = (1, 4, 16)
    seeds: int = 30

    def recorded(self) -> Recorded:
        """Read the curves; raise InputError where they cannot be read or are too few."""
        return Recorded(load_space(self.space), read_curves(self.curves))

    def keys(self) -> list[tuple[str, int, int]]:
        """Return method, workers and seed of every search, ordered so that methods can be compared early."""
        return [
            (method, workers, seed) for seed in range(self.seeds) for workers in self.workers for method in self.methods
        ]


def replay(plan: Plan, recorded: Recorded, jobs: int) -> Iterator[Replay]:
    """Yield every search of the plan: first those in the file of results, then the others, each written when done."""
    stamp = _stamp(recorded, plan.space)
    done = read_results(plan.results, stamp)
    wanted = plan.keys()
    yield from (done[key] for key in wanted if key in done)
    left = [key for key in wanted if key not in done]
    if jobs == 1:
        results: Iterable[Replay] = (simulate(recorded.space, recorded, *key) for key in left)
    else:
        results = _parallel(recorded, left, jobs)
    for result in results:
        _append(plan.results, stamp, result)
        yield result


def _parallel(recorded: Recorded, left: Sequence[tuple[str, int, int]], jobs: int) -> Iterator[Replay]:
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed(pool.submit(simulate, recorded.space, recorded, *key) for key in left):
            yield future.result()


def _stamp(recorded: Recorded, space: Path) -> str:
    """Return a hash of what results depend on besides their key: the curves, the space and the searching code."""
    modules = (*_SEARCHES, __name__, World.__module__)
    files = [space, *(Path(str(sys.modules[module].__file__)) for module in modules)]
    text = "".join([repr(recorded.all), optuna.__version__, *(file.read_text(encoding="utf-8") for file in files)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_results(path: Path, stamp: str) -> dict[tuple[str, int, int], Replay]:
    """Read results by method, workers and seed; raise InputError where they are none, or of other curves."""
    found: dict[tuple[str, int, int], Replay] = {}
    if not path.is_file():
        return found
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a replay that was killed may leave half a line behind
        rows = list(csv.DictReader(io.StringIO(whole)))
        for row in rows:
            replayed = _of_row(row)
            found[replayed.method, replayed.workers, replayed.seed] = replayed
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as results of replays ({error!r})") from None
    if any(row["stamp"] != stamp for row in rows):
        raise InputError(f"{path}: was replayed over other curves, space or code; --results FILE names another")
    if whole != text:
        write_text(path, whole)
    return found


def _of_row(row: Mapping[str, str]) -> Replay:
    spent, best = (tuple(map(float, row[name].split())) for name in ("spent", "best"))
    workers, seed, trials, finished = (int(row[name]) for name in ("workers", "seed", "trials", "finished"))
    return Replay(row["method"], workers, seed, trials, finished, spent, best)


def _append(path: Path, stamp: str, replayed: Replay) -> None:
    row = {
        "stamp": stamp,
        **{name: getattr(replayed, name) for name in ("method", "workers", "seed", "trials", "finished")},
        **{name: " ".join(map(str, getattr(replayed, name))) for name in ("spent", "best")},
    }
    append_row(path, row)
