"""benchmarks/prediction.py: the paused trial whose curve promises most goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from curves import Curve, drawn
from prediction import by_prediction, expected_improvement
from recorded import Recorded

from segtune.space.reader import load_space
from segtune.tuning.promotion import Rung, Standings, promotable
from tests.tuning.curves_of_sets import CONFIGURATIONS, EPOCHS, SPACE


def flat(end: float) -> list[float]:
    return [end] * EPOCHS


def rising(end: float) -> list[float]:
    return [end * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """A data set on which half of the runs learn all they can at once, and the others end better."""
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(tmp_path / "space.yaml")
    seconds = tuple(float(epoch) for epoch in range(1, EPOCHS + 1))
    curves = []
    for number in range(CONFIGURATIONS):
        miou = rising(0.8 + number / 300) if number % 2 else flat(0.2 + number / 150)
        curves.append(Curve(number, space.baseline.seed, drawn(space, 0, number), tuple(miou), seconds, False))
    return Recorded("north", space, curves)


def standings(*curves: list[float], epochs: int = 3) -> Standings:
    """Trials 1, 2, ... that wait after some epochs; the baseline is poor."""
    trials = dict(enumerate((flat(0.1), *curves)))
    scores = {number: curve[epochs - 1] for number, curve in trials.items()}
    seen = {number: dict(enumerate(curve[:epochs], 1)) for number, curve in trials.items()}
    return Standings(3, (Rung(epochs, scores, set(trials) - {0}),), 0, seen)


def test_a_run_that_rises_goes_on_before_one_that_is_ahead(recorded: Recorded) -> None:
    waiting = standings(flat(0.4), rising(0.85), flat(0.38), flat(0.35))
    assert promotable(waiting) == 1
    assert by_prediction([recorded], EPOCHS)(waiting, 0) == 2


def test_as_many_go_on_as_without_prediction(recorded: Recorded) -> None:
    choose = by_prediction([recorded], EPOCHS)
    assert promotable(standings(rising(0.85))) is None
    assert choose(standings(rising(0.85)), 0) is None
    assert choose(standings(rising(0.85)), 1) == 1


def test_the_expected_improvement_is_that_of_a_normal_variable() -> None:
    assert expected_improvement(0.5, 0.1, 0.5) == pytest.approx(0.1 / math.sqrt(2 * math.pi))
    assert expected_improvement(0.9, 0.01, 0.5) == pytest.approx(0.4)
    assert expected_improvement(0.1, 0.01, 0.5) == pytest.approx(0)
