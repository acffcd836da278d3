"""How the entries of a portfolio are mapped into a search space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from segtune.planning.first_runs import FirstRuns, first_runs, nearest
from segtune.planning.portfolio import Entry, Portfolio
from segtune.space.parameters import Choice, Range
from segtune.space.reader import load_space
from segtune.space.space import Space

ADAMW: Mapping[str, Any] = {
    "encoder_weights": "none",
    "encoder": "resnet34",
    "loss": "dice+ce",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.02,
    "lr_schedule": "onecycle",
    "augmentation": "light",
    "batch_size": 8,
}
SGD: Mapping[str, Any] = {**ADAMW, "optimizer": "sgd", "lr": 0.2, "weight_decay": 1e-4, "momentum": 0.95}
FIXED = "run: {encoder_weights: none}\n"


def space_of(folder: Path, text: str, **search: Any) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path, search_overrides=search)


def mapped(space: Space, *entries: Mapping[str, Any], refused: str | None = None) -> FirstRuns:
    portfolio = Portfolio(tuple(Entry(entry) for entry in entries), {})
    return first_runs(portfolio, space, lambda settings: refused)


BROAD = """
run: {encoder_weights: none, batch_size: 4}
space:
  encoder: [resnet18, resnet34]
  loss: [dice, dice+ce]
  optimizer:
    adamw: {lr: {low: 1e-4, high: 1e-2, log: true}, weight_decay: {low: 1e-5, high: 0.1, log: true}}
    sgd: {lr: {low: 1e-3, high: 0.1, log: true}, momentum: {low: 0.8, high: 0.99}}
  model: [unet, fpn]
search: {trials: 20}
"""


def test_a_point_has_an_entrys_values_and_else_those_of_the_baseline(tmp_path: Path) -> None:
    found = mapped(space_of(tmp_path, BROAD + "baseline: {model: fpn}\n"), ADAMW, SGD)
    assert found.points == (
        {
            "encoder": "resnet34",
            "loss": "dice+ce",
            "optimizer": "adamw",
            "optimizer.adamw.lr": 2e-3,
            "optimizer.adamw.weight_decay": 0.02,
            "model": "fpn",
        },
        {
            "encoder": "resnet34",
            "loss": "dice+ce",
            "optimizer": "sgd",
            "optimizer.sgd.lr": 0.1,  # the nearest
            "optimizer.sgd.momentum": 0.95,
            "model": "fpn",
        },
    )


def test_what_the_space_fixes_stays_fixed(tmp_path: Path) -> None:
    space = space_of(tmp_path, BROAD)
    assert all(space.settings_at(point)["batch_size"] == 4 for point in mapped(space, ADAMW, SGD).points)


def test_an_optimizer_that_the_space_lacks_is_left_out(tmp_path: Path) -> None:
    text = "space: {optimizer: [adamw, lion], lr: {low: 1e-4, high: 1, log: true}}\n" + FIXED
    assert [point["optimizer"] for point in mapped(space_of(tmp_path, text), SGD, ADAMW).points] == ["adamw"]
    fixed = "space: {lr: {low: 1e-4, high: 1, log: true}}\nrun: {encoder_weights: none, optimizer: sgd}\n"
    assert mapped(space_of(tmp_path, fixed), ADAMW, SGD).points == ({"lr": 0.2},)


def test_a_similar_optimizer_takes_the_learning_rate_alone(tmp_path: Path) -> None:
    text = "space: {optimizer: [adam, sgd], lr: [1e-4, 1e-3, 1e-2], weight_decay: [0, 1e-4, 1e-2]}\n"
    space = space_of(tmp_path, text + FIXED + "baseline: {weight_decay: 0}\n")
    assert mapped(space, ADAMW).points == ({"optimizer": "adam", "lr": 1e-3, "weight_decay": 0},)


def test_entries_for_other_initial_weights_are_left_out(tmp_path: Path) -> None:
    pretrained = {**ADAMW, "encoder_weights": "imagenet", "lr": 3e-4}
    text = "space: {lr: {low: 1e-4, high: 1, log: true}}\nrun: {encoder_weights: %s}\n"
    assert mapped(space_of(tmp_path, text % "none"), pretrained, ADAMW).points == ({"lr": 2e-3},)
    assert mapped(space_of(tmp_path, text % "imagenet"), pretrained, ADAMW).points == ({"lr": 3e-4},)
    assert mapped(space_of(tmp_path, text % "own.safetensors"), pretrained, ADAMW).points == ({"lr": 3e-4},)


def test_weights_and_encoders_in_branches_are_placed(tmp_path: Path) -> None:
    text = """
space:
  encoder_weights:
    none: {encoder: [resnet18, resnet34]}
    imagenet: {encoder: [resnet18, mobilenet_v2], encoder_lr_factor: {low: 0.1, high: 1, log: true}}
  batch_size: [4, 8]
"""
    pretrained = {**ADAMW, "encoder_weights": "imagenet", "encoder": "mobilenet_v2", "encoder_lr_factor": 0.3}
    assert mapped(space_of(tmp_path, text), ADAMW, pretrained).points == (
        {"encoder_weights": "none", "encoder_weights.none.encoder": "resnet34", "batch_size": 8},
        {
            "encoder_weights": "imagenet",
            "encoder_weights.imagenet.encoder": "mobilenet_v2",
            "encoder_weights.imagenet.encoder_lr_factor": 0.3,
            "batch_size": 8,
        },
    )


def test_an_entry_of_which_too_little_fits_is_left_out(tmp_path: Path) -> None:
    text = "space: {loss: [focal, mcc], augmentation: [none, hard], batch_size: [64, 128], lr: [1e-3, 1e-2]}\n"
    assert not mapped(space_of(tmp_path, text + FIXED), ADAMW).points


def test_nothing_comes_from_a_portfolio_that_knows_no_searched_setting(tmp_path: Path) -> None:
    found = mapped(space_of(tmp_path, "space: {image_size: [128, 256], model: [unet, fpn]}\n" + FIXED), ADAMW)
    assert found == FirstRuns((), 0, 1)
    assert str(found) == "start: baseline, then what the sampler draws; none of the 1 portfolio entries fits this space"


def test_encoders_that_only_dpt_takes_have_those_of_the_baseline(tmp_path: Path) -> None:
    """Nothing tells which of them stands for a convolutional encoder."""
    text = """
run: {model: dpt, image_size: 224, encoder_weights: none}
space: {encoder: [tu-vit_small_patch16_224, tu-vit_base_patch16_224], lr: {low: 1e-5, high: 1e-2, log: true}}
baseline: {encoder: tu-vit_base_patch16_224}
"""
    found = mapped(space_of(tmp_path, text), ADAMW, {**ADAMW, "encoder": "tu-vit_tiny_patch16_224", "lr": 1e-4})
    assert found.points == (
        {"encoder": "tu-vit_base_patch16_224", "lr": 2e-3},
        {"encoder": "tu-vit_base_patch16_224", "lr": 1e-4},
    )


def test_points_are_different_from_each_other_and_from_the_baseline(tmp_path: Path) -> None:
    text = "space: {encoder: [resnet18, resnet34, resnet50]}\nsearch: {trials: 30}\nbaseline: {encoder: resnet18}\n"
    entries = [{**ADAMW, "encoder": name} for name in ("resnet18", "resnet34", "resnet34", "resnet101")]
    found = mapped(space_of(tmp_path, text + FIXED), *entries)
    assert [point["encoder"] for point in found.points] == ["resnet34", "resnet50"]
    assert str(found) == "start: baseline, then the 2 portfolio entries that fit this space (of 4)"


def test_points_that_cannot_be_run_are_left_out(tmp_path: Path) -> None:
    assert not mapped(space_of(tmp_path, BROAD), ADAMW, refused="forbid: it").points


@pytest.mark.parametrize(("trials", "expected"), [(2, 0), (3, 1), (8, 2), (9, 3), (100, 4)])
def test_a_third_of_the_trials_begins_with_the_portfolio(tmp_path: Path, trials: int, expected: int) -> None:
    entries = [{**ADAMW, "lr": lr} for lr in (1e-3, 2e-3, 3e-3, 4e-3)]
    found = mapped(space_of(tmp_path, BROAD, trials=trials), *entries)
    assert len(found.points) == expected
    assert found.fitting == 4
    if trials == 9:
        which = "3 of the 4 portfolio entries that fit this space (at most a third of the trials)"
        assert str(found) == f"start: baseline, then {which}"
    if trials == 2:
        few = "the portfolio gets a third of the trials, so it begins at 3 trials"
        assert str(found) == f"start: baseline, then what the sampler draws; {few}"


@pytest.mark.parametrize(
    ("prior", "line"),
    [
        ("lr: 3e-3", "start: baseline, the values of prior, then the portfolio entry that fits this space (of 1)"),
        ("lr: 1e-3", "start: baseline, then the portfolio entry that fits this space (of 1)"),  # is the baseline
    ],
)
def test_the_line_names_what_the_user_expects(tmp_path: Path, prior: str, line: str) -> None:
    text = "space: {lr: {low: 1e-4, high: 1, log: true}}\nbaseline: {lr: 1e-3}\n"
    assert str(mapped(space_of(tmp_path, f"{text}prior: {{{prior}}}\n{FIXED}"), ADAMW)) == line


def test_the_line_of_a_search_without_a_portfolio(tmp_path: Path) -> None:
    text = "space: {lr: {low: 1e-4, high: 1, log: true}}\nprior: {lr: 3e-3}\n"
    found = mapped(space_of(tmp_path, text + FIXED))
    assert str(found) == "start: baseline, the values of prior, then what the sampler draws"


def test_a_grid_begins_with_none(tmp_path: Path) -> None:
    text = "space: {encoder: [resnet18, resnet34]}\nsearch: {sampler: grid}\n" + FIXED
    assert not mapped(space_of(tmp_path, text), ADAMW).points


@pytest.mark.parametrize(
    ("name", "values", "value", "expected"),
    [
        ("batch_size", (2, 4, 16, 32), 8, 4),
        ("lr", (1e-4, 1e-3, 1e-1), 8e-3, 1e-3),
        ("augmentation", ("none", "hard"), "medium", "hard"),
        ("augmentation", ("none", "own.yaml"), "light", "none"),
        ("loss", ("mcc", "dice+focal", "ce"), "dice", "dice+focal"),
        ("loss", ("0.7*dice+0.3*ce", "mcc+ce"), "dice+ce", "0.7*dice+0.3*ce"),
        ("encoder", ("resnet50", "resnet101"), "resnet34", "resnet50"),
        ("encoder", ("resnet18", "mit_b0", "efficientnet-b3"), "tu-tf_efficientnet_lite0", "efficientnet-b3"),
        ("encoder", ("resnet18", "mit_b0"), "tu-tf_efficientnet_lite0", "mit_b0"),
        ("encoder", ("tu-mobilenetv3_large_100", "resnet18"), "mobilenet_v2", "tu-mobilenetv3_large_100"),
    ],
)
def test_the_nearest_value_of_a_list(name: str, values: tuple[Any, ...], value: Any, expected: Any) -> None:
    assert nearest(Choice(name, name, values, ((),) * len(values)), value)[0] == expected


@pytest.mark.parametrize(
    ("wanted", "of", "expected"),
    [
        (3e-3, Range("lr", "lr", 1e-4, 1e-1, True, None, False), 3e-3),
        (0.5, Range("lr", "lr", 1e-4, 1e-1, True, None, False), 0.1),
        (0.93, Range("momentum", "momentum", 0.8, 0.99, False, 0.05, False), 0.95),
        (9, Range("batch_size", "batch_size", 2, 32, False, 4, True), 10),
        (7, Range("batch_size", "batch_size", 2, 32, True, None, True), 7),
    ],
)
def test_the_nearest_number_of_a_range(wanted: float, of: Range, expected: float) -> None:
    found, _ = nearest(of, wanted)
    assert found == expected
    assert found in of
