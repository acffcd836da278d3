"""Grids and their size, and the values and combinations that runs can have."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import yaml

from segtune.errors import InputError
from segtune.space.parameters import RandomSuggest
from segtune.space.reader import load_space
from tests.space.spaces import DEEP, FULL, Replay


def test_values_of(space_of):
    space = space_of(FULL)
    assert space.values_of("encoder") == ("resnet18", "mobilenet_v2")
    assert space.values_of("batch_size") == (4, 8, 12, 16)
    assert space.values_of("epochs") == (27,)
    assert space.values_of("model") == ("deeplabv3plus",)
    assert space.values_of("momentum") == (0.8, 0.9)  # 0.9 is also the default in branches that do not search it
    assert space.values_of("weight_decay") == (1e-6, 1e-1, 1e-4)


def test_values_of_leaves_out_a_default_that_no_run_has(space_of):
    space = space_of("space: {model: {unet: {encoder: [resnet18]}, fpn: {encoder: [resnet18, resnet34]}}}")
    assert space.values_of("encoder") == ("resnet18", "resnet34")


def test_grid_varies_the_last_parameter_fastest(space_of):
    space = space_of("space: {encoder: [a, b], lr: {low: 0.1, high: 0.3, step: 0.1}, loss: [ce, dice]}")
    grid = [tuple(point.values()) for point in space.grid()]
    assert grid == list(itertools.product("ab", (0.1, 0.2, 0.3), ("ce", "dice")))
    assert space.size() == len(grid) == 12


def test_size_is_the_length_of_a_grid_with_branches(space_of):
    text = "space: {optimizer: {adam: {}, sgd: {momentum: [0, 0.5], lr: [0.1, 0.2]}}, loss: [ce, dice]}"
    space = space_of(text)
    grid = list(space.grid())
    assert space.size() == len(grid) == 10
    assert len({tuple(point.items()) for point in grid}) == 10
    for point in grid:
        assert space.locate(space.draw(Replay(point))) == point


def test_the_compared_setting_varies_fastest(space_of):
    search = "search: {sampler: grid, scheduler: none, compare: encoder}"
    space = space_of(f"space: {{encoder: [a, b], loss: [ce, dice]}}\n{search}")
    grid = [(point["encoder"], point["loss"]) for point in space.grid()]
    assert grid == [("a", "ce"), ("b", "ce"), ("a", "dice"), ("b", "dice")]


SIDE_BY_SIDE = """\
space:
  optimizer:
    adamw: {lr: [1e-3, 1e-4]}
    sgd: {lr_schedule: {poly: {lr: [0.1]}, constant: {lr: [0.2]}}}
  loss: [ce, dice]
baseline: {optimizer: adamw, lr: 1e-4, loss: dice}
search: {sampler: grid, scheduler: none, compare: optimizer}
"""


def test_branches_of_the_compared_setting_are_tried_side_by_side(space_of):
    space = space_of(SIDE_BY_SIDE)
    runs = [space.settings_at(point) for point in space.grid()]
    pairs = [("adamw", 1e-3), ("sgd", 0.1), ("adamw", 1e-4), ("sgd", 0.2)]
    found = [(run["loss"], run["optimizer"], run["lr"]) for run in runs]
    assert found == [(loss, *pair) for loss in ("ce", "dice") for pair in pairs]
    assert space.size() == space.trials() == 8
    configurations = [space.configuration(run) for run in runs]
    assert configurations[::2] == configurations[1::2]  # of both optimizers
    assert len(set(configurations)) == 4
    drawn = {name: space.baseline.settings()[name] for name in space.searched()}
    assert space.configuration(drawn) == configurations[6]
    assert space.configuration(drawn | {"lr": 0.3}) is None
    assert space.configuration(drawn | {"optimizer": "lion"}) is None
    assert space_of(yaml.safe_dump(space.dump(), sort_keys=False)) == space


def test_grid_needs_countable_values(space_of, mistakes_of):
    space = space_of("space: {loss: [ce], lr: {low: 0.1, high: 0.3}}")
    with pytest.raises(InputError, match="sampler grid needs lists: lr is a range without a step"):
        space.grid()
    assert space.size() is None
    text = "space:\n  loss: [ce]\n  lr: {low: 0.1, high: 0.3}\nsearch: {sampler: grid}"
    (mistake,) = mistakes_of(text)
    assert mistake == "s.yaml:3: space.lr: sampler grid needs lists: lr is a range without a step"
    assert space_of(text, overrides={"lr": 0.2}).size() == 1


def test_branches_three_levels_deep_are_read_drawn_and_located(space_of):
    space = space_of(DEEP)
    # unet: (3 momenta + 1 + 1) * 3 epochs; fpn: 1 + 2; each with three numbers of frozen epochs.
    grid = list(space.grid())
    assert space.size() == len(grid) == (5 * 3 + 3) * 3
    for point in grid:
        settings = space.draw(Replay(point))
        assert space.locate(settings) == point
        assert space.settings_at(point) == settings
    assert "model.unet.optimizer.sgd.lr_schedule.poly.momentum" in {key for point in grid for key in point}
    assert space_of(yaml.safe_dump(space.dump(), sort_keys=False)) == space
    suggest = RandomSuggest(random.Random(0))
    drawn = [space.draw(suggest) for _ in range(4000)]
    assert {repr(space.locate(settings)) for settings in drawn} == {repr(point) for point in grid}


def test_each_possible_combination_comes_once_with_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(
        """
run: {epochs: 9}
space:
  lr: {low: 1e-4, high: 1e-2, log: true}
  model:
    unet: {encoder: [resnet18, mit_b0]}
    segformer: {encoder: [mit_b0], batch_size: {low: 2, high: 6, step: 2}}
  loss: [dice, focal]
"""
    )
    space = load_space(tmp_path / "space.yaml")
    assert set(space.combinations("model", "encoder")) == {
        ("unet", "resnet18"),
        ("unet", "mit_b0"),
        ("segformer", "mit_b0"),
        (space.baseline.model, space.baseline.encoder),
    }
    assert len(space.combinations("model", "encoder")) == len(set(space.combinations("model", "encoder")))
    assert {size for model, size in space.combinations("model", "batch_size") if model == "segformer"} == {2, 4, 6}
    assert set(space.combinations("epochs")) == {(9,)}
    assert {lr for (lr,) in space.combinations("lr")} == {1e-4, 1e-2, space.baseline.lr}
