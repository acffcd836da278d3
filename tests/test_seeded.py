"""The same seed gives the same numbers: one run and one small search against what was recorded.

Columns that were not recorded, as that of a newer setting, may hold anything. After a change that is meant to alter
results, record them anew: `python tests/test_seeded.py`.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import write_data_set

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_suffix(".json")
RUN = """
model: unet
encoder: tu-mobilenetv3_small_050
image_size: 32
epochs: 4
augmentation: medium
batch_size: 3
channels: [nir]
device: cpu
workers: 0
threads: 1
seed: 3
encoder_weights: none
"""
SPACE = """
channels: [nir]
run:
  {model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, epochs: 4, workers: 0,
   device: cpu, threads: 1, batch_size: 4, encoder_weights: none}
space:
  loss: [dice, jaccard, dice+bce]
  optimizer:
    adamw: {lr: {low: 1e-4, high: 1e-2, log: true}}
    sgd: {lr: {low: 1e-3, high: 1e-1, log: true}, momentum: {low: 0.8, high: 0.99}}
  augmentation: [safe, light, medium]
search: {trials: 8, grace_period: 1, gpus_per_trial: 0, cpus_per_trial: 1, max_concurrent: 1, seed: 5, start: none}
"""
RESULTS = dict.fromkeys(("status", "epochs", "miou", "best_epoch", "error"))
PLACES = ("dataset", "val_dir", "cache_dir", "data")


def rows(path: Path) -> list[dict[str, str]]:
    """A table without times and places."""
    with path.open(newline="") as file:
        return [
            {
                name: value
                for name, value in row.items()
                if not re.search("second|^spent_|^waiting_|^latency$", name) and name not in PLACES
            }
            for row in csv.DictReader(file)
        ]


def call(*command: object) -> None:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def searched(folder: Path, name: str, *flags: str) -> dict[str, Any]:
    """A search's trials and all of its epochs, without times and places."""
    space = ("--space", folder / "small.yaml", "--name", name, "--results-dir", folder)
    call("run_search.py", "-d", folder / "tiles", *space, *flags)
    trials = sorted((folder / name).glob("trial_*/metrics.csv"))
    return {"trials": rows(folder / name / "trials.csv"), "epochs": [rows(path) for path in trials]}


def results(folder: Path) -> dict[str, Any]:
    """A run's epochs and what a search leaves, without times and places."""
    data = write_data_set(folder / "tiles")
    (folder / "run.yaml").write_text(RUN)
    (folder / "small.yaml").write_text(SPACE)
    call("run_single.py", "-d", data, "--config", folder / "run.yaml", "--log-dir", folder, "--exp-name", "run")
    return {"run": rows(folder / "run" / "metrics.csv"), **searched(folder, "small")}


def recorded_of(found: Any, recorded: Any) -> Any:
    """Leave out the columns that were not recorded; one that was recorded and is missing stays missing."""
    if isinstance(recorded, dict):
        return {name: value for name, value in found.items() if name in recorded}
    if len(found) != len(recorded):
        return found
    return [recorded_of(part, before) for part, before in zip(found, recorded, strict=True)]


def made_with() -> dict[str, str]:
    # Processors of two makers round differently, though both have the same instructions.
    found = re.search(r"^vendor_id\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    maker = found[1] if found else "unknown"
    return {"torch": torch.__version__, "cpu": f"{maker} {torch.backends.cpu.get_cpu_capability()}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeded")


@pytest.fixture(scope="module")
def got(folder: Path) -> dict[str, Any]:
    return results(folder)


@pytest.mark.slow
def test_results_are_those_that_were_recorded(got: dict[str, Any]) -> None:
    recorded = json.loads(RECORD.read_text())
    if recorded["made_with"] == made_with():
        for part in ("run", "trials", "epochs"):
            assert recorded_of(got[part], recorded[part]) == recorded[part]
    else:  # another release of torch, or another kind of processor, rounds differently, and training amplifies it
        assert float(got["run"][0]["loss"]) == pytest.approx(float(recorded["run"][0]["loss"]), abs=0.05)
        for trial, before in zip(got["trials"][:2], recorded["trials"], strict=False):
            assert {**recorded_of(trial, before), **RESULTS} == {**before, **RESULTS}


@pytest.mark.slow
def test_trials_and_numbers_are_the_same_without_ray(got: dict[str, Any], folder: Path) -> None:
    alone = searched(folder, "alone", "--in-process")
    assert alone == {name: got[name] for name in alone}


def test_a_new_column_is_let_through_and_a_recorded_one_must_be_there() -> None:
    recorded = [[{"epoch": "1", "loss": "0.5"}]]
    assert recorded_of([[{"epoch": "1", "loss": "0.5", "new": "7"}]], recorded) == recorded
    for found in ([[{"epoch": "1", "new": "7"}]], [[{"epoch": "1", "loss": "0.50000001"}]], [recorded[0] * 2], []):
        assert recorded_of(found, recorded) != recorded


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        record = {"made_with": made_with(), **results(Path(scratch))}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
