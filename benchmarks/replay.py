"""Simulate many searches: every method on every data set, and keep the results in a file."""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import optuna
from curves import append_row
from methods import METHODS
from recorded import Recorded, others_of, pools, read_sets
from simulation import LANDSCAPES, OWN, SURROGATE, Ground, Key, Replay, simulate
from surrogate import Surrogate, fit

import segtune.planning
import segtune.space
import segtune.tuning
from segtune.errors import InputError
from segtune.files.atomic import write_text

# Code that decides what a replay finds.
_PACKAGES = (segtune.planning, segtune.space, segtune.tuning)
_SCRIPTS = (
    *("build_portfolio", "curves", "gaussian", "methods", "prediction", "recorded", "replay"),
    *("samplers", "simulation", "surrogate", "table"),
)


@dataclass(frozen=True)
class Plan:
    """The searches to replay, and the curves to replay them on."""

    curves: tuple[Path, ...]
    results: Path
    space: Path | None = None  # of all curves; None: each data set has its own
    methods: tuple[str, ...] = tuple(METHODS)
    workers: tuple[int, ...] = (1, 4)
    seeds: int = 30
    landscapes: tuple[str, ...] = LANDSCAPES

    def read(self) -> dict[str, Recorded]:
        """Read the curves of every data set; raise InputError where they cannot be read or are too few."""
        sets = read_sets(self.curves, self.space)
        for recorded in sets.values():
            _ = recorded.repeats  # also too few of them are an InputError
        return sets

    def keys(self, sets: Mapping[str, Recorded]) -> list[Key]:
        """Return every search, ordered so that methods can be compared early.

        Where no other data set has the same space, a method that learns from others is left out, and so is the
        landscape of the data set's own curves, which is then that of all curves.
        """
        return [
            Key(landscape, name, method, workers, seed)
            for seed in range(self.seeds)
            for landscape in self.landscapes
            for name, recorded in sets.items()
            for workers in self.workers
            for method in self.methods
            if not (METHODS[method].needs_others or landscape == OWN) or others_of(recorded, sets)
        ]


def replay(plan: Plan, sets: Mapping[str, Recorded], jobs: int) -> Iterator[Replay]:
    """Yield every search of the plan: first those in the file of results, then the others, each written when done."""
    stamp = _stamp(sets)
    done = read_results(plan.results, stamp)
    wanted = plan.keys(sets)
    yield from (done[key] for key in wanted if key in done)
    left = [key for key in wanted if key not in done]
    if not left:
        return
    grounds = _grounds(sets, {key.landscape for key in left})
    if jobs == 1:
        results: Iterable[Replay] = (simulate(grounds[key.set], key) for key in left)
    else:
        results = _parallel(grounds, left, jobs)
    for result in results:
        _append(plan.results, stamp, result)
        yield result


def _grounds(sets: Mapping[str, Recorded], landscapes: Collection[str]) -> dict[str, Ground]:
    """Prepare the data sets; what a search on one may learn from are the others, and never itself."""
    fitted: dict[str, dict[str, Surrogate]] = {name: {} for name in sets}
    fits = {SURROGATE: pools(sets), OWN: [[recorded] for recorded in sets.values()]}
    for landscape, groups in fits.items():
        for each in (one for group in groups if landscape in landscapes for one in fit(group)):
            fitted[each.recorded.name][landscape] = each
    return {name: Ground(own, fitted[name], tuple(others_of(own, sets))) for name, own in sets.items()}


def _parallel(grounds: Mapping[str, Ground], left: Sequence[Key], jobs: int) -> Iterator[Replay]:
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(simulate, grounds[key.set], key) for key in left]):
            yield future.result()


def _stamp(sets: Mapping[str, Recorded]) -> str:
    """Return a hash of what results depend on besides their key: the curves, the spaces and the searching code."""
    spaces = [(own.space.parameters, own.space.baseline, own.all) for _, own in sorted(sets.items())]
    code = [path.read_text(encoding="utf-8") for path in deciding_code()]
    return hashlib.sha256("".join([repr((sorted(sets), spaces)), optuna.__version__, *code]).encode()).hexdigest()[:12]


def deciding_code() -> list[Path]:
    """Return the files whose code decides what a replay finds."""
    modules = [path for package in _PACKAGES for folder in package.__path__ for path in Path(folder).rglob("*.py")]
    return sorted(modules) + [Path(__file__).with_name(f"{name}.py") for name in _SCRIPTS]


def read_results(path: Path, stamp: str) -> dict[Key, Replay]:
    """Read results by their key; raise InputError where they are none, or of other curves."""
    found: dict[Key, Replay] = {}
    if not path.is_file():
        return found
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a replay that was killed may leave half a line behind
        rows = list(csv.DictReader(io.StringIO(whole)))
        for row in rows:
            replayed = _of_row(row)
            found[replayed.key] = replayed
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as results of replays ({error!r})") from None
    if any(row["stamp"] != stamp for row in rows):
        raise InputError(f"{path}: was replayed over other curves, space or code; --results FILE names another")
    if whole != text:
        write_text(path, whole)
    return found


def _of_row(row: Mapping[str, str]) -> Replay:
    key = Key(row["landscape"], row["set"], row["method"], int(row["workers"]), int(row["seed"]))
    trials = tuple(map(int, row["trials"].split()))
    spent, best = (tuple(map(float, row[name].split())) for name in ("spent", "best"))
    return Replay(key, trials, int(row["finished"]), float(row["cpu_seconds"]), spent, best)


def _append(path: Path, stamp: str, replayed: Replay) -> None:
    row = {
        "stamp": stamp,
        **{name: getattr(replayed.key, name) for name in ("landscape", "set", "method", "workers", "seed")},
        **{name: getattr(replayed, name) for name in ("finished", "cpu_seconds")},
        **{name: " ".join(map(str, getattr(replayed, name))) for name in ("trials", "spent", "best")},
    }
    append_row(path, row)
