"""Forbidden combinations: the runs that they exclude, and messages for mistakes."""

from __future__ import annotations

import itertools

import pytest
import yaml

from tests.space.spaces import TREE


def test_grid_and_size_leave_forbidden_points_out(space_of):
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
    # e9 and e90 to e99 lose their half with fpn; e99 loses two more points with unet.
    assert space.size() == 100 * 1000 * 100 * 2 - 11 * 1000 * 100 - 2


def test_an_entry_matches_defaults_and_fixed_settings(space_of):
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


def test_combinations_leaves_out_what_is_always_forbidden(space_of):
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


def test_the_asterisk_of_a_loss_is_no_wildcard(space_of):
    losses = ["0.7*dice+0.3*ce", "0.7*dice+ce", "0.75*dice+0.3*ce", "0.7*dice", "dice"]
    text = f"space: {{loss: [{', '.join(losses)}], lr: [1, 2]}}\nforbid: [{{loss: %s, lr: 1}}]"

    def forbidden(named: str) -> list[str]:
        space = space_of(text % named)
        return [loss for loss in losses if space.forbidden({"loss": loss, "lr": 1.0})]

    assert forbidden("0.7*dice") == ["0.7*dice"]
    assert forbidden("0.3*ce + 0.7*dice") == ["0.7*dice+0.3*ce"]
    assert forbidden("'0.7[*]*'") == ["0.7*dice+0.3*ce", "0.7*dice+ce", "0.7*dice"]


@pytest.mark.parametrize("overrides", [{}, {"encoder": "vgg11"}, {"model": "unet"}, {"optimizer": "sgd"}])
def test_a_dumped_space_keeps_its_forbidden_combinations(space_of, overrides):
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


def test_entries_are_dropped_if_the_command_line_leaves_nothing_to_match(space_of):
    text = TREE + "forbid: [{model: segformer, encoder: vgg*}]"
    assert space_of(text, overrides={"model": "fpn"}).forbid == ()
    assert space_of(text, overrides={"encoder": "resnet34"}).forbid == ()
    (entry,) = space_of(text, overrides={"encoder": "vgg13"}).forbid
    assert entry.plain() == {"model": "segformer", "encoder": "vgg*"}
    # Values that only the branch of fpn has are dropped from the entry; the others stay.
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
    "value refused": ("- model: fpn\n  lr: -1", "s.yaml:8: forbid.lr: must be greater than 0, but got -1"),
    "value in a list": (
        "- model:\n  - fpn\n  - unett\n  encoder: vgg11",
        "s.yaml:9: forbid.model: 'unett' is not one of unet,",
    ),
    "range": ("- {lr: {low: 1, high: 2}}", "s.yaml:7: forbid.lr: must be a valid number"),
    "no value": ("- {model: []}", "s.yaml:7: forbid.model: has no values"),
    "never searched": ("- {model: fpn, seed: 3}", "s.yaml:7: forbid.seed: is the same in all trials"),
    "misspelt wildcard": (
        "- {model: fpn,\n   encoder: vg_*}",
        "s.yaml:8: forbid.encoder: forbids nothing: no run has 'vg_*' (values: resnet18, vgg11)",
    ),
    "misspelt value": (
        "- {model: fpn, encoder: vgg111}",
        "forbid.encoder: forbids nothing: no run has 'vgg111'; did you mean 'vgg11'? (values: resnet18, vgg11)",
    ),
    "value of a continuous range": (
        "- {model: fpn, lr: 1e-3}",
        "s.yaml:7: forbid.lr: forbids nothing: its range never gives 0.001",
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
        "s.yaml:8: forbid: {encoder: res*, model: unet} forbids the first run; set another one under baseline:",
    ),
}


@pytest.mark.parametrize(("text", "expected"), FORBID_MISTAKES.values(), ids=FORBID_MISTAKES)
def test_mistake_under_forbid(mistakes_of, text, expected):
    (mistake,) = mistakes_of(FORBID + text)
    assert mistake.startswith(expected if expected.startswith("s.yaml") else "s.yaml:")
    assert expected in mistake


def test_entries_that_never_match_or_together_forbid_everything(mistakes_of, space_of):
    text = "space: {model: {fpn: {encoder: [a]}, unet: {encoder: [b]}}, lr: [1]}\n"
    first = "baseline: {model: pan, encoder: c}\n"
    assert mistakes_of(text + first + "forbid: [{model: fpn, encoder: b}]") == [
        "s.yaml:3: forbid: {model: fpn, encoder: b} forbids nothing: no run has all of these values"
    ]
    assert mistakes_of(text + first + "forbid: [{model: fpn}, {encoder: b}]") == [
        "s.yaml:3: forbid: its entries together forbid every run of the space"
    ]
    assert space_of(text + first + "forbid: [{model: fpn}]").size() == 1


def test_a_mistake_under_space_is_not_repeated_at_forbid(mistakes_of):
    text = "space:\n  model: [unet, fnp]\n  lr: [1, 2]\nforbid: [{model: fpn, lr: 1}]"
    assert [mistake[:9] for mistake in mistakes_of(text)] == ["s.yaml:2:"]


def test_a_range_of_whole_numbers_does_not_contain_null(mistakes_of):
    text = "space: {model: [unet, fpn], samples_per_epoch: {low: 1, high: 9}}\nbaseline: {model: unet}\n"
    assert mistakes_of(text + "forbid: [{model: fpn, samples_per_epoch: null}]") == [
        "s.yaml:3: forbid.samples_per_epoch: forbids nothing: its range never gives None"
    ]
