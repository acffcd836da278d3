"""What goes together in a space."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.planning.feasibility import check_space
from segtune.space.reader import load_space


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
