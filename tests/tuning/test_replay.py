"""benchmarks/search_quality.py replay: searches over recorded curves, in virtual time."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import replay
import search_quality
from curves import Curve
from found import Band, Results, ratios
from methods import METHODS, planned
from picture import draw
from recorded import Recorded, others_of, read_sets
from report import report, tables
from simulation import BUDGETS, LANDSCAPES, Ground, Key, Replay, Simulated, make_searcher, simulate
from surrogate import Prediction
from table import Table, in_table

from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.proposals import TrialStart
from segtune.tuning.searcher import Decision, Searcher
from tests.tuning.curves_of_sets import CONFIGURATIONS, EPOCHS, REPEATED, SETS, write_curves

NAMES = ("random", "random+asha", "random+asha+portfolio")
SEEDS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space and recorded curves."""
    folder = tmp_path_factory.mktemp("replay")
    write_curves(folder)
    return folder


@pytest.fixture(scope="module")
def sets(folder: Path) -> dict[str, Recorded]:
    """Return the recorded data sets."""
    return read_sets([folder / f"{name}.csv" for name in SETS], folder / "space.yaml")


def command(folder: Path, *more: str, results: str = "results.csv") -> list[str]:
    given = ["replay", "--space", f"{folder / 'space.yaml'}", "--curves", *(f"{folder / name}.csv" for name in SETS)]
    given += ["--results", f"{folder / results}", "--workers", "1", "--seeds", f"{SEEDS}", "--methods", *NAMES]
    given += ["--landscapes", "surrogate", "table"]
    return [*given, *more]


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    """Run a replay from the command line; return what it prints."""
    with redirect_stdout(StringIO()) as out:
        search_quality.main(command(folder, "--picture", f"{folder / 'picture.png'}"))
    return out.getvalue()


@pytest.fixture(scope="module")
def replayed(said: str, folder: Path) -> Path:
    """Return the results file of the replay."""
    return folder / "results.csv"


def means(text: str, title: str, after: str) -> dict[str, list[float]]:
    """Read the means of a table by method from the part of the report that begins with `after`."""
    lines = text[text.index(after) :].splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(title)) + 1
    rows = lines[begin : begin + len(NAMES)]
    return {row[:36].strip(): [float(cell) for cell in row[36:].split()[::2][: len(BUDGETS)]] for row in rows}


def searcher_of(space: Space, name: str, workers: int, seed: int = 0) -> Searcher:
    return make_searcher(METHODS[name].space(space, seed), workers, METHODS[name])


# The report


def test_where_early_epochs_tell_all_asha_and_the_others_help(said: str, folder: Path) -> None:
    for after in ("=== surrogate of the curves of all", "=== recorded configurations"):
        regret = means(said, "regret, mean over", after)
        assert list(regret) == list(NAMES)
        assert sum(regret["random"]) > sum(regret["random+asha"]) > sum(regret["random+asha+portfolio"])
    assert regret["random+asha+portfolio"][0] == pytest.approx(0, abs=0.01)  # after 5 full trainings
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_table_prints_is_the_mean_of_the_seeds_at_the_budget(said: str, replayed: Path) -> None:
    printed = means(said, "best mIoU on south", "=== surrogate")["random"][2]
    scores = []
    for row in csv.DictReader(replayed.open()):
        if (row["landscape"], row["set"], row["method"]) == ("surrogate", "south", "random"):
            pairs = zip(map(float, row["spent"].split()), map(float, row["best"].split()), strict=True)
            scores.append(max(best for spent, best in pairs if spent <= 20))
    assert len(scores) == SEEDS
    assert printed == pytest.approx(np.mean(scores), abs=1e-4)


def test_a_replay_goes_on_where_it_was_killed(replayed: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = replayed.read_text().splitlines(keepends=True)
    cut = folder / "cut.csv"
    cut.write_text("".join(lines[:-2]) + lines[-2][:40])
    simulated: list[Key] = []

    def counted(ground: Ground, key: Key) -> Replay:
        simulated.append(key)
        return simulate(ground, key)

    monkeypatch.setattr(replay, "simulate", counted)
    monkeypatch.setattr("report.about", lambda sets, regression: ["judged once, above"])
    search_quality.main(command(folder, results="cut.csv"))
    assert simulated == [Key(LANDSCAPES[-1], "south", name, 1, SEEDS - 1) for name in NAMES[-2:]]
    same = [[{**row, "cpu_seconds": ""} for row in csv.DictReader(path.open())] for path in (cut, replayed)]
    assert same[0] == same[1]  # the same seed finds the same


def test_the_band_is_students_t() -> None:
    band = Band.of([1.0, 2.0, 3.0])
    assert (band.mean, band.half) == (2.0, pytest.approx(4.302653 / math.sqrt(3)))
    assert Band.of([0.5]).half == math.inf


def test_ratios_are_of_medians_and_never_too_good(sets: dict[str, Recorded]) -> None:
    def found(method: str, seed: int, spent: float, best: float) -> Replay:
        key = Key("surrogate", "north", method, 1, seed)
        return Replay(key, (9, 9, 9, 9), 9, 0.0, (1.0, spent), (0.1, best))

    replays = [found("random", seed, spent, 0.5) for seed, spent in enumerate((20.0, 30.0, 40.0))]
    replays += [found("tpe", seed, spent, 0.6) for seed, spent in enumerate((3.0, 6.0, 9.0))]
    replays += [found("tpe+asha", seed, 2.0, 0.4) for seed in range(3)]  # never reaches 0.5
    ratio = ratios(Results(replays, {"north": sets["north"]}), 50)
    assert (ratio["random"]["north"].value, ratio["tpe"]["north"].value) == (1.0, 0.2)
    assert (ratio["tpe"]["north"].low, ratio["tpe"]["north"].high) == pytest.approx((3 / 20, 9 / 40))  # paired by seed
    assert ratio["tpe+asha"]["north"].value == pytest.approx(50 / 30)


def test_aims_and_losses_are_reported_as_they_are(sets: dict[str, Recorded]) -> None:
    def found(method: str, spent: tuple[float, ...], best: tuple[float, ...]) -> list[Replay]:
        keys = [Key("surrogate", name, method, 1, seed) for name in SETS for seed in range(4)]
        chance = [0.001 * key.seed * (1 + len(method)) for key in keys]
        return [
            Replay(k, (9, 9, 9, 9), 9, 1.0, spent, tuple(b + c for b in best))
            for k, c in zip(keys, chance, strict=True)
        ]

    replays = found("random", (1.0, 40.0), (0.3, 0.5)) + found("random+asha", (4.0, 30.0), (0.4, 0.6))
    replays += found("tpe+asha", (4.0, 15.0), (0.3, 0.7)) + found("tpe+asha+portfolio", (2.0, 4.0), (0.6, 0.8))
    lines = [line.strip() for line in tables(replays, sets)]
    assert "tpe+asha+portfolio: 0.04, reached" in lines  # half of random's runs never have the median: 2 / 50
    assert not any(line.startswith("tpe+asha: 0.") for line in lines)  # 15 / 50 of the time
    (worse,) = [line for line in lines if line.startswith("tpe+asha: ")]
    assert "north after 5 (-0.1" in worse
    assert "after 20" not in worse
    early = lines[next(n for n, line in enumerate(lines) if "less that of tpe+asha after 20" in line) :]
    rows = [next(line for line in early if line.startswith(f"{name} ")) for name in ("random", "tpe+asha+portfolio")]
    signs = [row.split()[-2][0] for row in rows]
    assert signs == ["+", "-"]  # regret


def test_one_seed_of_one_method_can_be_drawn(sets: dict[str, Recorded], tmp_path: Path) -> None:
    one = [Replay(Key("surrogate", "north", "random", 4, 0), (3, 3, 3, 3), 3, 0.1, (1.0, 2.0), (0.4, 0.5))]
    draw(one, sets, tmp_path / "new" / "one.png")
    assert (tmp_path / "new" / "one.png").stat().st_size > 5000


# What a method learns


def test_a_method_learns_from_the_other_data_sets_alone(folder: Path, sets: dict[str, Recorded]) -> None:
    north = sets["north"]
    assert [other.name for other in others_of(north, sets)] == ["south"]
    method = METHODS["tpe+asha+portfolio"]
    points = planned(method, north.space, others_of(north, sets))
    worse = [replace(curve, miou=tuple(1 - score for score in curve.miou)) for curve in north.all]
    changed = sets | {"north": Recorded("north", north.space, worse)}
    assert planned(method, north.space, others_of(changed["north"], changed)) == points
    assert planned(method, north.space, others_of(sets["south"], changed)) != points
    best = max(sets["south"].curves, key=Curve.best)
    assert points[0].point == north.space.locate(north.space.fixed | best.settings)


def test_a_search_of_few_trials_tries_the_first_entries(sets: dict[str, Recorded]) -> None:
    north, others, method = sets["north"], [sets["south"]], METHODS["tpe+promotion+portfolio"]
    every = planned(method, north.space, others)
    assert planned(replace(method, entries=2), north.space, others) == every[:2] != every
    assert METHODS["tpe+promotion+6 of portfolio"].entries == 6


def test_the_portfolio_is_tried_right_after_the_baseline(sets: dict[str, Recorded]) -> None:
    north, method = sets["north"], METHODS["random+asha+portfolio"]
    points = planned(method, north.space, [sets["south"]])
    searcher = make_searcher(method.space(north.space, 0), 1, method, [sets["south"]])
    Simulated(Steady(), 1, EPOCHS, 4 * EPOCHS).run(searcher)
    trials = searcher.study.get_trials(deepcopy=False)
    assert trials[0].params == north.space.locate(north.space.baseline.settings())
    assert [trial.params for trial in trials[1:4]] == [one.point for one in points[:3]]


def test_without_others_no_method_that_learns_is_replayed(folder: Path) -> None:
    plan = replay.Plan((folder / "north.csv",), folder / "none.csv", folder / "space.yaml", NAMES, (1,), 1)
    assert {key.method for key in plan.keys(plan.read())} == set(NAMES[:2])


def test_its_own_landscape_knows_nothing_of_the_other_data_sets(folder: Path, sets: dict[str, Recorded]) -> None:
    south = sets["south"]
    worse = [replace(curve, miou=tuple(0.3 * score for score in curve.miou[::-1])) for curve in south.all]
    changed = {"north": sets["north"], "south": Recorded("south", south.space, worse)}
    found = {}
    for landscape in ("surrogate", "own"):
        for number, some in enumerate((sets, changed)):
            results = folder / f"{landscape}{number}.csv"
            plan = replay.Plan((), results, None, ("random",), (1,), 1, (landscape,))
            found[landscape, number] = next(iter(replay.replay(plan, some, 1)))
    assert found["own", 0].best == found["own", 1].best
    assert found["surrogate", 0].best != found["surrogate", 1].best
    assert found["surrogate", 0].best != found["own", 0].best
    text = "\n".join(report([found["surrogate", 0], found["own", 0]], sets))
    for line in ("=== surrogate of the curves of all data sets,", "=== surrogate of the data set's own curves alone,"):
        assert line in text
    for name in ("shared and own process", "gaussian process, own set"):
        assert f"surrogate ({name}) on configurations that are left out" in text
    alone = replay.Plan((), folder / "none.csv", None, ("random",), (1,), 1)
    assert {key.landscape for key in alone.keys({"north": sets["north"]})} == {"surrogate", "table"}


# The simulation


class Steady:
    """A landscape in which every epoch takes a second and no configuration is better than another."""

    def train(self, settings: Mapping[str, Any]) -> Prediction:
        return Prediction((0.5,) * EPOCHS, 1.0, False)


@pytest.mark.parametrize("name", ["random", "random+asha"])
def test_four_workers_take_a_quarter_of_the_time(sets: dict[str, Recorded], name: str) -> None:
    ended = {}
    for workers in (1, 4):
        backend = Simulated(Steady(), workers, EPOCHS, 8 * EPOCHS / workers)
        backend.run(searcher_of(sets["north"].space, name, workers))
        assert len({number for _, number, epoch, _ in backend.history if epoch == 1}) >= 8
        ended[workers] = backend.history
    assert len(ended[4]) == len(ended[1]) == 8 * EPOCHS  # epochs
    assert ended[4][-1][0] == ended[1][-1][0] / 4
    assert [now for now, *_ in ended[4][:8]] == [1.0] * 4 + [2.0] * 4


def test_a_run_that_diverges_ends_its_trial_and_the_next_begins(sets: dict[str, Recorded]) -> None:
    class Broken(Steady):
        def train(self, settings: Mapping[str, Any]) -> Prediction:
            whole = settings["batch_size"] == 8
            return Prediction((0.5,) * (EPOCHS if whole else 2), 1.0, not whole)

    backend = Simulated(Broken(), 1, EPOCHS, 70)
    searcher = searcher_of(sets["north"].space, "random", 1)
    backend.run(searcher)
    ends = Counter(number for _, number, _, _ in backend.history)
    states = {trial.number: trial.state.name for trial in searcher.study.get_trials(deepcopy=False)}
    ended = {number: epochs for number, epochs in ends.items() if number < max(ends)}
    assert {2, EPOCHS} == set(ended.values())
    assert all(states[number] == ("FAIL" if epochs == 2 else "COMPLETE") for number, epochs in ended.items())


class InTurns:
    """A searcher that lets two trials train three epochs at a time."""

    error = None

    def __init__(self, space: Space) -> None:
        self._space = space
        self._waiting = [0, 1]

    def next_trial(self) -> TrialStart | None:
        return TrialStart(self._waiting.pop(0), self._space.baseline, Path("trial")) if self._waiting else None

    def epoch(self, number: int, result: EpochResult) -> Decision:
        return Decision.STOP if result.epoch % 3 == 0 else Decision.CONTINUE

    def ended(self, number: int) -> None:
        self._waiting.append(number)


def test_a_trial_that_comes_back_goes_on_at_its_next_epoch(sets: dict[str, Recorded]) -> None:
    backend = Simulated(Steady(), 1, EPOCHS, 12.5)
    backend.run(InTurns(sets["north"].space))  # type: ignore[arg-type]
    assert [(number, epoch) for _, number, epoch, _ in backend.history] == [
        *((number, epoch) for first in (1, 4) for number in (0, 1) for epoch in range(first, first + 3))
    ]


# Recorded configurations alone


def test_a_table_tries_the_entries_of_a_portfolio_that_it_holds(sets: dict[str, Recorded]) -> None:
    south, method = sets["south"], METHODS["random+asha+portfolio"]
    (best, *_), first = planned(method, sets["north"].space, [south]), sets["north"]
    fewer = [curve for curve in first.all if first.space.locate(first.space.fixed | curve.settings) != best.point]
    north = Recorded("north", first.space, fewer)
    simulate(Ground(north, {}, (south,)), Key("table", "north", "random+asha+portfolio", 1, 0))
    points = [one.point for one in planned(method, north.space, [south], north)]
    assert points
    assert best.point not in points
    assert all(north.number_of(north.space.settings_at(point)) is not None for point in points)


@pytest.mark.parametrize("name", ["random", "tpe+asha"])
def test_a_table_offers_each_recorded_configuration_once(sets: dict[str, Recorded], name: str) -> None:
    north, method = sets["north"], METHODS[name]
    space = method.space(in_table(north.space, north), 0, CONFIGURATIONS)
    searcher = make_searcher(space, 4, method, (), north)
    backend = Simulated(Table(north, 0), 4, EPOCHS, 1e9)
    backend.run(searcher)  # it ends when all were tried
    tried = [trial.params for trial in searcher.study.get_trials(deepcopy=False)]
    recorded = [north.space.locate(north.space.fixed | curve.settings) for curve in north.curves]
    assert sorted(map(repr, map(sorted, map(dict.items, tried)))) == sorted(
        repr(sorted(point.items())) for point in recorded if point
    )
    assert not backend.goes_on


def test_a_repeated_configuration_has_the_curve_of_the_seed(sets: dict[str, Recorded]) -> None:
    north = sets["north"]
    first, second = north.runs_of(REPEATED)
    for seed, curve in enumerate((first, second, first)):
        found = Table(north, seed).train(north.space.fixed | curve.settings)
        assert found == Prediction(curve.best(), 2.0, False)
