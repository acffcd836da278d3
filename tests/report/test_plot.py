"""Axes: round ticks, and places in percent."""

from __future__ import annotations

import math

import pytest

from segtune.report.plot import Axis, axis, score_axis


@pytest.mark.parametrize(
    ("values", "whole", "texts"),
    [
        ([0.0, 1.0], False, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.61, 0.64], False, ["0.61", "0.62", "0.63", "0.64"]),
        ([1, 12], True, ["2", "4", "6", "8", "10", "12"]),
        ([0], True, ["0"]),
        ([3, 4], True, ["3", "4"]),
        ([1000, 5000], False, ["1000", "2000", "3000", "4000", "5000"]),
    ],
)
def test_ticks_are_round(values: list[float], whole: bool, texts: list[str]) -> None:
    found = axis("x", values, whole)
    assert [tick.text for tick in found.ticks] == texts
    assert all(0 <= tick.place <= 100 for tick in found.ticks)
    assert all(0 < found.place(value) < 100 for value in values)


@pytest.mark.parametrize("values", [[], [math.nan], [0.5], [0.0], [1.0, 1.0], [-1.0]])
def test_odd_values_have_an_axis(values: list[float]) -> None:
    for found in (axis("x", values), axis("x", values, from_zero=True), score_axis("mIoU", values)):
        assert found.low < found.high
        assert found.ticks


def test_a_logarithmic_axis_places_by_factors() -> None:
    assert Axis("lr", 1e-4, 1e-2, (), log=True).place(1e-3) == 50


def test_scores_stay_between_0_and_1() -> None:
    found = score_axis("mIoU", [0.0, 1.0])
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ("0.00", "1.00")),
        (0.25, 0.75, ("0.25", "0.75")),
        (0.9, 0.95, ("0.900", "0.950")),
        (0.9312, 0.9349, ("0.9312", "0.9349")),
        (0.5, 0.50002, ("0.500000", "0.500020")),
    ],
)
def test_the_ends_of_an_axis_have_the_digits_of_its_range(low: float, high: float, texts: tuple[str, str]) -> None:
    assert Axis("mIoU", low, high, ()).ends == texts
