"""What goes together in a space."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.planning.feasibility import check_space
from segtune.space.reader import load_space

CLUSTER = "ray://head:10001"  # nothing asks it for its GPUs here


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}", []),
        (
            "space: {model: [linknet, unetplusplus], encoder: [mit_b0, resnet18]}",
            ["model linknet does not work with encoder mit_b0"],
        ),
        (
            "space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}\nbaseline: {model: linknet, encoder: mit_b0}",
            [
                "model linknet does not work with encoder mit_b0; this is the first run, and baseline: can give "
                "another one"
            ],
        ),
        (
            "space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}\nsearch: {sampler: grid}",
            [
                "model linknet does not work with encoder mit_b0; a grid tries every combination that is not excluded"
                " under forbid:"
            ],
        ),
        (
            "space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}\nsearch: {sampler: grid}\n"
            "forbid: [{model: linknet, encoder: mit*}]",
            [],
        ),
        (
            "space: {model: [unet, pan], image_size: [64, 128]}\nrun: {encoder: resnet18}",
            [],
        ),
        (
            "space: {model: [fpn, linknet], image_size: [65, 128]}\nrun: {encoder: resnet18}",
            ["image_size 65 is not a multiple of 32, which model fpn needs"],
        ),
    ],
)
def test_only_values_that_fit_no_other_value_are_mistakes(tmp_path: Path, text: str, mistakes: list[str]) -> None:
    path = tmp_path / "s.yaml"
    first = "" if "baseline" in text or "encoder: [" not in text else "\nbaseline: {encoder: resnet18, model: unet}"
    path.write_text(text + first)
    space = load_space(path)
    if not mistakes:
        check_space(space)
        return
    with pytest.raises(InputError) as caught:
        check_space(space)
    assert caught.value.mistakes == [f"{path}: {mistake}" for mistake in mistakes]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "loss: [dice, ce], class_weights: [none, balanced]",
            "class_weights changes focal, ce, bce and boundary_ce only, but loss is dice; a grid tries every "
            "combination that is not excluded under forbid:, or give class_weights to the values of loss that take "
            "it, in a branch",
        ),
        (
            "lr: [1e-3, 1e-2], warmup_epochs: [1, 9], epochs: [9, 20]",
            "warmup_epochs must be below epochs, but got (warmup_epochs=9, epochs=9); a grid tries every combination "
            "that is not excluded under forbid:, or give warmup_epochs to the values of epochs that take it, in a "
            "branch",
        ),
    ],
)
def test_a_grid_is_refused_for_settings_that_clash_in_some_runs(tmp_path: Path, text: str, mistake: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"space: {{{text}}}\nbaseline: {{}}\nsearch: {{sampler: grid}}")
    with pytest.raises(InputError) as caught:
        check_space(load_space(path))
    assert caught.value.mistakes == [f"{path}: {mistake}"]
    path.write_text(f"space: {{{text}}}")
    check_space(load_space(path))  # tpe draws such a combination again


def test_each_gpu_of_a_trial_gets_a_tile_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("space: {batch_size: [2, 8]}\nsearch: {gpus_per_trial: 4}")
    with pytest.raises(InputError, match=r"batch_size: must be at least gpus_per_trial \(4\), .* but got 2$"):
        check_space(load_space(path), address=CLUSTER)
    for accepted in ("batch_size: [4, 8]}\nsearch: {gpus_per_trial: 4}", "batch_size: [1, 8]}"):
        path.write_text(f"space: {{{accepted}")
        check_space(load_space(path), address=CLUSTER)


def test_a_grid_without_clashes_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    losses = "loss: [dice, ce], class_weights: [none, balanced]"
    forbid = "forbid: [{loss: dice, class_weights: balanced}]"
    path.write_text(f"space: {{{losses}}}\nsearch: {{sampler: grid}}\n{forbid}")
    check_space(load_space(path))
    losses = "loss: {dice: {}, ce: {class_weights: [none, balanced]}}"
    path.write_text(f"space: {{{losses}}}\nsearch: {{sampler: grid}}")
    check_space(load_space(path))


def test_a_resumed_grid_keeps_the_clashes_that_it_was_started_with(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("space: {loss: [dice, ce], class_weights: [none, balanced]}\nsearch: {sampler: grid}")
    space = load_space(path)
    check_space(space, started=space)


def test_a_dead_setting_is_refused_but_a_search_that_has_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("run: {encoder_weights: none}\nspace: {momentum: [0.8, 0.9], optimizer: [adam, adamw]}")
    space = load_space(path)
    with pytest.raises(InputError) as caught:
        check_space(space)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{path}: space.momentum: has no effect without optimizer sgd, ")
    said: list[str] = []
    check_space(space, started=space, say=said.append)
    assert said == [f"note: {mistake.removeprefix(f'{path}: ')}"]
