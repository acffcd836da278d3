"""A search whose winner is confirmed by runs that no network trained: a test says what each trial reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segtune.config import RunConfig
from segtune.confirmed import Confirmation
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.tile_counts import write_tiles
from segtune.files.folders import SearchFolder
from segtune.planning.resources import Plan
from segtune.tuning.confirm import AS_SET, Asked, Confirming
from segtune.tuning.confirm_runs import Ended
from segtune.tuning.failures import Failure
from segtune.tuning.feed import Feed
from segtune.tuning.finals import Finals
from segtune.tuning.proposals import TrialStart
from segtune.tuning.retention import Retention
from tests.epochs import epoch_result, write_results
from tests.tuning.bench import SPACE, Bench, leave_model, manifest

TILES, PIXELS = 12, 10_000

# The search's best trial, 2, owes its score to chance: trial 1 is better in truth.
VALUES, SKILLS = [0.70, 0.80, 0.90, 0.60], {0: 0.70, 1: 0.85, 2: 0.80, 3: 0.90}
MEDIAN = "confirm_0001_s1"  # of trial 1
SIX = [f"confirm_{trial:04d}_s{seed}" for seed in (1, 2) for trial in (0, 2, 1)]


@dataclass
class Data:
    """As much of a scan as a confirmation looks at."""

    tiles: int = TILES
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 8, "val": TILES})
    folds: tuple[()] = ()

    def store(self, split: str, config: RunConfig) -> Any:
        return Names(self.tiles)


@dataclass
class Names:
    number: int

    def __len__(self) -> int:
        return self.number

    def name(self, index: int) -> str:
        return f"scene_{index // 2}_{index}"


def counts(skill: float, seed: int, style: float = 0.0) -> TileCounts:
    """What a run of this skill counts: tiles are hard for all runs alike, but for its style on pairs of tiles."""
    hard = np.random.default_rng(0).normal(0, 0.05, TILES)
    own = style * np.random.default_rng(round(100 * skill)).normal(size=TILES // 2).repeat(2)
    right = np.clip(skill + hard + own + np.random.default_rng(seed).normal(0, 0.01), 0.02, 0.98)
    objects = np.full(TILES, PIXELS // 2)
    hits = np.round(objects * right).astype(np.int64)
    numbers = [PIXELS - objects, np.zeros(TILES, dtype=np.int64), objects - hits, hits]
    return TileCounts.of(np.stack(numbers, axis=-1).reshape(-1, 2, 2))


@dataclass
class Trains:
    """A backend whose runs reach the skill of their trial, and fail as often as a test says."""

    skills: Mapping[int, float]
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    interrupt_after: int | None = None  # runs
    style: float = 0.0  # deviation of a configuration on pairs of tiles
    trained: list[str] = field(default_factory=list)
    starts: list[TrialStart] = field(default_factory=list)

    def run(self, searcher: Feed) -> None:
        while start := searcher.next_trial():
            name = start.path.name
            self.starts.append(start)
            if failures := self.failures.get(name):
                searcher.ended(start.number, failures.pop(0))
                continue
            if len(self.trained) == self.interrupt_after:
                searcher.halt("the test stops here")
                searcher.ended(start.number)
                return
            self.trained.append(name)
            leave_run(start, self.skills[int(name[8:12])], self.style)
            searcher.epoch(start.number, epoch_result(3))
            searcher.ended(start.number)


def leave_run(start: TrialStart, skill: float, style: float = 0.0) -> None:
    """Write what a run with a fresh seed leaves."""
    found = counts(skill, start.config.seed, style)
    miou = mean_iou(found.total())
    assert miou is not None
    leave_model(start.folder.best, 3, miou, data=start.path.name.encode())
    manifest().write(start.folder.run_yaml)
    write_results(start.folder, [epoch_result(epoch, miou) for epoch in (1, 2, 3)])
    start.folder.state.write_bytes(b"state")
    write_tiles(start.folder.tiles, [f"val/scene_{i // 2}_{i}" for i in range(TILES)], found)


class Searched:
    """A search whose trials ended with these scores, and its confirmation."""

    def __init__(self, folder: Path, values: list[float], search: str = "confirm: {top: 2, seeds: 2}") -> None:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        text = f"dataset: {folder / 'data'}{SPACE.replace('trials: 8', f'trials: 8, {search}')}"
        self.bench = Bench(SearchFolder(folder), text)
        self.said: list[str] = []
        self.add(values)

    def add(self, values: list[float]) -> None:
        """Let more trials end, with a model each."""
        for value in values:
            number = self.bench.start().number
            leave_model(self.bench.folder.trial(number).best, 3, value, data=str(number).encode())
            manifest().write(self.bench.folder.trial(number).run_yaml)
            write_results(self.bench.folder.trial(number), [epoch_result(epoch, value) for epoch in (1, 2, 3)])
            self.bench.finish(number, value)

    def confirm(self, backend: Trains, asked: Asked = AS_SET, data: Data | None = None) -> Ended:
        """Confirm the winner, as a new start of the search would."""
        bench, results = self.bench, self.bench.results()
        self.results, self.retention = results, Retention(results, bench.folder, bench.space.search)
        self.retention.update()

        def resolved(config: RunConfig) -> RunConfig:
            return config.model_copy(update={"image_size": 32, "threads": 1})

        confirming = Confirming(
            bench.space,
            data or Data(),  # type: ignore[arg-type]
            bench.folder,
            resolved,
            Plan(2, 0, 1, 0.0, 1),
            results,
            self.retention,
            bench.rules,
            Finals(bench.space, bench.folder, resolved, 2, self.retention, bench.rules, self.said.append),
            asked,
            self.said.append,
        )
        return confirming.run(backend)

    @property
    def confirmation(self) -> Confirmation:
        found = Confirmation.read(self.bench.folder.confirmation)
        assert found
        return found

    @property
    def model(self) -> str:
        """What best/ holds: the number of a trial, or the name of a run with a fresh seed."""
        return (self.bench.folder.best / "model.safetensors").read_text()
