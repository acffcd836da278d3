"""A study and its searcher, driven as Ray Tune drives them, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.folders import SearchFolder
from segtune.space import load_space
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.rules import Rules
from segtune.tuning.sampler import build_sampler
from segtune.tuning.searcher import StudySearcher
from segtune.tuning.study import open_study

SPACE = """
run: {epochs: 3, model: unet, lr: 1e-3, batch_size: 4}
space:
  encoder: [resnet18, mobilenet_v2]
  optimizer:
    adamw: {weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd: {momentum: {low: 0.8, high: 0.99}}
search: {trials: 8, sampler: random}
"""


@dataclass
class Bench:
    """A study and its searcher, without Ray."""

    folder: SearchFolder
    space_text: str
    concurrent: int = 2
    stopped: set[str] = field(default_factory=set)
    ended: list[int] = field(default_factory=list)
    repeated: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.path.mkdir(exist_ok=True)
        path = self.folder.path / "space.yaml"
        path.write_text(self.space_text)
        self.space = load_space(path)
        self.study = open_study(self.folder, "s")
        self.study.sampler = build_sampler(self.space, self.clash, known=len(self.study.trials))
        self.rules = Rules(self.space.search, self.study)
        self.searcher = StudySearcher(
            self.study,
            self.space,
            self.folder,
            lambda config: config,
            self.concurrent,
            lambda: self.stopped,
            self.rules,
            self.ended.append,
            lambda number, reason: self.repeated.append((number, reason)),
        )

    @staticmethod
    def clash(settings: Mapping[str, Any]) -> str | None:
        try:
            RunConfig.from_settings(settings)
        except InputError as error:
            return error.mistakes[0]
        return None

    def start(self, ray_id: str) -> dict[str, Any]:
        config = self.searcher.suggest(ray_id)
        assert isinstance(config, dict)
        return config

    def report(self, ray_id: str, epoch: int, value: float) -> dict[str, Any]:
        result = {"epoch": epoch, "epochs": 3, OBJECTIVE: value, "seconds": 1.0, "collapsed_epochs": 0}
        self.searcher.on_trial_result(ray_id, result)
        return result

    def finish(self, ray_id: str, value: float = 0.5) -> None:
        for epoch in (1, 2, 3):
            result = self.report(ray_id, epoch, value)
        self.searcher.on_trial_complete(ray_id, result)

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials()]
