"""A search's trials as data, and the table on disk."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from optuna.trial import create_trial
from rich.console import Console

from segtune.evaluation.intervals import Interval
from segtune.report.console import SearchConsole
from segtune.report.tables import state_of
from segtune.tuning.stopping import Rules
from tests.epochs import epoch_result, write_results
from tests.tuning.bench import Bench, manifest
from tests.tuning.searched import searched, state, unfinished


def table(bench: Bench) -> list[tuple[str, str]]:
    with bench.folder.trials_csv.open(newline="") as file:
        return [(row["status"], row["epochs"]) for row in csv.DictReader(file)]


def test_the_table_shows_trials_that_run(tmp_path: Path) -> None:
    bench, _ = searched(tmp_path / "s", [0.5])
    bench.start()
    bench.report(1, 1, 0.4)
    bench.results().write()
    assert table(bench) == [("finished", "3"), ("running", "1")]


def test_the_baseline_has_no_setting_of_another_optimizer(tmp_path: Path) -> None:
    bench, _ = searched(tmp_path / "s", [0.5])
    assert list(bench.results().trials()[0].searched) == ["encoder", "optimizer", "weight_decay"]


@pytest.mark.parametrize(("trials", "complete"), [(7, False), (8, True)])
def test_a_search_whose_trials_all_ended_ended_for_no_other_reason(tmp_path: Path, trials: int, complete: bool) -> None:
    bench, _ = searched(tmp_path / "s", [0.5] * trials)
    rules = Rules(bench.space.search.model_copy(update={"time_budget": 1e-6}), bench.study)
    assert rules.complete() == complete
    assert bool(rules.why_over()) != complete


def test_the_console_counts_trials_that_run(tmp_path: Path) -> None:
    bench, _ = unfinished(tmp_path / "s")
    out = StringIO()
    console = SearchConsole(Console(file=out, width=200), 8)
    first, second = bench.results().trials()
    console.started("", [])
    console.epoch(1, epoch_result(2, 0.7))
    console.ended(first)
    assert "0.5000  " in out.getvalue()
    console.ended(replace(second, miou=0.7, status="finished"))
    assert "0.7000* " in out.getvalue()


DAMAGE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "cut": b"epoch,best_miou,sec",
    "words": b"epoch,best_miou\n1,x\n",
    "column": b"epoch,best_miou,s?c\n1,0.5,7\n2,0.5,8\n3,0.5,9\n",
}


@pytest.mark.parametrize("name", ["metrics.csv", "run.yaml"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_an_ended_trial_costs_nothing_but_a_line(tmp_path: Path, name: str, damage: str) -> None:
    bench, retention = searched(tmp_path / "s", [0.5, 0.9])
    run = bench.folder.trial(0)
    manifest().write(run.run_yaml)
    write_results(run, [epoch_result(epoch) for epoch in (1, 2, 3)])
    (run.path / name).write_bytes(DAMAGE[damage])
    assert [found.miou for found in bench.results().trials()] == [0.5, 0.9]
    retention.update()
    found = state(bench)
    (line,) = found.remarks
    assert line.startswith(f"trial 0: {run.path / name}:")
    assert line.endswith("; its values are those of the study")
    assert line in state_of(found, 0.0)
    assert (run.path / name).read_bytes() == DAMAGE[damage]


@pytest.mark.parametrize("folder", [True, False])
def test_a_table_that_is_damaged_is_written_anew(tmp_path: Path, folder: bool) -> None:
    bench, retention = searched(tmp_path / "s", [0.5])
    if folder:
        bench.folder.trials_csv.mkdir()
        (bench.folder.trials_csv / "mine").write_text("mine")
    else:
        bench.folder.trials_csv.write_bytes(DAMAGE["binary"])
    retention.update()
    assert table(bench) == [("finished", "3")]
    assert not folder or (bench.folder.path / "lost_trials.csv_1" / "mine").read_text() == "mine"


def test_the_micro_batch_is_read_as_the_former_release_stored_it(tmp_path: Path) -> None:
    bench, _ = searched(tmp_path / "s", [0.5, 0.6])
    trials = bench.results().trials()
    assert [trial.micro_batch for trial in trials] == [4, 4]
    former = {**trials[0].spent, "micro_batch": 2}
    bench.study.add_trial(create_trial(value=0.4, user_attrs={"settings": dict(trials[0].settings), "spent": former}))
    found = bench.results().trials()[2]
    assert (found.micro_batch, found.spent) == (2, trials[0].spent)


def test_the_interval_of_a_score_is_that_of_its_model(tmp_path: Path) -> None:
    bench, _ = searched(tmp_path / "s", [0.5, 0.7, 0.8, 0.9])
    for number, miou in ((0, 0.5), (1, 0.6), (2, 0.8)):  # trial 1 has another model by now
        ends = {"miou_low": miou - 0.1, "miou_high": miou + 0.1} if number < 2 else {}  # 2 is of an older release
        metrics = {"epoch": 3, "miou": miou, **ends}
        manifest().with_metrics(metrics).write(bench.folder.trial(number).best / "run.yaml")
    (bench.folder.trial(3).best / "run.yaml").write_text("damaged")
    assert [trial.interval for trial in state(bench).trials] == [Interval(0.5, 0.4, 0.6), None, None, None]
