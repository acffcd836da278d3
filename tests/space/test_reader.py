"""The grammar of space files."""

from __future__ import annotations

from pathlib import Path

import yaml

from segtune.config import RunConfig
from segtune.space.parameters import Choice, Range
from segtune.space.settings import SearchSettings
from tests.space.spaces import FULL, Replay


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


def test_nested_and_empty_branches(space_of):
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


def test_single_values_under_space_are_fixed(space_of):
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


def test_numbers_can_have_branches(space_of):
    space = space_of("space: {batch_size: {4: {lr: [0.1]}, 8: {}}, image_size: {null: {}, 64: {epochs: [3]}}}")
    assert space.parameters[0].branches[0][0].key == "batch_size.4.lr"
    assert space.parameters[1].values == (None, 64)


def test_off_and_none_are_strings(space_of):
    space = space_of("dataset: off\nspace: {augmentation: [none, safe]}\nrun: {encoder_weights: none}")
    assert space.fixed == {"dataset": "off", "encoder_weights": "none"}
    assert space.parameters[0].values == ("none", "safe")


def test_a_merge_key_does_not_repeat_keys(space_of):
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


def test_booleans_can_be_searched_and_have_branches(space_of, monkeypatch):
    for module in (
        "space.reader",
        "space.space_section",
        "space.forbid_section",
        "space.space",
    ):  # no searchable setting is boolean yet
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


def test_a_log_range_of_whole_numbers(space_of):
    space = space_of("space: {batch_size: {low: 2, high: 64, log: true}}")
    assert space.parameters == (Range("batch_size", "batch_size", 2, 64, True, None, True),)
    assert space.size() is None
    assert space.locate({"batch_size": 64}) == {"batch_size": 64}
    assert space.locate({"batch_size": 65}) is None
    assert space_of(yaml.safe_dump(space.dump())) == space


def test_baseline_replaces_run_and_run_replaces_defaults(space_of):
    space = space_of("run: {epochs: 9}\nspace: {lr: [0.1]}\nbaseline: {lr: 0.5, encoder: resnet34, epochs: 8}")
    assert space.baseline == RunConfig(epochs=8, lr=0.5, encoder="resnet34")
    assert space.fixed == {"epochs": 9}
    assert space.locate(space.baseline.settings()) is None
    fixed = space_of("space: {lr: [0.1]}\nbaseline: {encoder: resnet34}", overrides={"encoder": "resnet18"})
    assert fixed.baseline.encoder == "resnet18"


def test_baseline_inside_the_space_is_located(space_of):
    space = space_of("space: {encoder: [resnet18, efficientnet-b0], lr: {low: 1e-4, high: 1e-2, log: true}}")
    assert space.locate(space.baseline.settings()) == {"encoder": "efficientnet-b0", "lr": 1e-3}


def test_a_searched_value_replaces_a_default_that_is_impossible(space_of):
    space = space_of("run: {warmup_epochs: 60}\nspace: {epochs: [100, 200]}")
    assert space.baseline.epochs == 100
    # A warm-up of 60 goes with 100 epochs, but not with the default of 50; 5 epochs go with a warm-up of 0.
    space = space_of("space: {warmup_epochs: [0, 60], epochs: [5, 100]}")
    assert space.baseline == RunConfig()
    assert space_of("space: {warmup_epochs: {low: 0, high: 60}, epochs: {low: 5, high: 100}}").size() is None


def test_none_is_an_empty_list_wherever_it_stands(space_of):
    space = space_of("channels: none\nignore: none\nspace: {lr: [0.1, 0.2]}")
    assert (space.fixed["channels"], space.fixed["ignore"]) == ([], [])
    (channels,) = space_of("space: {channels: [none, [nir]]}").parameters
    assert channels.values == ([], ["nir"])
