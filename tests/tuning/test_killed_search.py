"""A search whose trials pause is killed with `kill -9` again and again, at any moment, and continues each time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from optuna.trial import TrialState

from segtune.files.folders import RunFolder, SearchFolder
from segtune.training.runlog import epochs_done, read_rows
from segtune.tuning.study import read_study
from tests.conftest import WriteDataSet

ROOT = Path(__file__).resolve().parent.parent.parent
SPACE = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, epochs: 9, augmentation: safe, workers: 0}
space: {lr: {low: 1e-4, high: 1e-2, log: true}, batch_size: [2, 4]}
search: {trials: 6, grace_period: 1, gpus_per_trial: 0, cpus_per_trial: 1, max_concurrent: 2}
"""
TRIALS = 6


@dataclass
class Snapshot:
    """What a search had at a moment: ended trials with their values, and every trial's rows that are safe."""

    ended: dict[int, tuple[TrialState, dict[int, float]]]
    rows: dict[int, list[dict[str, str]]]

    @property
    def best(self) -> float:
        return max((value for _, values in self.ended.values() for value in values.values()), default=0.0)


def snapshot(folder: SearchFolder) -> Snapshot:
    rows = {}
    for number in range(TRIALS):
        run = RunFolder(folder.path / f"trial_{number:04d}")
        rows[number] = [row for row in read_rows(run) if int(row["epoch"]) <= epochs_done(run)]
    trials = read_study(folder).get_trials() if (folder.path / "study.db").is_file() else []
    ended = {trial.number: (trial.state, trial.intermediate_values) for trial in trials if trial.state.is_finished()}
    return Snapshot(ended, rows)


def only_grew(before: Snapshot, after: Snapshot) -> None:
    for number, result in before.ended.items():
        assert after.ended[number] == result
    assert after.best >= before.best
    for number, rows in before.rows.items():
        # With the seconds that each epoch took: none of them was trained again.
        assert after.rows[number][: len(rows)] == rows
        assert [int(row["epoch"]) for row in after.rows[number]] == list(range(1, len(after.rows[number]) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, 12])
def test_a_search_that_is_killed_at_random_moments_loses_nothing(
    kills: int, tmp_path: Path, data_set: WriteDataSet
) -> None:
    tiles = data_set(tmp_path / "tiles", train=8, val=4)
    space = tmp_path / "killed.yaml"
    space.write_text(f"dataset: {tiles}\n{SPACE}")
    command = [sys.executable, str(ROOT / "run_search.py"), "--space", str(space), "--results-dir", str(tmp_path)]
    folder = SearchFolder(tmp_path / "killed")
    moments = random.Random(kills)
    before = Snapshot({}, {})
    for _ in range(kills):
        process = subprocess.Popen([*command, "--resume"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        begun = time.monotonic()
        while not any(run.held() for run in folder.trials()) and process.poll() is None:
            if time.monotonic() - begun > 120:
                pytest.fail("no trial ever started")
            time.sleep(0.1)
        if process.poll() == 0:
            break  # the search is done: nothing is left to kill
        time.sleep(moments.uniform(0, 4))
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        wait_for_orphans(folder)
        after = snapshot(folder)
        only_grew(before, after)
        before = after

    done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"the page of the search: {folder.report_html}\n" in done.stdout
    only_grew(before, snapshot(folder))
    trials = read_study(folder).get_trials()
    assert len(trials) == TRIALS
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    epochs = [max(trial.intermediate_values) for trial in trials]
    assert epochs[0] == 9  # the baseline
    assert set(epochs) <= {1, 3, 9}  # nothing was stopped between two rungs
    assert sum(done > 1 for done in epochs) >= 2  # the best third went on


def wait_for_orphans(folder: SearchFolder) -> None:
    """Trials' processes notice within seconds that the search was killed; what they write until then counts."""
    limit = time.monotonic() + 60
    while any(run.held() for run in folder.trials()):
        assert time.monotonic() < limit
        time.sleep(0.1)
