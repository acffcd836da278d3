"""The contract of a search space: what a file means, what it draws, and how each mistake is told."""

from __future__ import annotations

import itertools
import os
import random
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from segtune.cli.assignments import parse_assignments, parse_value
from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.files.yamlfile import read_yaml
from segtune.space.lookup import find_space
from segtune.space.parameters import Choice, RandomSuggest, Range
from segtune.space.reader import load_space
from segtune.space.settings import SearchSettings
from segtune.space.space import Space

FULL = """\
dataset: data/demo
classes: [255]
ignore: []
channels: [nir]
run:
  image_size: 128
  epochs: 27
space:
  encoder: [resnet18, mobilenet_v2]
  loss: [dice, dice+bce]
  optimizer:
    adam:
    adamw: {lr: {low: 1e-5, high: 1e-2, log: true}, weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd:   {lr: {low: 1e-4, high: 1e-1, log: true}, momentum: [0.8, 0.9]}
  batch_size: {low: 4, high: 16, step: 4}
search:
  trials: 40
  gpus_per_trial: 0.5
"""


class Draws:
    """A fake searcher: draws at random and remembers what it was asked."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: dict[str, Any] = {}

    def choice(self, parameter: Choice) -> int:
        index = self.random.randrange(len(parameter.values))
        self.seen[parameter.key] = parameter.values[index]
        return index

    def number(self, parameter: Range) -> float | int:
        steps = parameter.steps()
        drawn = self.random.choice(steps) if steps else self.random.uniform(parameter.low, parameter.high)
        self.seen[parameter.key] = round(drawn) if parameter.integer else drawn
        return self.seen[parameter.key]


class Replay:
    """Draws what `locate` found."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def choice(self, parameter: Choice) -> int:
        return parameter.values.index(self.found[parameter.key])

    def number(self, parameter: Range) -> float | int:
        return self.found[parameter.key]


@pytest.fixture
def space_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str, **options: Any) -> Space:
        Path("s.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_space(Path("s.yaml"), **options)

    return load


@pytest.fixture
def mistakes_of(space_of):
    def load(text: str, **options: Any) -> list[str]:
        with pytest.raises(InputError) as caught:
            space_of(text, **options)
        return caught.value.mistakes

    return load


# What a file means.


def test_full_file(space_of):
    space = space_of(FULL)
    assert space.name == "s"
    assert space.path == Path("s.yaml")
    assert space.fixed == {
        "dataset": "data/demo",
        "classes": [255],
        "ignore": [],
        "channels": ["nir"],
        "image_size": 128,
        "epochs": 27,
    }
    encoder, _, optimizer, batch_size = space.parameters
    assert encoder == Choice("encoder", "encoder", ("resnet18", "mobilenet_v2"), ((), ()))
    assert optimizer.values == ("adam", "adamw", "sgd")
    assert optimizer.branches[0] == ()
    assert optimizer.branches[1][0] == Range("lr", "optimizer.adamw.lr", 1e-5, 1e-2, True, None, False)
    assert optimizer.branches[2][1] == Choice("momentum", "optimizer.sgd.momentum", (0.8, 0.9), ((), ()))
    assert batch_size == Range("batch_size", "batch_size", 4, 16, False, 4, True)
    assert space.search == SearchSettings(trials=40, gpus_per_trial=0.5)
    assert space.baseline == RunConfig(dataset="data/demo", channels=["nir"], image_size=128, epochs=27)
    assert space.searched() == (
        "encoder",
        "loss",
        "optimizer",
        "lr",
        "weight_decay",
        "momentum",
        "batch_size",
    )
    assert space.size() is None


def test_values_of(space_of):
    space = space_of(FULL)
    assert space.values_of("encoder") == ("resnet18", "mobilenet_v2")
    assert space.values_of("batch_size") == (4, 8, 12, 16)
    assert space.values_of("epochs") == (27,)
    assert space.values_of("model") == ("deeplabv3plus",)
    assert space.values_of("momentum") == (0.8, 0.9)  # 0.9 is the default of the branches without it, too
    assert space.values_of("weight_decay") == (1e-6, 1e-1, 1e-4)


def test_values_of_a_setting_in_every_branch_leave_the_default_out(space_of):
    space = space_of("space: {model: {unet: {encoder: [resnet18]}, fpn: {encoder: [resnet18, resnet34]}}}")
    assert space.values_of("encoder") == ("resnet18", "resnet34")


def test_deep_branches_and_empty_ones(space_of):
    space = space_of("""
        space:
          optimizer:
            sgd: {lr_schedule: {poly: {lr: [0.1]}, constant: null}, momentum: 0.5}
            adam: {}
        """)
    (optimizer,) = space.parameters
    schedule, momentum = optimizer.branches[0]
    assert schedule.branches[0][0].key == "optimizer.sgd.lr_schedule.poly.lr"
    assert momentum.values == (0.5,)
    assert list(space.grid()) == [
        {
            "optimizer": "sgd",
            "optimizer.sgd.lr_schedule": "poly",
            "optimizer.sgd.lr_schedule.poly.lr": 0.1,
            "optimizer.sgd.momentum": 0.5,
        },
        {"optimizer": "sgd", "optimizer.sgd.lr_schedule": "constant", "optimizer.sgd.momentum": 0.5},
        {"optimizer": "adam"},
    ]


def test_scalars_in_space_are_fixed(space_of):
    space = space_of("space: {encoder: resnet18, lr: [1e-5, 1E-3]}")
    assert space.fixed == {"encoder": "resnet18"}
    assert space.parameters == (Choice("lr", "lr", (1e-5, 1e-3), ((), ())),)


def test_lists_null_and_aliases_as_values(space_of):
    space = space_of("space: {channels: [[], [nir]], image_size: [null, 64], model: [unet++, deeplabv3+]}")
    assert [parameter.values for parameter in space.parameters] == [
        ([], ["nir"]),
        (None, 64),
        ("unetplusplus", "deeplabv3plus"),
    ]
    assert space.locate({"channels": ["nir"], "model": "unetplusplus"})["channels"] == ["nir"]


def test_numeric_values_may_bring_branches(space_of):
    space = space_of("space: {batch_size: {4: {lr: [0.1]}, 8: {}}, image_size: {null: {}, 64: {epochs: [3]}}}")
    assert space.parameters[0].branches[0][0].key == "batch_size.4.lr"
    assert space.parameters[1].values == (None, 64)


def test_words_are_no_booleans_and_none_is_a_word(space_of):
    space = space_of("dataset: off\nspace: {augmentation: [none, safe]}\nrun: {encoder_weights: none}")
    assert space.fixed == {"dataset": "off", "encoder_weights": "none"}
    assert space.parameters[0].values == ("none", "safe")


def test_merge_keys_repeat_no_key(space_of):
    space = space_of("""
        space:
          optimizer:
            adam: &common {lr: [0.1], weight_decay: [0]}
            sgd: {<<: *common, lr: [0.2]}
        """)
    assert {p.name: p.values for p in space.parameters[0].branches[1]} == {
        "lr": (0.2,),
        "weight_decay": (0.0,),
    }


# Draws.


def test_draw_locate_and_draw_again(space_of):
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


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet50"},
        {"lr": 0.5},
        {"lr": 1e-6},
        {"batch_size": 6},  # between two steps
        {"batch_size": 8.0},
        {"batch_size": 20},
        {"epochs": 28},  # fixed otherwise
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


# Grids.


def test_grid_varies_the_last_fastest(space_of):
    space = space_of("space: {encoder: [a, b], lr: {low: 0.1, high: 0.3, step: 0.1}, loss: [ce, dice]}")
    grid = [tuple(point.values()) for point in space.grid()]
    assert grid == list(itertools.product("ab", (0.1, 0.2, 0.3), ("ce", "dice")))
    assert space.size() == len(grid) == 12


def test_grid_with_branches_has_the_size_that_it_says(space_of):
    text = "space: {optimizer: {adam: {}, sgd: {momentum: [0, 0.5], lr: [0.1, 0.2]}}, loss: [ce, dice]}"
    space = space_of(text)
    grid = list(space.grid())
    assert space.size() == len(grid) == 10
    assert len({tuple(point.items()) for point in grid}) == 10
    for point in grid:
        assert space.locate(space.draw(Replay(point))) == point


def test_compare_varies_fastest(space_of):
    search = "search: {sampler: grid, scheduler: none, compare: encoder}"
    space = space_of(f"space: {{encoder: [a, b], loss: [ce, dice]}}\n{search}")
    grid = [(point["encoder"], point["loss"]) for point in space.grid()]
    assert grid == [("a", "ce"), ("b", "ce"), ("a", "dice"), ("b", "dice")]


def test_grid_needs_countable_values(space_of, mistakes_of):
    space = space_of("space: {loss: [ce], lr: {low: 0.1, high: 0.3}}")
    with pytest.raises(InputError, match="sampler grid needs lists: lr is a range without a step"):
        space.grid()
    assert space.size() is None
    text = "space:\n  loss: [ce]\n  lr: {low: 0.1, high: 0.3}\nsearch: {sampler: grid}"
    (mistake,) = mistakes_of(text)
    assert mistake == "s.yaml:3: space.lr: sampler grid needs lists: lr is a range without a step"
    assert space_of(text, overrides={"lr": 0.2}).size() == 1


# The baseline.


def test_baseline_over_run_over_defaults(space_of):
    space = space_of("run: {epochs: 9}\nspace: {lr: [0.1]}\nbaseline: {lr: 0.5, encoder: resnet34, epochs: 8}")
    assert space.baseline == RunConfig(epochs=8, lr=0.5, encoder="resnet34")
    assert space.fixed == {"epochs": 9}
    assert space.locate(space.baseline.settings()) is None
    fixed = space_of("space: {lr: [0.1]}\nbaseline: {encoder: resnet34}", overrides={"encoder": "resnet18"})
    assert fixed.baseline.encoder == "resnet18"


def test_baseline_inside_the_space_is_located(space_of):
    space = space_of("space: {encoder: [resnet18, efficientnet-b0], lr: {low: 1e-4, high: 1e-2, log: true}}")
    assert space.locate(space.baseline.settings()) == {"encoder": "efficientnet-b0", "lr": 1e-3}


def test_a_default_that_only_the_space_makes_possible_is_no_mistake(space_of):
    space = space_of("run: {warmup_epochs: 60}\nspace: {epochs: [100, 200]}")
    assert space.baseline.epochs == 100
    # 60 goes with 100 epochs, though not with the default of 50; nor is [5] wrong because of 60.
    space = space_of("space: {warmup_epochs: [0, 60], epochs: [5, 100]}")
    assert space.baseline == RunConfig()
    assert space_of("space: {warmup_epochs: {low: 0, high: 60}, epochs: {low: 5, high: 100}}").size() is None


# The command line over the file.


def test_overrides_fix_settings(space_of):
    space = space_of(FULL, overrides={"encoder": "resnet34", "lr": 0.01, "epochs": 3, "seed": 7})
    assert space.fixed["encoder"] == "resnet34"
    assert (space.fixed["lr"], space.fixed["epochs"], space.fixed["seed"]) == (0.01, 3, 7)
    assert space.searched() == ("loss", "optimizer", "weight_decay", "momentum", "batch_size")
    assert space.baseline.encoder == "resnet34"
    assert space.draw(Draws(1))["lr"] == 0.01


def test_fixing_a_choice_keeps_its_branch_searched(space_of):
    space = space_of(FULL, overrides={"optimizer": "sgd"})
    assert space.fixed["optimizer"] == "sgd"
    assert [parameter.key for parameter in space.parameters] == [
        "encoder",
        "loss",
        "lr",
        "momentum",
        "batch_size",
    ]
    assert space.parameters[2].low == 1e-4
    assert "lr" not in space_of(FULL, overrides={"optimizer": "adam"}).searched()


def test_overrides_are_checked_with_the_file(mistakes_of):
    text = "run: {device: cpu}\nspace:\n  loss:\n  - ce\n  - bce\n"
    assert mistakes_of(text, overrides={"classes": [1, 2]}) == [
        "s.yaml:5: space.loss: loss 'bce' is for a single class, and classes lists 2; ce is its multi-class form"
    ]
    assert mistakes_of(text, overrides={"precision": "fp16"}) == [
        "s.yaml:1: run.device: precision fp16 needs a GPU, and device is cpu"
    ]
    assert mistakes_of(text, overrides={"precision": "fp16", "device": "cpu"}) == [
        "precision fp16 needs a GPU, and device is cpu"
    ]
    assert mistakes_of(text, overrides={"encodr": "x", "epochs": 0}) == [
        "unknown setting 'encodr'; did you mean 'encoder'?",
        "epochs: input should be greater than or equal to 1, but got 0",
    ]


def test_fixing_everything_leaves_nothing_to_search(mistakes_of):
    (mistake,) = mistakes_of("run: {epochs: 3}\nspace: {lr: [0.1]}", overrides={"lr": 0.2})
    assert mistake.startswith("s.yaml:2: space: nothing is searched: the command line fixes")


def test_search_overrides(space_of, mistakes_of):
    space = space_of(FULL, search_overrides={"trials": 3, "seed": None, "max_concurrent": 2})
    assert (space.search.trials, space.search.seed, space.search.max_concurrent) == (3, 0, 2)
    assert mistakes_of(FULL, search_overrides={"trials": 0}) == [
        "trials: input should be greater than or equal to 1, but got 0"
    ]


def test_checks_of_the_caller_see_every_value(mistakes_of, space_of):
    text = """\
        dataset: nowhere
        run:
          encoder: bad0
        space:
          model:
            unet: {lr: [1, 2]}
            fpn: {lr: {low: 3, high: 4}}
        baseline:
          encoder: bad1
        """
    checks = {
        "encoder": lambda value: "no such encoder" if "bad" in value else None,
        "lr": lambda value: f"{value} is too high" if value > 1 else None,
        "dataset": lambda value: f"no folder {value!r}" if value != "here" else None,
    }
    assert mistakes_of(text, checks=checks) == [
        "s.yaml:1: dataset: no folder 'nowhere'",
        "s.yaml:3: run.encoder: no such encoder",
        "s.yaml:6: space.model.unet.lr: 2.0 is too high",
        "s.yaml:7: space.model.fpn.lr.low: 3.0 is too high",
        "s.yaml:7: space.model.fpn.lr.high: 4.0 is too high",
        "s.yaml:9: baseline.encoder: no such encoder",
    ]
    # What the command line replaces need not exist; what it says must.
    good = {"dataset": "here", "lr": 0.1, "encoder": "good"}
    assert space_of(text, overrides=good, checks=checks).fixed["dataset"] == "here"
    assert mistakes_of(text, overrides=good | {"dataset": "gone"}, checks=checks)[0] == ("dataset: no folder 'gone'")


# Written and read again.


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
def test_dump_is_read_as_an_equal_space(space_of, text, overrides):
    space = space_of(text, overrides=overrides)
    again = space_of(yaml.safe_dump(space.dump(), sort_keys=False, allow_unicode=True))
    assert again == space
    assert again.dump() == space.dump()


# Mistakes: the lines below are counted from the first of each text.


def test_all_mistakes_of_a_file_come_together(mistakes_of):
    text = """\
        clases: [1]
        run:
          epoch: 3
          lr: -1
        space:
          encoder: []
          loss: [dice, dicee]
          batch_size: {low: 3, high: 1}
        search:
          trails: 3
        """
    assert mistakes_of(text) == [
        "s.yaml:1: clases: unknown key 'clases'; did you mean 'classes'?",
        "s.yaml:3: run.epoch: unknown setting 'epoch'; did you mean 'epochs'?",
        "s.yaml:4: run.lr: input should be greater than 0, but got -1",
        "s.yaml:6: space.encoder: lists no value",
        "s.yaml:7: space.loss: unknown loss 'dicee' (known: ce, bce, dice, jaccard, tversky, focal, lovasz,"
        " mcc, and sums such as dice+bce); did you mean 'dice'?",
        "s.yaml:8: space.batch_size: `low <= high` must hold, but got (low=3, high=1)",
        "s.yaml:10: search.trails: unknown setting 'trails'; did you mean 'trials'?",
    ]


MISTAKES = {
    "empty file": ("", "s.yaml: expected a mapping with run: and space:, but got nothing"),
    "not a mapping": ("- 1", "s.yaml: expected a mapping with run: and space:, but got [1]"),
    "no space": ("run:\n  epochs: 3", "s.yaml:1: space: nothing is searched"),
    "empty space": ("run: {}\nspace:", "s.yaml:2: space: nothing is searched"),
    "space of single values": (
        "space: {lr: 0.1}",
        "s.yaml:1: space: nothing is searched: one value is given",
    ),
    "space is a list": ("run:\nspace: []", "s.yaml:2: space: expected a mapping of settings, but got []"),
    "run is a number": ("space: {lr: [1]}\nrun: 3", "s.yaml:2: run: expected a mapping of settings"),
    "search is a word": ("space: {lr: [1]}\nsearch: asha", "s.yaml:2: search: expected a mapping"),
    "setting at the top": ("encoder: x\nspace: {lr: [1]}", "s.yaml:1: encoder: does not stand at the top"),
    "key that is no word": ("1: x\nspace: {lr: [1]}", "s.yaml:1: 1: unknown key 1"),
    "data in run": ("space: {lr: [1]}\nrun:\n  classes: [1]", "s.yaml:3: run.classes: describes the data"),
    "value in run": (
        "space: {lr: [1]}\nrun:\n  model: unett",
        "s.yaml:3: run.model: 'unett' is not one of unet,",
    ),
    "a word for a list": (
        "channels: nir\nspace: {lr: [1]}",
        "s.yaml:1: channels: input should be a valid list",
    ),
    "unknown searched": (
        "space:\n  encodr: [a]",
        "space.encodr: unknown setting 'encodr'; did you mean 'encoder'?",
    ),
    "value in a list": ("space:\n  model:\n  - unet\n  - fnp", "s.yaml:4: space.model: 'fnp' is not one of"),
    "value of a branch": (
        "space:\n  optimizer:\n    sgdd: {}",
        "s.yaml:3: space.optimizer: 'sgdd' is not one of",
    ),
    "inside a branch": (
        "space:\n  optimizer:\n    sgd:\n      momentum: [0.5, 1.5]",
        "s.yaml:4: space.optimizer.sgd.momentum: input should be less than 1, but got 1.5",
    ),
    "unknown in a branch": (
        "space:\n  optimizer:\n    sgd: {\n      momentun: [1]}",
        "s.yaml:4: space.optimizer.sgd.momentun: unknown setting 'momentun'; did you mean 'momentum'?",
    ),
    "branch of a word": (
        "space:\n  optimizer: {sgd: fast}",
        "s.yaml:2: space.optimizer.sgd: expected the settings",
    ),
    "empty mapping": ("space:\n  optimizer: {}", "s.yaml:2: space.optimizer: lists no value"),
    "twice in a list": ("space:\n  lr: [0.1,\n    0.10]", "s.yaml:3: space.lr: 0.1 is listed twice"),
    "alias twice": ("space:\n  model: [unet++, unetplusplus]", "space.model: 'unetplusplus' is listed twice"),
    "log from zero": (
        "space:\n  weight_decay: {low: 0, high: 1, log: true}",
        "s.yaml:2: space.weight_decay: a log range needs `low > 0`, but got (low=0, high=1)",
    ),
    "bound refused": (
        "space:\n  lr:\n    low: 0\n    high: 1",
        "s.yaml:3: space.lr.low: input should be greater",
    ),
    "bound is a word": (
        "space: {lr: {low: a, high: 1}}",
        "space.lr.low: input should be a valid number, but got 'a'",
    ),
    "bound is endless": (
        "space: {lr: {low: 1, high: .inf}}",
        "space.lr.high: must be a finite number, but got inf",
    ),
    "bound is null": ("space: {image_size: {low: null, high: 64}}", "space.image_size.low: must be a number"),
    "bound is missing": (
        "space:\n  lr: {low: 1}",
        "s.yaml:2: space.lr: a range needs low and high, but has no high",
    ),
    "whole numbers": (
        "space: {epochs: {low: 1.5, high: 3}}",
        "space.epochs.low: input should be a valid integer",
    ),
    "range of words": (
        "space:\n  encoder: {low: 1, high: 2}",
        "s.yaml:2: space.encoder: is no number, so it has no",
    ),
    "unknown range key": (
        "space:\n  lr:\n    low: 1\n    hihg: 2\n    high: 2",
        "s.yaml:4: space.lr.hihg: unknown key 'hihg' in a range; did you mean 'high'?",
    ),
    "log is a word": (
        "space: {lr: {low: 1, high: 2, log: yes}}",
        "space.lr.log: must be true or false, but got 'yes'",
    ),
    "step of zero": (
        "space: {lr: {low: 1, high: 2, step: 0}}",
        "space.lr.step: must be a number above 0, but got 0",
    ),
    "broken step": (
        "space: {epochs: {low: 1, high: 2, step: 0.5}}",
        "epochs.step: must be a whole number above 0",
    ),
    "log and step": ("space: {lr: {low: 1, high: 2, step: 1, log: true}}", "a range has either log or step"),
    "step misses high": (
        "space: {epochs: {low: 1, high: 10, step: 4}}",
        "space.epochs: steps of 4 from 1 miss high=10; the last one is 9",
    ),
    "classes searched": (
        "space:\n  classes: [[1]]\n  lr: [1]",
        "s.yaml:2: space.classes: results are comparable only",
    ),
    "seed searched": ("space:\n  seed: [1, 2]\n  lr: [1]", "the same in all trials; put it under run:"),
    "fixed and searched": (
        "run:\n  lr: 1\nspace:\n  lr: [1]",
        "s.yaml:4: space.lr: is fixed already by run.lr (line 2); keep one of the two",
    ),
    "fixed and in a branch": (
        "run:\n  lr: 1\nspace:\n  optimizer:\n    sgd: {lr: [1]}",
        "s.yaml:5: space.optimizer.sgd.lr: is fixed already by run.lr (line 2)",
    ),
    "channels twice": ("channels: [a]\nspace:\n  channels: [[a]]", "is fixed already by channels (line 1)"),
    "top and branch": (
        "space:\n  lr: [1]\n  optimizer:\n    sgd: {lr: [1]}",
        "s.yaml:4: space.optimizer.sgd.lr: is set twice: space.lr (line 2) brings it too",
    ),
    "two branches at once": (
        "space:\n  optimizer:\n    sgd: {lr: [1]}\n  model:\n    unet: {lr: 2}",
        "s.yaml:5: space.model.unet.lr: is set twice: space.optimizer.sgd.lr (line 3) brings it too",
    ),
    "branch of itself": (
        "space: &all\n  optimizer:\n    sgd: *all",
        "s.yaml:2: space.optimizer.sgd.optimizer: is set twice: its own branch",
    ),
    "impossible value": (
        "classes: [1, 2, 3]\nspace:\n  loss:\n  - ce\n  - bce",
        "s.yaml:5: space.loss: loss 'bce' is for a single class, and classes lists 3",
    ),
    "impossible branch": (
        "run: {device: cpu}\nspace:\n  model:\n    unet:\n      precision: [fp32, fp16]",
        "s.yaml:5: space.model.unet.precision: precision fp16 needs a GPU, and device is cpu",
    ),
    "impossible bound": (
        "run: {warmup_epochs: 5}\nspace:\n  epochs:\n    low: 5\n    high: 9",
        "s.yaml:4: space.epochs: warmup_epochs must be below epochs, but got (warmup_epochs=5, epochs=5)",
    ),
    "impossible together": (
        "run: {device: cpu}\nspace:\n  precision:\n    fp16:\n      lr: [1]",
        "s.yaml:4: space.precision: precision fp16 needs a GPU",
    ),
    "clash of fixed ones": (
        "classes: [1]\nignore: [1]\nspace:\n  lr: [1, 2]",
        "s.yaml:2: ignore: classes and ignore both list 1",
    ),
    "clash in run": (
        "space: {lr: [1]}\nrun:\n  warmup_epochs: 60",
        "s.yaml:3: run.warmup_epochs: warmup_epochs must be below epochs, but got (warmup_epochs=60, ",
    ),
    "unknown in baseline": (
        "space: {lr: [1]}\nbaseline:\n  lrr: 1",
        "s.yaml:3: baseline.lrr: unknown setting 'lrr'",
    ),
    "value in baseline": (
        "space: {lr: [1]}\nbaseline:\n  lr: 0",
        "s.yaml:3: baseline.lr: input should be greater",
    ),
    "data in baseline": (
        "space: {lr: [1]}\nbaseline:\n  classes: [1]",
        "baseline.classes: is the same in all",
    ),
    "clash in baseline": (
        "classes: [1, 2]\nspace: {lr: [1]}\nbaseline:\n  loss: bce",
        "s.yaml:4: baseline.loss: loss 'bce' is for a single class",
    ),
    "value in search": (
        "space: {lr: [1]}\nsearch:\n  sampler: bayes",
        "s.yaml:3: search.sampler: 'bayes' is not one of tpe, random, grid",
    ),
    "compare with asha": (
        "space: {lr: [1]}\nsearch:\n  sampler: grid\n  compare: lr",
        "s.yaml:4: search.compare: compare needs sampler grid and scheduler none, but got (sampler=grid",
    ),
    "compare what is fixed": (
        "space: {lr: [1]}\nsearch: {sampler: grid, scheduler: none, compare: epochs}",
        "s.yaml:2: search.compare: 'epochs' is no list of values at the top of space: (those that are: lr)",
    ),
    "compare unequal ones": (
        "space: {optimizer: {sgd: {lr: [1]}, adam: {}}}\nsearch: {sampler: grid, scheduler: none, compare: optimizer}",
        "search.compare: the values of optimizer bring settings of their own",
    ),
    "one and a half GPUs": ("space: {lr: [1]}\nsearch: {gpus_per_trial: 1.5}", "must be a share of one GPU"),
    "key twice": (
        "space:\n  lr: [1]\n  loss: [ce]\n  lr: [2]",
        "s.yaml:4: lr: stands in the same mapping twice (first on line 2)",
    ),
    "unclosed list": (
        "space:\n  lr: [1,\nrun: {}",
        "s.yaml:3: expected ',' or ']', but got '<stream end>' (while parsing a flow",
    ),
    "tab": ("space:\n\tlr: [1]", "s.yaml:2: found character '\\t' that cannot start any token"),
    "python object": (
        "space:\n  lr: !!python/name:os.system ''",
        "s.yaml:2: could not determine a constructor",
    ),
    "bad tag": ("space:\n  lr: !!int x", "s.yaml:2: cannot read this as int"),
    "huge tag": (f"space:\n  lr: !!float '{'1:' * 200}1'", "s.yaml:2: cannot read this as float"),
    "control character": ("space:\n  lr: \x01", "s.yaml:2: special characters are not allowed"),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(mistakes_of, text, expected):
    (mistake,) = mistakes_of(text)
    assert mistake.startswith("s.yaml:")
    assert expected in mistake


def test_a_mistaken_setting_causes_no_others(mistakes_of):
    text = "run:\n  warmup_epochs: 60\n  epochs: many\nspace: {lr: [1]}"
    assert len(mistakes_of(text)) == 1
    text = "classes: [1, 2, x]\nspace: {loss: [bce]}"
    assert [mistake[:9] for mistake in mistakes_of(text)] == ["s.yaml:1:"]


def test_repeated_keys_come_with_the_other_mistakes(mistakes_of):
    mistakes = mistakes_of("space:\n  lr: [-1]\nrun:\n  epochs: 1\n  epochs: 2")
    assert [mistake.split(":")[1] for mistake in mistakes] == ["2", "5"]


# Files.


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_space(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a directory"):
        read_yaml(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("space:\n  encoder: [é]".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml:2: is not UTF-8 text \(byte 0xe9\)"):
        load_space(latin)


def test_read_yaml(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("\ufefflr: 1e-5\nencoder: no\nimage_size: ~\nlabels: [010, -3, 1.5]\nday: 2024-05-01\n")
    assert read_yaml(path) == {
        "lr": 1e-5,
        "encoder": "no",
        "image_size": None,
        "labels": [10, -3, 1.5],
        "day": "2024-05-01",
    }
    path.write_text("lr: 1\nlr: 2\n")
    with pytest.raises(InputError, match=r"run\.yaml:2: lr: stands in the same mapping twice"):
        read_yaml(path)


def test_find_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "search_spaces"
    shipped.mkdir()
    for name in ("encoders", "losses"):
        (shipped / f"{name}.yaml").write_text("space: {lr: [1]}")
    (tmp_path / "losses").mkdir()  # a folder is no space
    assert find_space("encoders.yaml", shipped) == shipped / "encoders.yaml"
    assert find_space("losses", shipped) == shipped / "losses.yaml"
    (tmp_path / "encoders.yaml").write_text("space: {lr: [1]}")
    assert find_space("encoders.yaml", shipped) == Path("encoders.yaml")
    with pytest.raises(InputError, match=r"'loses\.yaml'.*encoders, losses; did you mean 'losses'\?"):
        find_space("loses.yaml", shipped)


# Values from the command line.


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-5", 1e-5),
        ("lr", "1", 1.0),
        ("encoder", "18", "18"),
        ("encoder", "null", "null"),
        ("augmentation", "none", "none"),
        ("model", "unet++", "unetplusplus"),
        ("image_size", "null", None),
        ("image_size", "64", 64),
        ("classes", "1,2, 3", [1, 2, 3]),
        ("classes", "[1, 2]", [1, 2]),
        ("classes", "7", [7]),
        ("ignore", "", []),
        ("channels", "nir", ["nir"]),
        ("channels", "2021,2022", ["2021", "2022"]),
    ],
)
def test_parse_value(name, text, value):
    parsed = parse_value(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("encodr", "x", "unknown setting 'encodr'; did you mean 'encoder'?"),
        ("lr", "fast", "lr: input should be a valid number, but got 'fast'"),
        ("lr", ".inf", "lr: must be a finite number, but got inf"),
        ("batch_size", "8.5", "batch_size: input should be a valid integer, but got 8.5"),
        ("model", "unett", "model: 'unett' is not one of"),
        ("classes", "[1, 2", "classes: cannot read '[1, 2': expected ',' or ']'"),
        ("channels", "a,a", "channels: a value stands in the list twice"),
    ],
)
def test_parse_value_refuses(name, text, message):
    with pytest.raises(InputError) as caught:
        parse_value(name, text)
    assert str(caught.value).startswith(message)


def test_parse_assignments():
    assert parse_assignments(["lr=1e-3", "encoder=a=b", "classes=1,2", "lr=1e-4"]) == {
        "lr": 1e-4,
        "encoder": "a=b",
        "classes": [1, 2],
    }
    with pytest.raises(InputError) as caught:
        parse_assignments(["lr", "epochs=0", "x=1"])
    assert [mistake[:6] for mistake in caught.value.mistakes] == ["'lr' i", "epochs", "unknow"]


# Combinations.


def test_combinations_are_those_that_can_occur_each_once_and_the_baselines(tmp_path: Path) -> None:
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


def test_a_search_goes_on_with_another_cache_but_not_with_another_loss(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("run: {loss: dice, cache_dir: /old, workers: 2}\nspace: {lr: [1e-3, 1e-2]}\n")
    before = load_space(tmp_path / "space.yaml")
    elsewhere = {"cache_dir": "none", "cache_gb": 1.0, "workers": 0}
    assert load_space(tmp_path / "space.yaml", elsewhere).changes_from(before) == []
    other = load_space(tmp_path / "space.yaml", {"loss": "focal"})
    assert other.changes_from(before) == ["run: loss (dice -> focal)"]


# What excludes each other.

TREE = """\
run: {epochs: 9}
space:
  model: [unet, fpn, segformer]
  encoder: [resnet18, vgg11, vgg16]
  optimizer:
    adamw: {lr: [1e-3, 1e-4]}
    sgd: {lr: {low: 0.1, high: 0.3, step: 0.1}, momentum: [0.8, 0.9]}
baseline: {model: unet, encoder: resnet18}
"""


def test_forbidden_points_are_in_no_grid_and_in_no_size(space_of):
    whole = space_of(TREE)
    space = space_of(TREE + "forbid:\n- {model: [segformer, fpn], encoder: vgg*}\n- {optimizer: sgd, lr: 0.3}\n")
    every = [dict(whole.settings_at(point)) for point in whole.grid()]
    allowed = [
        run
        for run in every
        if not (run["model"] != "unet" and run["encoder"] != "resnet18")
        and not (run["optimizer"] == "sgd" and run["lr"] == 0.3)
    ]
    assert [space.settings_at(point) for point in space.grid()] == allowed
    assert (whole.size(), space.size()) == (72, len(allowed))
    reasons = [space.forbidden(run) for run in every]
    assert reasons.count(None) == len(allowed)
    assert set(reasons) - {None} == {
        "forbid: {model: [segformer, fpn], encoder: vgg*}",
        "forbid: {optimizer: sgd, lr: 0.3}",
    }


def test_the_size_of_a_space_too_large_to_list_is_exact(space_of):
    encoders = ", ".join(f"e{i}" for i in range(100))
    space = space_of(f"""
        space:
          encoder: [{encoders}]
          lr: {{low: 0.001, high: 1, step: 0.001}}
          batch_size: {{low: 1, high: 100, step: 1}}
          model: [unet, fpn]
        forbid:
        - {{encoder: e9*, model: fpn}}
        - {{batch_size: [1, 2], lr: 0.5, encoder: e99}}
        baseline: {{encoder: e0}}
        """)
    # e9 and e90 to e99 lose half of theirs; of e99 with unet, two more points go.
    assert space.size() == 100 * 1000 * 100 * 2 - 11 * 1000 * 100 - 2


def test_an_entry_looks_at_defaults_and_at_what_is_fixed_too(space_of):
    # epochs is fixed, and weight_decay drawn in one branch only: elsewhere it has its default.
    space = space_of("""
        run: {epochs: 9}
        space:
          optimizer: {adam: {}, sgd: {weight_decay: [0, 0.5]}}
          loss: [ce, dice, focal]
        forbid: [{weight_decay: 1e-4, epochs: 9, loss: [ce, focal]}]
        baseline: {loss: dice}
        """)
    assert [tuple(point.values()) for point in space.grid()] == [
        ("adam", "dice"),
        *itertools.product(["sgd"], [0.0, 0.5], ["ce", "dice", "focal"]),
    ]
    assert space.size() == 7
    assert space.forbidden({"optimizer": "adam", "epochs": 9, "loss": "ce"})
    assert not space.forbidden({"optimizer": "adam", "epochs": 8, "loss": "ce"})


def test_combinations_that_are_always_forbidden_are_left_out(space_of):
    space = space_of(
        TREE + "forbid:\n- {model: segformer, encoder: vgg*, optimizer: [adamw, sgd]}\n- {model: fpn, lr: 0.1}\n"
    )
    pairs = space.combinations("model", "encoder")
    assert set(pairs) == {
        *itertools.product(["unet", "fpn"], ["resnet18", "vgg11", "vgg16"]),
        ("segformer", "resnet18"),
    }
    # fpn with sgd stays, because of its other learning rates.
    assert ("fpn", "sgd") in space.combinations("model", "optimizer")
    assert ("fpn", 0.1) not in space.combinations("model", "lr")


def test_whole_numbers_and_lists_can_be_forbidden(space_of):
    space = space_of("""
        space:
          channels: [[], [nir], [nir, dem]]
          batch_size: {low: 2, high: 64, log: true}
        forbid: [{channels: [[nir], [nir, dem]], batch_size: [63, 64]}]
        """)
    assert space.forbidden({"channels": ["nir"], "batch_size": 64})
    assert not space.forbidden({"channels": [], "batch_size": 64})
    assert not space.forbidden({"channels": ["nir", "dem"], "batch_size": 62})
    pairs = space.combinations("channels", "batch_size")
    assert ([], 64) in pairs
    assert (["nir"], 2) in pairs
    assert (["nir"], 64) not in pairs


@pytest.mark.parametrize("overrides", [{}, {"encoder": "vgg11"}, {"model": "unet"}, {"optimizer": "sgd"}])
def test_forbid_is_dumped_and_read_again(space_of, overrides):
    text = (
        TREE + "forbid: [{model: [segformer, fpn], encoder: [vgg*, resnet18], optimizer: adamw}, {lr: 0.1, model: fpn}]"
    )
    space = space_of(text, overrides=overrides)
    again = space_of(yaml.safe_dump(space.dump(), sort_keys=False))
    assert again == space
    assert again.changes_from(space) == []
    assert len(space.forbid) == (0 if "model" in overrides else 1 if "optimizer" in overrides else 2)
    without = space_of(TREE, overrides=overrides)
    assert without.changes_from(space) == (["forbid"] if space.forbid else [])


def test_the_command_line_may_leave_nothing_to_forbid(space_of):
    text = TREE + "forbid: [{model: segformer, encoder: vgg*}]"
    assert space_of(text, overrides={"model": "fpn"}).forbid == ()
    assert space_of(text, overrides={"encoder": "resnet34"}).forbid == ()
    (entry,) = space_of(text, overrides={"encoder": "vgg13"}).forbid
    assert entry.plain() == {"model": "segformer", "encoder": "vgg*"}
    # What the file lists for segformer's sake alone is gone, and the rest is still there.
    branches = (
        "space: {model: {fpn: {encoder: [a, b]}, unet: {encoder: [c, d]}}, loss: [ce, dice]}\nbaseline: {model: fpn}\n"
    )
    (entry,) = space_of(branches + "forbid: [{encoder: [a, c], loss: ce}]", overrides={"model": "unet"}).forbid
    assert entry.plain() == {"encoder": "c", "loss": "ce"}


FORBID = "space:\n  model: [unet, fpn]\n  encoder: [resnet18, vgg11]\n  lr: {low: 1e-4, high: 1e-2, log: true}\n"
FORBID += "baseline: {model: unet, encoder: resnet18}\nforbid:\n"
FORBID_MISTAKES = {
    "no list": (
        "  model: fpn",
        "s.yaml:6: forbid: expected a list of entries such as {model: fpn, encoder: vgg*}, but",
    ),
    "word": ("- fpn", "s.yaml:7: forbid: expected settings that exclude each other, such as"),
    "empty entry": ("- {}", "s.yaml:7: forbid: expected settings that exclude each other"),
    "null entry": ("-", "s.yaml:7: forbid: expected settings that exclude each other"),
    "unknown name": (
        "- {modle: [fpn, unet]}",
        "s.yaml:7: forbid.modle: unknown setting 'modle'; did you mean 'model'?",
    ),
    "value refused": ("- model: fpn\n  lr: -1", "s.yaml:8: forbid.lr: input should be greater than 0, but got -1"),
    "value in a list": (
        "- model:\n  - fpn\n  - unett\n  encoder: vgg11",
        "s.yaml:9: forbid.model: 'unett' is not one of unet,",
    ),
    "range": ("- {lr: {low: 1, high: 2}}", "s.yaml:7: forbid.lr: input should be a valid number"),
    "no value": ("- {model: []}", "s.yaml:7: forbid.model: lists no value"),
    "never searched": ("- {model: fpn, seed: 3}", "s.yaml:7: forbid.seed: is the same in all trials"),
    "misspelt wildcard": (
        "- {model: fpn,\n   encoder: vg_*}",
        "s.yaml:8: forbid.encoder: forbids nothing: no run has 'vg_*' (tried: resnet18, vgg11)",
    ),
    "misspelt value": (
        "- {model: fpn, encoder: vgg111}",
        "forbid.encoder: forbids nothing: no run has 'vgg111'; did you mean 'vgg11'? (tried: resnet18, vgg11)",
    ),
    "value of a continuous range": (
        "- {model: fpn, lr: 1e-3}",
        "s.yaml:7: forbid.lr: forbids nothing: no draw from its range is 0.001",
    ),
    "not the default": (
        "- {model: fpn, loss: focal}",
        "forbid.loss: forbids nothing: it is not searched, and 'focal' is not its default",
    ),
    "everything": (
        "- {loss: dice}",
        "s.yaml:7: forbid: {loss: dice} forbids every run of the space",
    ),
    "everything by wildcard": ("- {encoder: '*'}", "forbid: {encoder: *} forbids every run of the space"),
    "baseline": (
        "- {model: fpn}\n- {encoder: res*, model: unet}",
        "s.yaml:8: forbid: {encoder: res*, model: unet} forbids the first run; another one stands under baseline:",
    ),
}


@pytest.mark.parametrize(("text", "expected"), FORBID_MISTAKES.values(), ids=FORBID_MISTAKES)
def test_mistake_under_forbid(mistakes_of, text, expected):
    (mistake,) = mistakes_of(FORBID + text)
    assert mistake.startswith(expected if expected.startswith("s.yaml") else "s.yaml:")
    assert expected in mistake


def test_values_that_never_meet_and_entries_that_leave_nothing(mistakes_of, space_of):
    text = "space: {model: {fpn: {encoder: [a]}, unet: {encoder: [b]}}, lr: [1]}\n"
    first = "baseline: {model: pan, encoder: c}\n"
    assert mistakes_of(text + first + "forbid: [{model: fpn, encoder: b}]") == [
        "s.yaml:3: forbid: {model: fpn, encoder: b} forbids nothing: no run has all of it together"
    ]
    assert mistakes_of(text + first + "forbid: [{model: fpn}, {encoder: b}]") == [
        "s.yaml:3: forbid: its entries together forbid every run of the space"
    ]
    assert space_of(text + first + "forbid: [{model: fpn}]").size() == 1


def test_a_mistake_in_the_space_is_told_once_and_not_at_forbid_again(mistakes_of):
    text = "space:\n  model: [unet, fnp]\n  lr: [1, 2]\nforbid: [{model: fpn, lr: 1}]"
    assert [mistake[:9] for mistake in mistakes_of(text)] == ["s.yaml:2:"]


# Draws at random, and spaces of every kind from the file to the grid and back.


DEEP = """\
run: {warmup_epochs: 1}
space:
  model:
    unet:
      optimizer:
        sgd:
          lr_schedule:
            poly: {momentum: {low: 0.5, high: 0.9, step: 0.2}}
            constant: {momentum: 0.5}
        adamw: {}
      epochs: {low: 10, high: 30, step: 10}
    fpn: {batch_size: {4: {lr: [1e-3]}, 8: {lr: [2e-3, 4e-3]}}, epochs: [20]}
  freeze_encoder_epochs: {low: 0, high: 2, step: 1}
baseline: {model: unet, epochs: 10}
"""


def test_conditions_three_deep_from_the_file_to_the_grid_and_back(space_of):
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


def test_truth_values_can_be_searched_and_can_bring_settings(space_of, monkeypatch):
    for module in (
        "space.reader",
        "space.searched",
        "space.forbid_section",
        "space.space",
    ):  # no setting that can be searched is one yet
        monkeypatch.setattr(f"segtune.{module}.NOT_SEARCHABLE", frozenset())
    space = space_of("""
        add_val_dirs: [more]
        space:
          use_only_add_val: {true: {lr: [0.1, 0.2]}, false: {}}
          loss: [ce, dice]
        forbid: [{use_only_add_val: true, loss: ce}]
        """)
    assert space.parameters[0].values == (True, False)
    grid = list(space.grid())
    assert grid[0] == {"use_only_add_val": True, "use_only_add_val.True.lr": 0.1, "loss": "dice"}
    assert space.size() == len(grid) == 4
    assert all(space.locate(space.draw(Replay(point))) == point for point in grid)
    dumped = yaml.safe_dump(space.dump(), sort_keys=False)
    assert "    true:" in dumped
    assert space_of(dumped) == space


def test_random_draws_are_even_in_the_value_the_step_or_the_logarithm(space_of):
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


def test_whole_numbers_in_logarithms_from_the_file_and_back(space_of):
    space = space_of("space: {batch_size: {low: 2, high: 64, log: true}}")
    assert space.parameters == (Range("batch_size", "batch_size", 2, 64, True, None, True),)
    assert space.size() is None
    assert space.locate({"batch_size": 64}) == {"batch_size": 64}
    assert space.locate({"batch_size": 65}) is None
    assert space_of(yaml.safe_dump(space.dump())) == space


@pytest.mark.parametrize("name", ["time_budget", "max_trial_time", "hang_time"])
@pytest.mark.parametrize(
    ("given", "seconds"),
    [("3600", 3600), ("1.5", 1.5), (" 90 ", 90), (90, 90), (0.5, 0.5), ("8h", 28800), ("1h30m", 5400), ("45s", 45)],
)
def test_a_plain_number_is_seconds_in_the_file_and_on_the_command_line(
    space_of, name: str, given: object, seconds: float
) -> None:
    text = "space: {lr: [1e-3, 1e-2]}\nsearch: {%s}\n"
    assert getattr(space_of(text % f"{name}: {given}").search, name) == seconds
    assert getattr(space_of(text % "", search_overrides={name: given}).search, name) == seconds


@pytest.mark.parametrize("given", ["0", "-5", "8 apples", "h", "nan", "inf", "1e400", "8:00", ""])
def test_what_is_no_duration_is_told_what_one_is(space_of, given: str) -> None:
    with pytest.raises(InputError, match=r"time_budget: (must be a duration such as 8h, .* seconds|.*greater than 0)"):
        space_of("space: {lr: [1e-3, 1e-2]}\n", search_overrides={"time_budget": given})


# Files that would fill the memory, or be read for ever.

NINES = "9" * 400
BOMB = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))
MERGES = "\n".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}" for a, b in pairwise("abcdefghi"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a: &a [x, x, x, x, x, x, x, x, x]\n{BOMB}\n", "5: more than 20,000 values"),
        (f"a: &a {{lr: 1, epochs: 2}}\n{MERGES}\n", "5: more than 20,000 values"),
        ("run:\n  epochs: " + NINES, "2: is too large a number"),
        ("run:\n  epochs: " + NINES * 20, "2: is too large a number"),
        ("run: {lr: -" + NINES + "}", "1: is too large a number"),
        ("space: {lr: {low: 1, high: " + NINES + "}}", "1: is too large a number"),
        ("search: {time_budget: " + NINES + "}", "1: is too large a number"),
        ("search: {time_budget: " + NINES + "h}", "1: search.time_budget: must be a finite number"),
        ("a: " + "[" * 3000, " nested too deeply"),
        ("a: " + "{a: " * 3000, " nested too deeply"),
        ("[" + "1, " * 30_000 + "]", "1: more than 20,000 values"),
        ('dataset: "a\\0b"', "1: holds a character that no name can have"),
        ('dataset: "\\ud800"', "1: holds a character that no name can have"),
        ("run: !!python/object/apply:os.system [ls]", "1: could not determine a constructor for the tag"),
        ("#" * (1 << 20) + "\n", " is larger than 1 MiB"),
    ],
)
def test_a_file_that_would_fill_the_memory_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        load_space(path)
    assert any(mistake.startswith(f"{path}:{problem}") for mistake in caught.value.mistakes)
    assert all(len(mistake) < 400 for mistake in caught.value.mistakes)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("text", [f"classes={'[' * 3000}", f"epochs={NINES}"])
def test_nor_can_a_flag(text: str) -> None:
    with pytest.raises(InputError, match=r"nested too deeply|too large a number"):
        parse_assignments([text])


def test_a_pipe_is_read_and_one_that_gives_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtune.files.yamlfile._WAIT_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="gives nothing to read"):
        read_yaml(pipe)
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_yaml(Path("/dev/zero"))
    reading, writing = os.pipe()
    os.write(writing, b"lr: 1")
    os.close(writing)
    assert read_yaml(Path(f"/dev/fd/{reading}")) == {"lr": 1}  # what a shell makes of <(...)
    os.close(reading)


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("lr: {low: 1e-7, high: 1, step: 1e-7}", False),
        ("lr: {low: 1e-9, high: 1e9, step: 1e-9}", False),
        ("batch_size: {low: 1, high: 999999999999, step: 1}", False),
        ("batch_size: {low: 1, high: 999999999999}", True),
        ("lr: {low: 0.001, high: 1, step: 0.001}", True),
    ],
)
def test_a_step_that_is_tiny_against_its_range_is_refused_before_it_takes_memory(
    tmp_path: Path, given: str, allowed: bool
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"space: {{{given}}}", encoding="utf-8")
    begun = time.process_time()
    if allowed:
        assert load_space(path).searched()
    else:
        with pytest.raises(InputError, match="are more than 100,000; leave step out"):
            load_space(path)
    assert time.process_time() - begun < 1


def test_many_mistakes_are_told_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("".join(f"lrr{i}: 1\n" for i in range(2000)), encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError):
        load_space(path)
    assert time.process_time() - begun < 5
