"""Drawing from a space, locating runs in it, and writing it."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import yaml

from segtune.config import RunConfig
from segtune.space.parameters import RandomSuggest
from segtune.space.reader import load_space
from tests.space.spaces import FULL, Draws, Replay


def test_a_drawn_run_is_located_and_drawn_again(space_of):
    space = space_of(FULL)
    taken = set()
    for seed in range(60):
        draws = Draws(seed)
        settings = space.draw(draws)
        RunConfig.from_settings(settings)
        taken.add(settings["optimizer"])
        assert ("momentum" in settings) == (settings["optimizer"] == "sgd")
        assert space.locate(settings) == draws.seen
        assert space.locate(RunConfig.from_settings(settings).settings()) == draws.seen
        assert space.draw(Replay(draws.seen)) == settings
    assert taken == {"adam", "adamw", "sgd"}


def test_the_searched_settings_of_a_run_are_those_that_act_in_it(space_of):
    space = space_of(
        "space: {batch_size: [2, 4], optimizer: {adamw: {weight_decay: [0.0, 0.1]}, sgd: {momentum: [0.8, 0.9]}}}\n"
    )

    def names(optimizer: str) -> set[str]:
        return set(space.searched_in(RunConfig(optimizer=optimizer).settings()))

    assert names("adamw") == {"batch_size", "optimizer", "weight_decay"}
    assert names("sgd") == {"batch_size", "optimizer", "weight_decay", "momentum"}
    assert names("nadam") == names("adamw")  # outside the space
    assert space.searched_in(RunConfig(optimizer="sgd").settings())["momentum"] == RunConfig().momentum


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet50"},
        {"lr": 0.5},
        {"lr": 1e-6},
        {"batch_size": 6},  # between two steps
        {"batch_size": 8.0},
        {"batch_size": 20},
        {"epochs": 28},  # fixed at another value
        {"momentum": 0.5},  # not searched with adamw
        {"grad_clip": 0.0},  # not searched at all
        {"optimizer": "sgd", "momentum": 0.85},
    ],
)
def test_locate_outside(space_of, change):
    space = space_of(FULL)
    inside = space.fixed | {"encoder": "resnet18", "optimizer": "adamw", "batch_size": 8, "lr": 1e-3}
    assert space.locate(inside | {"device": "cpu", "workers": 3}) is not None
    assert space.locate(inside | change) is None


def test_bounds_are_inside(space_of):
    space = space_of("space: {lr: {low: 0.1, high: 0.3, step: 0.1}, epochs: {low: 1, high: 9}}")
    for lr, epochs in itertools.product((0.1, 0.1 + 0.2, 0.3), (1, 9)):
        assert space.locate({"lr": min(lr, 0.3), "epochs": epochs}) is not None
    assert space.locate({"lr": 0.2, "epochs": True}) is None
    assert space.locate({"lr": 0.25, "epochs": 3}) is None


def test_random_draws_are_uniform(space_of):
    space = space_of("""
        space:
          lr: {low: 1e-4, high: 1, log: true}
          momentum: {low: 0.1, high: 0.9}
          weight_decay: {low: 0.1, high: 0.4, step: 0.1}
          epochs: {low: 20, high: 23}
          batch_size: {low: 1, high: 64, log: true}
          warmup_epochs: {low: 0, high: 9, step: 3}
          loss: [ce, dice]
        """)
    suggest = RandomSuggest(random.Random(1))
    drawn = [space.draw(suggest) for _ in range(4000)]
    assert all(space.locate(settings) is not None for settings in drawn)
    values = {name: [settings[name] for settings in drawn] for name in drawn[0]}
    quarter = pytest.approx(1000, abs=120)
    assert sum(lr < 1e-3 for lr in values["lr"]) == quarter
    assert sum(momentum < 0.3 for momentum in values["momentum"]) == quarter
    assert sum(size <= 2 for size in values["batch_size"]) == pytest.approx(4000 * 0.3317, abs=120)  # ln 5 / ln 129
    assert {type(size) for size in values["batch_size"] + values["epochs"]} == {int}
    for name, expected in (
        ("weight_decay", (0.1, 0.2, 0.3, 0.4)),
        ("epochs", (20, 21, 22, 23)),
        ("warmup_epochs", (0, 3, 6, 9)),
    ):
        assert [values[name].count(value) for value in expected] == [quarter] * 4
    assert values["loss"].count("ce") == pytest.approx(2000, abs=150)
    assert space.draw(RandomSuggest(random.Random(1))) == drawn[0]


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (FULL, {}),
        (FULL, {"optimizer": "sgd", "encoder": "resnet34"}),
        (FULL + "baseline: {lr: 2e-5, encoder: resnet50}", {}),
        ("run: {warmup_epochs: 60}\nspace: {epochs: [100, 200]}", {}),
        ("space: {channels: [[], [nir]], image_size: {null: {lr: 1e-5}, 64: {}}, model: [unet]}", {}),
        ("space: {lr: {low: 0.1, high: 0.3, step: 0.1}, batch_size: {low: 1, high: 64, log: true}}", {}),
        ("space: {lr: [1e-7]}\nsearch: {sampler: grid, scheduler: none, compare: lr, keep: 1}", {"seed": 3}),
    ],
)
def test_a_dumped_space_is_read_as_an_equal_one(space_of, text, overrides):
    space = space_of(text, overrides=overrides)
    again = space_of(yaml.safe_dump(space.dump(), sort_keys=False, allow_unicode=True))
    assert again == space
    assert again.dump() == space.dump()


def test_a_resumed_search_may_change_its_cache_but_not_its_loss(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("run: {loss: dice, cache_dir: /old, workers: 2}\nspace: {lr: [1e-3, 1e-2]}\n")
    before = load_space(tmp_path / "space.yaml")
    elsewhere = {"cache_dir": "none", "cache_gb": 1.0, "workers": 0}
    assert load_space(tmp_path / "space.yaml", elsewhere).changes_from(before) == []
    other = load_space(tmp_path / "space.yaml", {"loss": "focal"})
    assert other.changes_from(before) == ["run: loss (dice -> focal)"]
