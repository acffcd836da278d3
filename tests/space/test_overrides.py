"""Settings from the command line, which replace those of a space file."""

from __future__ import annotations

from tests.space.spaces import FULL, Draws


def test_overrides_fix_settings(space_of):
    space = space_of(FULL, overrides={"encoder": "resnet34", "lr": 0.01, "epochs": 3, "seed": 7})
    assert space.fixed["encoder"] == "resnet34"
    assert (space.fixed["lr"], space.fixed["epochs"], space.fixed["seed"]) == (0.01, 3, 7)
    assert space.searched() == ("loss", "optimizer", "weight_decay", "momentum", "batch_size")
    assert space.baseline.encoder == "resnet34"
    assert space.draw(Draws(1))["lr"] == 0.01


def test_if_a_choice_is_fixed_its_branch_is_still_searched(space_of):
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
        "s.yaml:5: space.loss: loss 'bce' is for a single class, but classes lists 2; ce is its multi-class form"
    ]
    assert mistakes_of(text, overrides={"precision": "fp16"}) == [
        "s.yaml:1: run.device: precision fp16 needs a GPU, but device is cpu"
    ]
    assert mistakes_of(text, overrides={"precision": "fp16", "device": "cpu"}) == [
        "precision fp16 needs a GPU, but device is cpu"
    ]
    assert mistakes_of(text, overrides={"encodr": "x", "epochs": 0}) == [
        "unknown setting 'encodr'; did you mean 'encoder'?",
        "epochs: must be greater than or equal to 1, but got 0",
    ]


def test_fixing_everything_leaves_nothing_to_search(mistakes_of):
    (mistake,) = mistakes_of("run: {epochs: 3}\nspace: {lr: [0.1]}", overrides={"lr": 0.2})
    assert mistake.startswith("s.yaml:2: space: nothing is searched: the command line fixes")


def test_search_overrides(space_of, mistakes_of):
    space = space_of(FULL, search_overrides={"trials": 3, "seed": None, "max_concurrent": 2})
    assert (space.search.trials, space.search.seed, space.search.max_concurrent) == (3, 0, 2)
    assert mistakes_of(FULL, search_overrides={"trials": 0}) == [
        "trials: must be greater than or equal to 1, but got 0"
    ]


def test_the_callers_checks_see_every_value(mistakes_of, space_of):
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
    # A folder in the file that the command line replaces need not exist; the one from the command line must.
    good = {"dataset": "here", "lr": 0.1, "encoder": "good"}
    assert space_of(text, overrides=good, checks=checks).fixed["dataset"] == "here"
    assert mistakes_of(text, overrides=good | {"dataset": "gone"}, checks=checks)[0] == ("dataset: no folder 'gone'")


def test_early_stopping_is_for_single_runs(mistakes_of):
    (mistake,) = mistakes_of("space: {lr: [1e-3, 1e-4]}", overrides={"early_stopping": 3})
    assert (
        mistake
        == "early_stopping is for single runs; a search has scheduler: asha, which stops poor trials, and patience"
    )
