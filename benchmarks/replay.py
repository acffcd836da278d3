"""Whole searches in virtual time: segtune's own searcher, sampler and scheduler, on curves that are looked up."""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from curves import append_row, read_curves
from surrogate import Prediction, Recorded, World

from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.folders import SearchFolder
from segtune.planning.rungs import rungs
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.tuning.asha import OBJECTIVE, Asha
from segtune.tuning.failures import NONFINITE
from segtune.tuning.sampler import build_sampler
from segtune.tuning.searcher import StudySearcher
from segtune.tuning.stopping import Rules

BUDGETS = (5, 10, 20, 50, 100)  # full trainings
METHODS: Mapping[str, Mapping[str, str]] = {  # by name: the settings of `search:`
    "random": {"sampler": "random", "scheduler": "none"},
    "random+asha": {"sampler": "random", "scheduler": "asha"},
    "tpe": {"sampler": "tpe", "scheduler": "none"},
    "tpe+asha complete": {"sampler": "tpe", "scheduler": "asha", "teach": "complete"},
    "tpe+asha pruned": {"sampler": "tpe", "scheduler": "asha", "teach": "pruned"},
    "tpe+asha top_rung": {"sampler": "tpe", "scheduler": "asha", "teach": "top_rung"},
}
_MANY = 1_000_000  # trials: the budget is what ends a replay
_SEARCHES = tuple(  # modules that are replayed
    f"segtune.tuning.{name}" for name in ("asha", "points", "sampler", "searcher", "teaching")
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
        """The best mIoU so far when so many full trainings were spent."""
        return max((best for spent, best in zip(self.spent, self.best, strict=True) if spent <= budget), default=0.0)

    def reached(self, miou: float) -> float:
        """Full trainings spent until this mIoU was reached; infinity where it was not."""
        return next((spent for spent, best in zip(self.spent, self.best, strict=True) if best >= miou), float("inf"))


def with_method(space: Space, method: str, seed: int) -> Space:
    """The space searched by a method: everything else of `search:` as it is when nothing is given."""
    update = {**METHODS[method], "trials": _MANY, "seed": seed}
    return replace(space, search=space.search.model_copy(update=update))


class Search:
    """A search on virtual workers, each of which trains one trial at a time at the speed that the world gives.

    Results reach scheduler and searcher in the order and the form in which Ray Tune brings them. What a search costs
    besides training (asking the sampler, starting trials) takes no virtual time.
    """

    def __init__(self, space: Space, world: World, workers: int) -> None:
        self._world, self._workers = world, workers
        self._epochs = max(space.values_of("epochs"))
        self._asha = (
            None
            if space.search.scheduler == "none"
            else Asha(rungs(space)[0], space.search.reduction_factor, self._epochs)
        )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(direction="maximize", sampler=build_sampler(space))
        self._searcher = StudySearcher(
            self.study,
            space,
            SearchFolder(Path("replay")),
            lambda config: config,
            workers,
            lambda: self._asha.stopped if self._asha else set(),
            Rules(space.search, self.study),
            lambda number: None,
            lambda number, reason: None,
        )
        self._events: list[tuple[float, int, int, Any, Prediction]] = []  # when, order, epoch, trial, its curve
        self._begun = 0
        self.history: list[tuple[float, int, int, float]] = []  # seconds, trial, epoch, best mIoU of the trial

    def run(self, seconds: float) -> None:
        """Let every worker train for so many seconds."""
        for _ in range(self._workers):
            self._begin(0.0)
        while self._events and self._events[0][0] <= seconds:
            now, _, epoch, trial, curve = heapq.heappop(self._events)
            if self._goes_on(now, epoch, trial, curve):
                self._schedule(now, epoch + 1, trial, curve)
            else:
                self._begin(now)

    def _begin(self, now: float) -> None:
        self._begun += 1
        name = str(self._begun)
        config = self._searcher.suggest(name)
        if not isinstance(config, dict):
            raise RuntimeError(f"the searcher gave {config!r} instead of a trial")
        trial = SimpleNamespace(trial_id=name, config=config)
        if self._asha:
            self._asha.on_trial_add(None, trial)
        self._schedule(now, 1, trial, self._world.train(config["settings"]))

    def _schedule(self, now: float, epoch: int, trial: Any, curve: Prediction) -> None:
        # Where two epochs end at once, the trial that began first reports first.
        heapq.heappush(self._events, (now + curve.seconds, int(trial.trial_id), epoch, trial, curve))

    def _goes_on(self, now: float, epoch: int, trial: Any, curve: Prediction) -> bool:
        """Tell of an epoch that ended; whether another one follows."""
        if epoch > len(curve.best):
            self._end(trial, {"error": "the loss became NaN", "fault": NONFINITE}, error=True)
            return False
        value = curve.best[epoch - 1]
        result = {"epoch": epoch, "epochs": self._epochs, OBJECTIVE: value, "seconds": epoch * curve.seconds}
        self.history.append((now, trial.config["number"], epoch, value))
        if self._asha and self._asha.on_trial_result(None, trial, result) == Asha.STOP:
            self._end(trial, result)  # Ray keeps the report that stops a trial from the searcher
            return False
        self._searcher.on_trial_result(trial.trial_id, result)
        if epoch == self._epochs:
            self._end(trial, result)
            return False
        return True

    def _end(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        if self._asha and not error:
            self._asha.on_trial_complete(None, trial, result)
        self._searcher.on_trial_complete(trial.trial_id, result)


def simulate(space: Space, recorded: Recorded, method: str, workers: int, seed: int) -> Replay:
    """A search until the largest of `BUDGETS` is spent: so many full trainings, shared by all workers."""
    full = recorded.full_training()
    search = Search(with_method(space, method, seed), World(recorded, seed), workers)
    search.run(BUDGETS[-1] * full / workers)
    spent: list[float] = []
    best: list[float] = []
    for now, _, _, value in search.history:
        if not best or value > best[-1]:
            spent.append(round(now * workers / full, 4))
            best.append(round(value, 5))
    numbers = {number for _, number, _, _ in search.history}
    epochs = max(space.values_of("epochs"))
    finished = sum(epoch == epochs for _, _, epoch, _ in search.history)
    return Replay(method, workers, seed, len(numbers), finished, tuple(spent), tuple(best))


# Many of them, kept in a file.


@dataclass(frozen=True)
class Plan:
    """Which searches are replayed, over what."""

    space: Path
    curves: tuple[Path, ...]
    results: Path
    methods: tuple[str, ...] = tuple(METHODS)
    workers: tuple[int, ...] = (1, 4, 16)
    seeds: int = 30

    def recorded(self) -> Recorded:
        """The curves; InputError where they cannot be read or are too few."""
        return Recorded(load_space(self.space), read_curves(self.curves))

    def keys(self) -> list[tuple[str, int, int]]:
        """Method, workers and seed of every search, so ordered that methods can be compared early."""
        return [
            (method, workers, seed) for seed in range(self.seeds) for workers in self.workers for method in self.methods
        ]


def replay(plan: Plan, recorded: Recorded, jobs: int) -> Iterator[Replay]:
    """Every search of the plan: those that the file of results holds, then the others, each written when it is done."""
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
    """What results depend on besides their key: the curves, the space, and the code that searches."""
    modules = (*_SEARCHES, __name__, World.__module__)
    files = [space, *(Path(str(sys.modules[module].__file__)) for module in modules)]
    text = "".join([repr(recorded.all), optuna.__version__, *(file.read_text(encoding="utf-8") for file in files)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_results(path: Path, stamp: str) -> dict[tuple[str, int, int], Replay]:
    """Results by method, workers and seed; InputError where they are of other curves, or the file is another one."""
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
