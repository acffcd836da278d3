"""What chance alone brings agrees with published tables."""

from __future__ import annotations

import math

import pytest

from segtune.evaluation.chance import critical, probability_above_zero


@pytest.mark.parametrize(
    ("gains", "freedom", "expected"),
    # Dunnett 1955, table 1 (one-sided, 5%); a single gain is Student's t.
    [(1, 10, 1.81), (3, 8, 2.42), (4, 20, 2.30), (9, 60, 2.48), (4, math.inf, 2.16)],
)
def test_critical_values_are_those_of_the_table(gains: int, freedom: float, expected: float) -> None:
    assert critical(gains, 0.05, freedom) == pytest.approx(expected, abs=0.006)


def test_probabilities_are_those_of_students_t() -> None:
    assert probability_above_zero(2.776, 1.0, 4) == pytest.approx(0.975, abs=2e-4)
    assert probability_above_zero(-0.1, 0.05, 1e6) == pytest.approx(0.02275, abs=2e-4)
    assert [probability_above_zero(gain, 0.0, 3) for gain in (-1.0, 0.0, 0.5)] == [0.0, 0.5, 1.0]
