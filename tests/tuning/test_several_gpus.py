"""Trials that train on two GPUs each, on Ray. Ray is told of GPUs that are not there: their processes use the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from segtune.data.scan import scan
from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.tuning.search import run_search
from tests.tuning.searches import RUN

SPACE = RUN.replace("epochs: 3", "epochs: 2") + (
    "space: {lr: [1e30, 3e-3]}\n"
    "baseline: {lr: 1e30}\n"
    "search: {sampler: grid, scheduler: none, trials: 2, cpus_per_trial: 2, gpus_per_trial: 2}\n"
)


class Plans:
    """Notes how a search shares the machine out."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def started(self, plan: Any, trials: list[Any]) -> None:
        self.noted.append(str(plan))

    def epoch(self, number: int, result: Any) -> None: ...

    def say(self, line: str) -> None: ...

    def ended(self, trial: Any) -> None: ...


@pytest.mark.slow
def test_a_trial_on_two_gpus_finishes_after_one_that_failed(cluster: None, tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(f"dataset: {tiles}\n{SPACE}")
    space, folder, plans = load_space(tmp_path / "two.yaml"), SearchFolder(tmp_path / "two"), Plans()
    outcome = run_search(space, scan(space.baseline), folder, plans)
    assert plans.noted == ["1 trial at a time, each on 2 cores and 2 GPUs"]
    assert [trial.status for trial in outcome.trials] == ["failed", "finished"]
    assert outcome.trials[0].error.startswith("the loss became")
    for number in (0, 1):
        trial = folder.trial(number)
        stored = yaml.safe_load(trial.run_yaml.read_text(encoding="utf-8"))
        assert stored["gpus"] == 2
        assert stored["machine"]["cuda_visible_devices"] == "0,1"
        assert not trial.held()
