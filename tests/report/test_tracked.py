"""What a tracker is to get is read from the folder of a search or of a run."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from segtune.files.folders import RunFolder, SearchFolder
from segtune.report.tracked import Tracked, TrackedFolder
from tests.report.tracking import epochs_of, search_in, trial

TRIALS = [trial(0, "finished", 4), trial(1, "running", 2), trial(2, "paused", 3, note="why", miou=0.35)]


@pytest.fixture
def search(tmp_path: Path) -> SearchFolder:
    return search_in(tmp_path / "s", TRIALS)


def by_name(path: Path, live: bool = True, over: bool = False) -> dict[str, Tracked]:
    return {run.name: run for run in TrackedFolder(path).read(live, over)}


def test_a_search_comes_first_and_its_trials_name_it(search: SearchFolder) -> None:
    runs = by_name(search.path)
    assert list(runs) == ["s", "trial_0000", "trial_0001", "trial_0002"]
    assert {run.parent for run in runs.values() if run.kind == "trial"} == {"s"}
    assert runs["s"].settings == {
        "dataset": "tiles",
        "run.epochs": "4",
        "space.lr": "[0.001, 0.01]",
        "search.trials": "2",
    }
    assert runs["s"].rows == [(1, {"best_miou": 0.4, "baseline_miou": 0.4})]
    assert runs["s"].facts["winner"] == "trial_0000"
    assert runs["s"].facts["trials_failed"] == "0"


def test_settings_have_their_names_and_what_came_out_is_apart(search: SearchFolder) -> None:
    run = by_name(search.path)["trial_0002"]
    assert (run.settings["epochs"], run.settings["lr"], run.settings["classes"]) == ("4", "0.003", "[255]")
    assert run.settings["image_size"] == "null"
    assert (run.facts["epochs"], run.facts["note"], run.facts["status"]) == ("3", "why", "paused")
    assert "lr" not in run.facts
    assert "error" not in run.facts


def test_curves_are_the_columns_of_metrics_csv(search: SearchFolder) -> None:
    rows = by_name(search.path)["trial_0001"].rows
    assert rows == [
        (1, {"loss": 1.0, "miou": 0.1, "best_miou": 0.1, "iou/255": 0.1, "seconds": 2.5}),
        (2, {"loss": 0.5, "best_miou": 0.2, "seconds": 5.0}),
    ]


@pytest.mark.parametrize(
    ("live", "over", "states"),
    [
        (True, False, ["running", "finished", "running", "waiting"]),
        (False, False, ["waiting", "finished", "waiting", "waiting"]),
        (False, True, ["finished", "finished", "waiting", "waiting"]),
    ],
)
def test_nothing_runs_where_no_process_works(live: bool, over: bool, states: list[str], search: SearchFolder) -> None:
    assert [run.state for run in by_name(search.path, live, over).values()] == states


def test_files_belong_to_a_search_that_no_longer_runs(search: SearchFolder) -> None:
    assert by_name(search.path)["s"].files == []
    names = [file.name for file in by_name(search.path, live=False)["s"].files]
    assert names == ["search.yaml", "trials.csv", "model.safetensors"]


def test_runs_with_fresh_seeds_have_their_folders(tmp_path: Path) -> None:
    repeats = [replace(trial(0, "finished", 2, seed=3 + number), origin="confirm") for number in (1, 2)]
    runs = by_name(search_in(tmp_path / "s", TRIALS, repeats).path)
    assert [(name, run.kind) for name, run in runs.items()][-2:] == [
        ("confirm_0000_s1", "confirm"),
        ("confirm_0000_s2", "confirm"),
    ]
    assert len(runs["confirm_0000_s2"].rows) == 2
    assert runs["s"].facts["trials_finished"] == "1"


def test_a_trial_by_folds_has_its_last_training(search: SearchFolder) -> None:
    run = search.final(1)
    assert len(by_name(search.path)) == 4
    epochs_of(run, 3)
    run.run_yaml.write_text("lr: 0.002\nepochs: 4\nmachine: {host: here}\n")
    found = by_name(search.path)["final_0001"]
    assert (found.kind, found.parent, found.state, list(found.files)) == ("final", "s", "running", [])
    assert found.settings == {"lr": "0.002", "epochs": "4"}
    assert found.facts == {"best_miou": "0.3", "status": "running"}
    assert [epoch for epoch, _ in found.rows] == [1, 2, 3]
    assert by_name(search.path, live=False)["final_0001"].state == "waiting"
    run.error.write_text("out of memory")
    later = run.metrics_csv.stat().st_mtime + 1
    os.utime(run.error, (later, later))
    assert by_name(search.path, live=False)["final_0001"].state == "failed"
    os.utime(run.metrics_csv, (later + 1, later + 1))  # it went on, and was interrupted
    assert by_name(search.path, live=False)["final_0001"].state == "waiting"
    run.tiles.write_bytes(b"")
    assert {by_name(search.path, live)["final_0001"].state for live in (False, True)} == {"finished"}


def test_a_search_of_the_first_release_has_no_origins(search: SearchFolder) -> None:
    with search.trials_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with search.trials_csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "origin"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    runs = by_name(search.path)
    assert [run.kind for run in runs.values()] == ["search", "trial", "trial", "trial"]
    assert (runs["s"].facts["winner"], runs["s"].facts["trials_finished"]) == ("trial_0000", "1")


def test_the_winner_has_the_best_objective(tmp_path: Path) -> None:
    rows = [trial(0, "finished", 4, miou=0.6), trial(1, "finished", 4, miou=0.5)]
    other = [
        replace(one, settings=one.settings | {"objective": "f1"}, own=own)
        for one, own in zip(rows, (0.7, 0.8), strict=True)
    ]
    search = by_name(search_in(tmp_path / "s", other).path)["s"]
    assert (search.facts["winner"], search.rows) == ("trial_0001", [(2, {"best_score": 0.8, "baseline_score": 0.7})])


def test_the_winner_keeps_the_limits_of_costs(tmp_path: Path) -> None:
    rows = [trial(0, "finished", 4, miou=0.5, latency=9.0), trial(1, "finished", 4, miou=0.6, latency=11.0)]
    folder = search_in(tmp_path / "s", rows)
    assert by_name(folder.path)["s"].facts["winner"] == "trial_0001"
    folder.search_yaml.write_text(folder.search_yaml.read_text() + "  prefer: latency < 10ms\n")
    search = by_name(folder.path)["s"]
    assert (search.facts["winner"], search.facts["best_miou"]) == ("trial_0000", "0.5")


def test_a_best_score_that_rises_between_ends_of_trials_is_new(tmp_path: Path) -> None:
    before, after = (
        by_name(search_in(tmp_path / "s", [TRIALS[0], trial(1, "running", 2, miou=miou)]).path)["s"]
        for miou in (0.5, 0.6)
    )
    assert before.digest != after.digest
    assert (after.facts["best_miou"], after.facts["baseline_miou"]) == ("0.6", "0.4")


def test_a_digest_changes_with_what_is_stored(search: SearchFolder) -> None:
    reader = TrackedFolder(search.path)
    before = {run.name: run.digest for run in reader.read(live=True, over=False)}
    assert before == {run.name: run.digest for run in TrackedFolder(search.path).read(live=True, over=False)}
    epochs_of(search.trial(1), 3)
    after = {run.name: run.digest for run in reader.read(live=True, over=False)}
    assert {name for name in before if before[name] != after[name]} == {"trial_0001"}
    done = {run.name: run.digest for run in reader.read(live=False, over=False)}
    (search.best / "model.safetensors").write_bytes(b"others")
    again = {run.name: run.digest for run in reader.read(live=False, over=False)}
    assert {name for name in done if done[name] != again[name]} == {"s"}


def test_a_folder_in_which_nothing_began_has_nothing(tmp_path: Path) -> None:
    assert TrackedFolder(tmp_path / "none").read(live=True, over=False) == []
    assert not TrackedFolder(tmp_path).begun


def test_damaged_tables_are_left_out(search: SearchFolder) -> None:
    search.trial(0).metrics_csv.write_text("epoch,loss\n1\nx,2\n")
    search.trial(1).metrics_csv.unlink()
    runs = by_name(search.path)
    assert runs["trial_0000"].rows == []
    assert runs["trial_0001"].rows == []


def test_a_single_run_has_its_settings_and_its_model(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "ponds")
    epochs_of(run, 3)
    run.run_yaml.write_text("lr: 0.01\nclasses: [1, 2]\nmachine: {host: here}\n")
    run.best.mkdir()
    (run.best / "config.json").write_text("{}")
    (found,) = by_name(run.path, live=False, over=True).values()
    assert (found.kind, found.parent, found.state) == ("run", None, "finished")
    assert found.settings == {"lr": "0.01", "classes": "[1, 2]"}
    assert found.facts == {"best_miou": "0.3"}
    assert [file.name for file in found.files] == ["run.yaml", "metrics.csv", "config.json"]
