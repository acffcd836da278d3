"""A run whose state or table is damaged or missing does not go on."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segtune.config import RunConfig
from segtune.training.state import load_state
from tests.training.runs import (
    Whole,
    refusal,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def cut(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def no_bytes(state: Path) -> None:
    state.write_bytes(b"")


def no_torch(state: Path) -> None:
    state.write_bytes(b"not what it was" * 99)


def nothing_in_it(state: Path) -> None:
    torch.save({}, state)


def a_list(state: Path) -> None:
    torch.save([1, 2], state)


def only_weights(state: Path) -> None:
    torch.save(load_state(state)["model"], state)


def of_another_model(state: Path) -> None:
    content = load_state(state)
    content["model"].popitem()
    torch.save(content, state)


def without_progress(state: Path) -> None:
    content = load_state(state)
    content.pop("progress")
    torch.save(content, state)


@pytest.mark.parametrize(
    "spoil",
    [cut, no_bytes, no_torch, nothing_in_it, a_list, only_weights, of_another_model, without_progress],
)
def test_a_state_that_is_damaged_or_missing_is_named(
    config: RunConfig, begun: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(begun / "state.pt")
    mistake = refusal(config, begun)
    assert str(begun) in mistake
    assert "state.pt" in mistake


def test_a_state_with_values_of_a_wrong_type_is_named(config: RunConfig, begun: Path) -> None:
    wrong: list[tuple[str, object]] = [
        ("progress.epoch", "one"),
        ("progress.best_miou", math.nan),
        ("progress.micro_batch", 0),
        ("progress.total", torch.zeros(3)),
        ("progress.unknown", 1),
        ("row", {"epoch": [1]}),
        ("worst", {"val": [(0.5, 10**6, torch.zeros(2, 2, dtype=torch.uint8))]}),
        ("schedule.last_epoch", "one"),
        ("optimizer.param_groups.0.betas", "ab"),
        ("optimizer.state.0.exp_avg", torch.zeros(3)),
        ("optimizer.state.0.exp_avg", torch.zeros(3, device="meta")),
    ]
    intact = (begun / "state.pt").read_bytes()
    for place, value in wrong:
        content = load_state(begun / "state.pt")
        *way, last = (int(part) if part.isdigit() else part for part in place.split("."))
        part: Any = content
        for step in way:
            part = part[step]
        part[last] = value
        torch.save(content, begun / "state.pt")
        expected = f"{begun / 'state.pt'}: damaged, or not the state of this run ("
        assert refusal(config, begun).startswith(expected), place
        (begun / "state.pt").write_bytes(intact)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("\n1,", "\none,"),
        lambda text: text.replace("epoch", "epic", 1),
        lambda text: text.replace(",2,", ",two,"),
        lambda text: text + "4\n",
        lambda text: text.replace("\n1,", "\n1,1,1,"),
        lambda text: text.replace("\n1,", "\n1\0,"),
    ],
    ids=["epoch", "column", "number", "short", "long", "zero"],
)
def test_a_table_of_epochs_that_was_damaged_is_named(
    config: RunConfig, tmp_path: Path, whole: Whole, damage: Callable[[str], str]
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    table = tmp_path / "run" / "metrics.csv"
    text = table.read_text(encoding="utf-8")
    assert damage(text) != text
    table.write_text(damage(text), encoding="utf-8")
    assert refusal(config, tmp_path / "run").startswith(f"{table}: damaged")


def test_a_state_that_is_missing_is_named(config: RunConfig, tmp_path: Path) -> None:
    run(config, tmp_path, epochs=2)
    (tmp_path / "state.pt").unlink()
    assert refusal(config, tmp_path).startswith(f"{tmp_path}: cannot go on: state.pt")
