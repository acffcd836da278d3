"""benchmarks/samplers.py: the branch first, then all of its settings together."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import pytest
from samplers import cma, joint

from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.tuning.proposals import Proposals
from segtune.tuning.sampler import Inner, build_sampler

SPACE = """
run: {model: unet, epochs: 3}
space:
  encoder: [resnet18, resnet34]
  optimizer:
    adamw: {lr: {low: 1e-5, high: 1e-1, log: true}}
    sgd: {lr: {low: 1e-5, high: 1e-1, log: true}, momentum: {low: 0.8, high: 0.99}}
search: {trials: 60, sampler: tpe}
"""


def drawn(folder: Path, inner: Inner, score: Callable[[Any], float]) -> list[dict[str, Any]]:
    """The points of a search's later half."""
    (folder / "s.yaml").write_text(SPACE)
    space = load_space(folder / "s.yaml")
    study = optuna.create_study(direction="maximize", sampler=build_sampler(space, inner=inner))
    proposals = Proposals(study, space, SearchFolder(folder), lambda config: config)
    for _ in range(60):
        trial = proposals.next(lambda: False)
        assert trial
        study.tell(trial.number, score(proposals.start(trial).config))
    return [trial.params for trial in study.get_trials()[30:]]


@pytest.mark.parametrize("inner", [joint, cma])
def test_the_best_branch_is_drawn_most_often_with_its_own_settings(tmp_path: Path, inner: Inner) -> None:
    late = drawn(tmp_path, inner, lambda config: 0.3 + 0.2 * (config.optimizer == "sgd"))
    assert sum(params["optimizer"] == "sgd" for params in late) > len(late) / 2
    own = {"adamw": {"optimizer.adamw.lr"}, "sgd": {"optimizer.sgd.lr", "optimizer.sgd.momentum"}}
    assert all(params.keys() == {"encoder", "optimizer", *own[params["optimizer"]]} for params in late)


def test_cma_finds_the_best_numbers_of_a_branch(tmp_path: Path) -> None:
    def off(lr: float) -> float:
        return abs(math.log10(lr) + 2)

    late = drawn(tmp_path, cma, lambda config: 0.3 + (config.optimizer == "sgd") * (0.2 - 0.02 * off(config.lr) ** 2))
    rates = [params["optimizer.sgd.lr"] for params in late if params["optimizer"] == "sgd"]
    assert median(map(off, rates)) < 0.6  # 1.0 if drawn at random
