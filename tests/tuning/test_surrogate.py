"""benchmarks/surrogate.py and judge.py: predict curves of configurations that were not recorded."""

from __future__ import annotations

from pathlib import Path

import gaussian
import judge
import numpy as np
import pytest
import search_quality
from curves import Curve, drawn
from judge import CHOSEN, candidates, cross_validate
from recorded import Recorded, pools, read_sets
from surrogate import World, fit

from tests.tuning.curves_of_sets import SETS, miou, write_curves


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space and recorded curves."""
    folder = tmp_path_factory.mktemp("surrogate")
    write_curves(folder)
    return folder


@pytest.fixture(scope="module")
def sets(folder: Path) -> dict[str, Recorded]:
    """Return the recorded data sets."""
    return read_sets([folder / f"{name}.csv" for name in SETS], folder / "space.yaml")


def test_a_process_interpolates_and_says_what_it_does_not_know() -> None:
    x = np.linspace(0, 0.5, 12)[:, None]
    y = np.column_stack([np.sin(9 * x[:, 0]), np.cos(9 * x[:, 0])])
    kernel = gaussian.Kernel(variance=1.0, noise=1e-3, scales=np.array([0.2]))
    known, unknown = np.array([[0.26]]), np.array([[3.0]])
    assert gaussian.mean(kernel, x, y, known)[0] == pytest.approx([np.sin(2.34), np.cos(2.34)], abs=0.02)
    assert gaussian.mean(kernel, x, y, unknown)[0] == pytest.approx([0, 0], abs=1e-3)
    functions = [gaussian.Drawn(kernel, x, y, seed) for seed in range(200)]
    there = np.array([function(known)[0] for function in functions])
    beyond = np.array([function(unknown)[0] for function in functions])
    assert there.mean(0) == pytest.approx(gaussian.mean(kernel, x, y, known)[0], abs=0.01)
    assert there.std(0).max() < 0.1
    assert beyond.std(0) == pytest.approx(y.std(0, ddof=1), rel=0.2)
    assert (functions[0](known) == gaussian.Drawn(kernel, x, y, 0)(known)).all()


def test_data_sets_that_are_alike_help_each_other(sets: dict[str, Recorded]) -> None:
    (pool,) = pools(sets)
    own, pooled = (
        cross_validate(pool, candidates()[name], everywhere=False) for name in ("gaussian process, own set", CHOSEN)
    )
    for name in SETS:
        assert pooled[name][-1].error < 0.5 * own[name][-1].error
        assert pooled[name][-1].spearman > 0.95


def test_regressions_are_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("trees, own set, mIoU", CHOSEN)
    some = {name: candidates()[name] for name in names}
    monkeypatch.setattr(judge, "candidates", lambda: some)
    given = ["judge", "--space", f"{folder / 'space.yaml'}", "--curves", f"{folder / 'north.csv'}"]
    search_quality.main(given)
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in names)
    assert "left out of this data set alone" not in text  # there is no other one


def test_chance_never_lifts_a_configuration_beyond_the_ceiling(sets: dict[str, Recorded]) -> None:
    north = sets["north"]
    seed = north.space.baseline.seed
    wrong = [
        Curve(c.number, c.seed, c.settings, tuple(0.1 * score for score in c.miou), c.seconds, False)
        if c.seed != seed and c.number % 2
        else c
        for c in north.all
    ]
    (surrogate,) = fit([Recorded("wrong", north.space, wrong)])
    world = World(surrogate, 0)
    scores = [world.train(north.space.fixed | drawn(north.space, 1, number)).best[-1] for number in range(100)]
    assert max(scores) < max(max(c.miou) for c in wrong) + 0.021
    assert min(scores) < 0.5 * min(max(c.miou) for c in wrong if c.seed == seed)  # chance does harm


def test_a_world_agrees_with_what_was_recorded(sets: dict[str, Recorded]) -> None:
    (pool,) = pools(sets)
    for recorded, surrogate in zip(pool, fit(pool), strict=True):
        worlds = [World(surrogate, seed) for seed in range(2)]
        for curve in recorded.curves:
            first, second = (world.train(recorded.space.fixed | curve.settings) for world in worlds)
            assert first.best[-1] == pytest.approx(miou(curve.settings, SETS[recorded.name]), abs=0.04)
            assert first.best != second.best  # what is left open differs
            assert first == worlds[0].train(recorded.space.fixed | curve.settings)
            assert first.seconds == pytest.approx(2.0)
            assert not first.diverged
