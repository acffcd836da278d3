"""Settings that have no effect in the runs of a space: refused, or a hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.roles import acts
from segtune.space.reader import load_space
from segtune.space.settings import SearchSettings
from segtune.space.unused import unused_settings

SPACES = Path(__file__).resolve().parent.parent.parent / "search_spaces"
WITHOUT = "has no effect without optimizer sgd, sgdw, rmsprop, lars, madgrad or muon, and"
DEAD = {
    "searched beside others": (
        "space: {momentum: [0.8, 0.9], optimizer: [adam, adamw]}",
        "space.momentum",
        "adam or adamw",
    ),
    "beside the default": ("space: {momentum: {low: 0.8, high: 0.9}}", "space.momentum", "adamw"),
    "in a branch": (
        "space: {optimizer: {sgd: {momentum: [0.8, 0.9]}, adam: {momentum: [0.7, 0.8]}}}",
        "space.optimizer.adam.momentum",
        "adam",
    ),
    "fixed": (
        "run: {momentum: 0.5}\nspace: {optimizer: [adam, lion]}\nbaseline: {optimizer: adam}",
        "momentum",
        "adam or lion",
    ),
    "forbidden with sgd": (
        "space: {optimizer: [sgd, adam], momentum: [0.8, 0.9]}\nforbid: [{optimizer: sgd}]",
        "space.momentum",
        "adam",
    ),
}


def found(tmp_path: Path, text: str, **overrides: object) -> list[tuple[bool, str]]:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return [(item.dead, item.text) for item in unused_settings(load_space(path, overrides))]


@pytest.mark.parametrize(("text", "place", "present"), DEAD.values(), ids=DEAD)
def test_a_momentum_without_an_optimizer_that_takes_it_is_dead(
    tmp_path: Path, text: str, place: str, present: str
) -> None:
    assert found(tmp_path, text) == [(True, f"{place}: {WITHOUT} optimizer is {present}; leave momentum out")]


def test_the_command_line_can_make_a_setting_dead_and_mend_it(tmp_path: Path) -> None:
    text = "space: {momentum: [0.8, 0.9], optimizer: [sgd, adamw], lr: [1, 2]}"
    (only,) = found(tmp_path, text, optimizer="adamw")
    assert only == (True, f"space.momentum: {WITHOUT} optimizer is adamw; leave momentum out")
    assert found(tmp_path, text, optimizer="adamw", momentum=0.9) == []
    assert found(tmp_path, text, optimizer="sgd") == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "run: {adv_freq: 5}\nspace: {lr: [1, 2]}",
            "adv_freq: has no effect without add_val_dirs, and none is given; leave adv_freq out",
        ),
        (
            "space: {lr: [1, 2]}\nsearch: {scheduler: none, grace_period: 5}",
            "search.grace_period: has no effect without scheduler asha, and scheduler is none; leave grace_period out",
        ),
    ],
)
def test_settings_of_other_kinds_are_dead_without_what_they_need(tmp_path: Path, text: str, line: str) -> None:
    assert found(tmp_path, text) == [(True, line)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "space: {momentum: [0.8, 0.9], optimizer: [sgd, adam]}",
            "momentum has an effect only with optimizer sgd, and about 50% of the runs cannot use it; better: "
            "optimizer: {sgd: {momentum: ...}, ...}",
        ),
        (
            "space: {lr_decay: {low: 0.1, high: 0.5}, lr_schedule: [cosine, step]}",
            "lr_decay has an effect only with lr_schedule step, and about 50% of the runs are then impossible; "
            "better: lr_schedule: {step: {lr_decay: ...}, ...}",
        ),
        (
            "run: {encoder_weights: none}\nspace: {encoder_lr_factor: [0.1, 1]}",
            "space.encoder_lr_factor: is meant for pretrained encoders, but all encoders start with random weights",
        ),
        (
            "run: {epochs: 5}\nspace: {lr: [1, 2]}\nsearch: {grace_period: 5}",
            "search.grace_period: asha stops no trial before 5 epochs, and no trial has more than 5",
        ),
    ],
)
def test_what_is_of_little_use_is_a_hint(tmp_path: Path, text: str, line: str) -> None:
    ((dead, said),) = found(tmp_path, text)
    assert not dead
    assert said.startswith(line)


@pytest.mark.parametrize(
    "text",
    [
        "space: {optimizer: {sgd: {momentum: [0.8, 0.9]}, adam: {}}}",
        "space: {momentum: [0.8, 0.9], optimizer: [sgd, rmsprop, lars, muon, madgrad, adam]}",  # idle in a sixth
        "run: {momentum: 0.9}\nspace: {optimizer: [adam, adamw]}",  # the default
        "run: {momentum: 0.8}\nspace: {optimizer: [adam, adamw]}\nbaseline: {optimizer: sgd}",
        "space: {label_smoothing: [0, 0.1], loss: [dice, 0.5*dice+0.5*ce]}",  # other combinations are drawn again
        "space: {encoder_lr_factor: [0.1, 1]}",
        "run: {encoder_weights: imagenet}\nspace: {freeze_encoder_epochs: [0, 2]}",
        "space: {lr: [1, 2]}\nsearch: {scheduler: none, reduction_factor: 3}",
    ],
)
def test_what_some_runs_use_is_no_matter(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_spaces_that_ship_use_all_that_they_set(path: Path) -> None:
    assert unused_settings(load_space(path)) == []


def test_each_condition_names_values_that_the_other_setting_takes() -> None:
    for model in (RunConfig, SearchSettings):
        for name, needed in acts(model).items():
            assert needed.name in model.model_fields
            default = model.model_fields[needed.name].default
            assert not needed.at(default) or needed.values or needed.name == "encoder_weights", name
