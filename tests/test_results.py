"""What a search keeps on disk while it runs, and what it deletes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from bench import SPACE, Bench

from segtune.folders import SearchFolder
from segtune.tuning.results import Results
from segtune.tuning.rules import Rules

MODEL_BYTES = 1_000_000


def searched(folder: Path, values: list[float], **search: Any) -> tuple[Bench, Results]:
    """A search whose trials ended with these values, each with a model of a megabyte."""
    more = "".join(f", {name}: {value}" for name, value in search.items())
    bench = Bench(SearchFolder(folder), SPACE.replace("trials: 8", f"trials: 8{more}"))
    for number, value in enumerate(values):
        bench.start(str(number))
        model_of(bench, number).mkdir(parents=True)
        (model_of(bench, number) / "model.safetensors").write_bytes(bytes([number]) * MODEL_BYTES)
        bench.finish(str(number), value)
    return bench, Results(bench.study, bench.folder, bench.space, "fingerprint")


def model_of(bench: Bench, number: int) -> Path:
    return bench.folder.trial(number).best


def kept(bench: Bench) -> list[int]:
    return [trial.number for trial in bench.study.trials if model_of(bench, trial.number).exists()]


def table(bench: Bench) -> list[tuple[str, str]]:
    with bench.folder.trials_csv.open(newline="") as file:
        return [(row["status"], row["epochs"]) for row in csv.DictReader(file)]


def test_the_table_shows_trials_that_run(tmp_path: Path) -> None:
    bench, results = searched(tmp_path / "s", [0.5])
    bench.start("running")
    bench.report("running", 1, 0.4)
    results.write()
    assert table(bench) == [("finished", "3"), ("running", "1")]


@pytest.mark.parametrize(("trials", "complete"), [(7, False), (8, True)])
def test_a_search_whose_trials_all_ended_ended_for_no_other_reason(tmp_path: Path, trials: int, complete: bool) -> None:
    bench, _ = searched(tmp_path / "s", [0.5] * trials)
    rules = Rules(bench.space.search.model_copy(update={"time_budget": 1e-6}), bench.study)
    assert rules.complete() == complete
    assert bool(rules.why_over()) != complete


def test_the_weights_of_the_best_few_stay_and_the_winner_has_a_copy(tmp_path: Path) -> None:
    bench, results = searched(tmp_path / "s", [0.5, 0.9, 0.2, 0.7], keep=2)
    results.update()
    assert kept(bench) == [1, 3]
    assert (bench.folder.best / "model.safetensors").read_bytes() == bytes([1]) * MODEL_BYTES


def test_nothing_is_deleted_before_the_better_model_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, results = searched(tmp_path / "s", [0.5, 0.9], keep=1)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", full)
        with pytest.raises(OSError, match="No space left"):
            results.update()
    assert kept(bench) == [0, 1]
    assert not bench.folder.best.exists()
    results.update()
    assert kept(bench) == [1]
    assert bench.folder.best.is_dir()


def test_beyond_the_quota_weights_go_the_worst_first_and_then_the_search_ends(tmp_path: Path) -> None:
    bench, results = searched(tmp_path / "s", [0.5, 0.9, 0.7], keep=3, disk_gb=0.0036)
    results.update()
    assert kept(bench) == [0, 1, 2]
    assert results.too_large() == ""
    assert kept(bench) == [1, 2]  # two, and the winner's copy
    model_of(bench, 0).parent.joinpath("events").write_bytes(bytes(3 * MODEL_BYTES))
    assert results.too_large().startswith(f"disk_gb: {bench.folder.path} takes 0.004")
    assert kept(bench) == []
    assert (bench.folder.best / "model.safetensors").stat().st_size == MODEL_BYTES


def test_without_a_quota_nothing_is_too_large(tmp_path: Path) -> None:
    bench, results = searched(tmp_path / "s", [0.5, 0.9], keep=2)
    results.update()
    assert results.too_large() == ""
    assert kept(bench) == [0, 1]
