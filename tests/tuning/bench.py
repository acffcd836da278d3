"""A study and its searcher without a backend: tests call the searcher themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.models.manifest import Manifest
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.asha import Asha
from segtune.tuning.failures import Failure, Fault, death_of
from segtune.tuning.proposals import Planned, Proposals, TrialStart
from segtune.tuning.results import Results
from segtune.tuning.sampler import build_sampler
from segtune.tuning.scheduler import Decision, Scheduler
from segtune.tuning.searcher import Searcher
from segtune.tuning.stopping import Cause, Rules
from segtune.tuning.study import open_study
from tests.epochs import epoch_result

SPACE = """
run: {epochs: 3, model: unet, lr: 1e-3, batch_size: 4}
space:
  encoder: [resnet18, mobilenet_v2]
  optimizer:
    adamw: {weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd: {momentum: {low: 0.8, high: 0.99}}
search: {trials: 8, sampler: random}
"""


class Chosen(Asha):
    """Stops the trials that a test chooses."""

    def __init__(self) -> None:
        super().__init__(1, 2, 1)
        self.chosen: set[int] = set()

    def decide(self, number: int, result: EpochResult) -> Decision:
        return Decision.STOP if number in self.chosen else Decision.CONTINUE

    def ended(self, number: int, last: EpochResult | None) -> None:
        pass


@dataclass
class Bench:
    """A study and its searcher, called by a test instead of a backend; records the ends and repeats of trials."""

    folder: SearchFolder
    space_text: str
    concurrent: int = 2
    resolve: Callable[[RunConfig], RunConfig] = lambda config: config
    planned: Sequence[Planned] = ()
    ends: list[int] = field(default_factory=list)
    repeats: list[tuple[int, str]] = field(default_factory=list)
    compared: Callable[[Space, optuna.Study], Scheduler | None] | None = None  # None: the test chooses what stops

    def __post_init__(self) -> None:
        self.folder.path.mkdir(exist_ok=True)
        path = self.folder.path / "space.yaml"
        path.write_text(self.space_text)
        self.space = load_space(path)
        self.study = open_study(self.folder, "s")
        self.study.sampler = build_sampler(self.space, self.clash)
        self.rules = Rules(self.space.search, self.study)
        self.asha = Chosen()
        proposals = Proposals(self.study, self.space, self.folder, self.resolve, self.planned)
        retries = self.space.search.retries
        scheduler = self.compared(self.space, self.study) if self.compared else self.asha
        self.searcher = Searcher(
            self.study, self.folder, proposals, self.concurrent, retries, scheduler, self.rules, watcher=self
        )

    @staticmethod
    def clash(settings: Mapping[str, Any]) -> str | None:
        try:
            RunConfig.from_settings(settings)
        except InputError as error:
            return error.mistakes[0]
        return None

    def epoch(self, number: int, result: EpochResult) -> None:
        pass

    def ended(self, number: int) -> None:
        self.ends.append(number)

    def repeated(self, number: int, reason: str) -> None:
        self.repeats.append((number, reason))

    def start(self) -> TrialStart:
        start = self.searcher.next_trial()
        assert start
        return start

    def over(self) -> bool:
        """Return whether no more trials come and none runs."""
        return self.searcher.next_trial() is None and not self.searcher.live

    def waits(self) -> bool:
        """Return whether no trial may start before a running one has ended."""
        return self.searcher.next_trial() is None and bool(self.searcher.live)

    def report(self, number: int, epoch: int, value: float, **others: Any) -> Decision:
        return self.searcher.epoch(number, epoch_result(epoch, value, **others))

    def finish(self, number: int, value: float = 0.5) -> None:
        """Report all epochs of a trial and its end."""
        for epoch in (1, 2, 3):
            self.report(number, epoch, value)
        self.searcher.ended(number)

    def stop(self, number: int, epoch: int, value: float) -> None:
        """Report an epoch after which the trial is stopped early."""
        self.asha.chosen.add(number)
        assert self.report(number, epoch, value) is Decision.STOP
        self.searcher.ended(number)

    def fail(self, number: int, reason: str, fault: Fault = Fault.SETTINGS) -> None:
        self.searcher.ended(number, Failure(reason, fault))

    def lose(self, number: int) -> None:
        """Let the process of a trial die."""
        self.searcher.ended(number, death_of(self.folder.trial(number)))

    def halted(self) -> str | None:
        """Return why the search cannot go on; None where it can."""
        end = self.searcher.early_end()
        return end.reason if end and end.cause is Cause.FAULT else None

    def results(self) -> Results:
        return Results(self.study, self.folder, self.space, "fingerprint")

    def close(self) -> None:
        """Close the study's database, as the end of its process would."""
        self.study._storage.remove_session()

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials()]


def manifest(epoch: int = 1, miou: float = 0.5) -> Manifest:
    """Make the content of a run.yaml, with the metrics of its model."""
    config = RunConfig(image_size=32)
    labels = Labels.from_masks(config.classes, config.ignore, [0, 255])
    metrics = {"epoch": epoch, "miou": miou}
    return Manifest(
        config, labels, (Band("image:1", 0.5, 0.1, 0.0, 1.0),), True, "fp32", "cpu", "f", 1000, 6, 6, metrics=metrics
    )


def leave_model(folder: Path, epoch: int, miou: float, data: bytes = b"weights") -> None:
    """Write what a run has in its best/ after an epoch, as far as a search looks at it."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest(epoch, miou).write(folder / "run.yaml")
    (folder / "model.safetensors").write_bytes(data)
