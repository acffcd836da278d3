"""benchmarks/samplers.py: the branch first, then all of its settings together."""

from __future__ import annotations

from pathlib import Path

import optuna
from samplers import joint

from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.tuning.proposals import Proposals
from segtune.tuning.sampler import build_sampler

SPACE = """
run: {model: unet, epochs: 3}
space:
  encoder: [resnet18, resnet34]
  optimizer:
    adamw: {lr: {low: 1e-5, high: 1e-1, log: true}}
    sgd: {lr: {low: 1e-5, high: 1e-1, log: true}, momentum: {low: 0.8, high: 0.99}}
search: {trials: 60, sampler: tpe}
"""


def test_the_best_branch_is_drawn_most_often_with_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPACE)
    space = load_space(tmp_path / "s.yaml")
    study = optuna.create_study(direction="maximize", sampler=build_sampler(space, inner=joint))
    proposals = Proposals(study, space, SearchFolder(tmp_path), lambda config: config)
    for _ in range(60):
        trial = proposals.next(lambda: False)
        assert trial
        config = proposals.start(trial).config
        study.tell(trial.number, 0.3 + 0.2 * (config.optimizer == "sgd"))
    late = [trial.params for trial in study.get_trials()[30:]]
    assert sum(params["optimizer"] == "sgd" for params in late) > len(late) / 2
    own = {"adamw": {"optimizer.adamw.lr"}, "sgd": {"optimizer.sgd.lr", "optimizer.sgd.momentum"}}
    assert all(params.keys() == {"encoder", "optimizer", *own[params["optimizer"]]} for params in late)
