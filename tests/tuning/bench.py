"""A study and its searcher, driven as Ray Tune drives them, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.models.manifest import Manifest
from segtune.space.reader import load_space
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.results import Results
from segtune.tuning.sampler import build_sampler
from segtune.tuning.searcher import StudySearcher
from segtune.tuning.stopping import Rules
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

    def results(self) -> Results:
        return Results(self.study, self.folder, self.space, "fingerprint")

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials()]


def manifest(epoch: int = 1, miou: float = 0.5) -> Manifest:
    """A run.yaml's content, with what its model reached."""
    config = RunConfig(image_size=32)
    labels = Labels.from_masks(config.classes, config.ignore, [0, 255])
    metrics = {"epoch": epoch, "miou": miou}
    return Manifest(
        config, labels, (Band("image:1", 0.5, 0.1, 0.0, 1.0),), True, "fp32", "cpu", "f", 1000, 6, 6, metrics=metrics
    )


def leave_model(folder: Path, epoch: int, miou: float, data: bytes = b"weights") -> None:
    """What a run has in its best/ after an epoch, as far as a search looks at it."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest(epoch, miou).write(folder / "run.yaml")
    (folder / "model.safetensors").write_bytes(data)
