"""What is searched for, as people write it."""

from __future__ import annotations

from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.objectives import Objective, objective_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("miou", "miou"),
        ("F1", "f1"),
        ("iou/007", "iou/7"),
        ("iou/3 + 2*iou/1", "2*iou/1+iou/3"),
        ({"iou/3": 1, "iou/1": 2.0}, "2*iou/1+iou/3"),
        ({"boundary_iou": 0.5, "miou": 1}, "miou+0.5*boundary_iou"),
        ("3*f1", "f1"),
    ],
)
def test_an_objective_has_one_spelling(given: Any, name: str) -> None:
    assert objective_name(given) == name == objective_name(name)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("moiu", "unknown measure 'moiu'; did you mean 'miou'"),
        ("iou/water", "after iou/ comes the label"),
        ("f1+f1", "contains a measure twice"),
        ({"f1": 0}, "the weight of f1 must be a number above 0"),
        ({}, "names no measure"),
        (3, "must be miou, f1, boundary_iou"),
        ("f1+", "unknown measure ''"),
    ],
)
def test_what_is_no_objective_is_refused_with_a_reason(given: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("/", r"\/").replace("(", r"\(")):
        Objective.of(given)


def test_an_objective_says_what_it_needs() -> None:
    mixed = Objective.of("boundary_iou+iou/5+2*iou/2")
    assert (mixed.labels, mixed.needs_outlines, mixed.is_miou) == ((2, 5), True, False)
    assert Objective.of("miou").is_miou
    assert not Objective.of("miou").needs_outlines


def test_a_run_refuses_the_iou_of_a_label_that_is_no_class() -> None:
    assert RunConfig.from_settings({"classes": [1, 3], "objective": {"iou/3": 2, "f1": 1}}).objective == "f1+2*iou/3"
    with pytest.raises(InputError, match=r"objective: iou/2 is the IoU of label 2, but classes is \[1, 3\]"):
        RunConfig.from_settings({"classes": [1, 3], "objective": "iou/2"})
