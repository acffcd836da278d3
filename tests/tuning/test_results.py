"""What a search keeps on disk while it runs, and what it deletes."""

from __future__ import annotations

import csv
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import seeds
from rich.console import Console

from segtune.errors import InputError
from segtune.files.folders import SearchFolder, find_model
from segtune.models.checkpoint import Manifest
from segtune.report.console import SearchConsole
from segtune.report.tables import has_winner, next_commands, search_results, state_of, summary
from segtune.trials import Trial, ranked, seed_margin, wobble
from segtune.tuning.recovery import catch_up_all
from segtune.tuning.results import Results
from segtune.tuning.status import search_state
from segtune.tuning.stopping import Rules
from segtune.tuning.study import settle
from tests.tuning.bench import SPACE, Bench, leave_model, manifest

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
        patch.setattr(shutil, "copyfile", full)
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


# The winner is one trial, wherever it is named, shown or kept.


def unfinished(folder: Path) -> tuple[Bench, Results]:
    """A search with a finished trial, 0.5, and one that runs, 0.7 in its second epoch of three."""
    bench, results = searched(folder, [0.5])
    results.update()
    bench.start("b")
    for epoch, value in ((1, 0.3), (2, 0.7)):
        bench.report("b", epoch, value)
        leave_model(model_of(bench, 1), epoch, value, data=bytes([epoch]))
    return bench, results


def best_of(bench: Bench) -> bytes:
    return (bench.folder.best / "model.safetensors").read_bytes()


@pytest.mark.parametrize("interrupted", [True, False], ids=["interrupted", "lost"])
def test_a_trial_that_is_not_finished_wins_where_its_score_is_the_best(tmp_path: Path, interrupted: bool) -> None:
    bench, results = unfinished(tmp_path / "s")
    settle(bench.study, interrupted, "the process died")
    results.update()
    trials = results.trials()
    assert ranked(trials)[0].number == 1
    assert summary(trials, ended=False)[0] == "best so far: trial #1, miou 0.7000 in epoch 2"
    assert "best so far: trial #1, miou 0.7000 in epoch 2" in state_of(state(bench), 0.0)
    assert best_of(bench) == b"\2"
    assert Manifest.read(bench.folder.settings_yaml(None)).metrics == {"epoch": 2, "miou": 0.7}
    assert find_model(bench.folder.path) == bench.folder.best
    assert results.without_model() == ""


def state(bench: Bench) -> Any:
    bench.folder.search_yaml.write_text(bench.space_text)
    return search_state(bench.folder)


def test_a_trial_that_runs_wins_as_soon_as_it_is_the_best(tmp_path: Path) -> None:
    bench, results = unfinished(tmp_path / "s")
    results.follow(0.4)
    assert best_of(bench) == bytes(MODEL_BYTES)  # 0.4 is not more than 0.5: nothing was looked at
    results.follow(0.7)
    assert best_of(bench) == b"\2"
    results.follow(0.7)
    bench.report("b", 3, 0.8)
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    results.update()
    assert best_of(bench) == b"\3"


def test_copying_models_takes_little_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, results = unfinished(tmp_path / "s")
    now = iter([0.0, 10.0, 12.0, 12.1, 30.0, 53.0, 53.0, 54.0])
    monkeypatch.setattr("segtune.tuning.results.time.monotonic", lambda: next(now))
    results._copy_at = -1.0
    results.follow(0.7)  # takes two seconds
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    bench.report("b", 3, 0.8)
    results.follow(0.8)
    assert best_of(bench) == b"\2"


def test_a_model_that_is_replaced_while_it_is_copied_is_not_mixed_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, results = unfinished(tmp_path / "s")
    copy = shutil.copyfile

    def overtaken(source: Path, target: Path) -> None:
        copy(source, target)
        leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", overtaken)
        results.update()
    assert best_of(bench) == bytes(MODEL_BYTES)
    assert not [path for path in bench.folder.path.iterdir() if ".tmp" in path.name]
    results.update()  # the study does not know of this model yet
    assert best_of(bench) == bytes(MODEL_BYTES)
    bench.report("b", 3, 0.8)
    results.update()
    assert best_of(bench) == b"\3"


@pytest.mark.parametrize("row", [True, False], ids=["its row is there", "killed before its row was"])
def test_what_a_trial_reached_while_the_search_ended_counts(tmp_path: Path, row: bool) -> None:
    bench, results = unfinished(tmp_path / "s")
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    if row:
        bench.folder.trial(1).metrics_csv.write_text("epoch,best_miou,seconds\n1,0.3,1\n2,0.7,2\n3,0.8,3\n")
    settle(bench.study, True, "")
    catch_up_all(bench.study, bench.folder)
    results.update()
    assert (ranked(results.trials())[0].miou, best_of(bench)) == (0.8, b"\3")


def test_what_a_trial_reached_before_its_process_died_counts(tmp_path: Path) -> None:
    bench, results = unfinished(tmp_path / "s")
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    bench.searcher.on_trial_complete("b", {"error": "the device is gone", "fault": "settings"})
    results.update()
    assert bench.states() == ["COMPLETE", "FAIL"]
    assert (ranked(results.trials())[0].miou, best_of(bench)) == (0.8, b"\3")


def test_the_console_counts_trials_that_run(tmp_path: Path) -> None:
    _, results = unfinished(tmp_path / "s")
    out = StringIO()
    console = SearchConsole(Console(file=out, width=200), 8)
    first, second = results.trials()
    console.started("", [])
    console.epoch(1, {"epoch": 2, "epochs": 3, "best_miou": 0.7, "collapsed_epochs": 0})
    console.ended(first)
    assert "0.5000  " in out.getvalue()
    console.ended(trial(1, 0.7, status="finished", searched=second.searched))
    assert "0.7000* " in out.getvalue()


def test_a_search_without_a_model_names_no_command_that_needs_one(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE)
    (command,) = next_commands(bench.folder, bench.space.baseline, "r")
    assert command == "  tensorboard --logdir r"
    bench.folder.best.mkdir()
    assert any("--from-search" in line for line in next_commands(bench.folder, bench.space.baseline, "r"))


def test_a_best_model_that_is_gone_is_told_of(tmp_path: Path) -> None:
    bench, results = searched(tmp_path / "s", [0.5])
    shutil.rmtree(model_of(bench, 0))
    results.update()
    assert results.without_model() == f"{bench.folder.best}: is missing; the best one, #0, has no model any more"
    leave_model(bench.folder.best, 1, 0.5)
    assert results.without_model() == ""


def test_a_trial_without_weights_says_what_can_be_done(tmp_path: Path) -> None:
    bench, results = searched(tmp_path / "s", [0.5, 0.9], keep=1)
    bench.folder.search_yaml.write_text(SPACE)
    results.update()
    with pytest.raises(InputError, match=r"keep.*--from-search .*s --trial 0 trains it again"):
        find_model(bench.folder.trial(0).path)


# What is said of it.


def trial(number: int, miou: float | None, **others: Any) -> Trial:
    given: dict[str, Any] = {"status": "finished", "settings": {"epochs": 3}, "epochs": 3, "best_epoch": 3}
    return Trial(number, miou=miou, **(given | others))


@pytest.mark.parametrize(
    ("trials", "ended", "said"),
    [
        ([], True, "no trial reached a score"),
        ([trial(0, None)], True, "no trial reached a score"),
        ([trial(0, 0.5), trial(1, 0.4)], True, "nothing that was tried beats it"),
        ([trial(0, 0.5), trial(1, 0.4)], False, "it is the baseline; no other trial is better yet"),
        ([trial(0, 0.5), trial(1, None, status="pending")], False, "it is the baseline; no other trial has a score"),
        ([trial(0, 0.5)], True, "it is the baseline; no other trial has a score"),
        ([trial(0, 0.5, status="failed"), trial(1, 0.6, status="failed")], True, "no winner: every trial failed"),
        ([trial(0, 0.5, status="failed"), trial(1, 0.6, status="pending")], False, "best so far: trial #1"),
        ([trial(0, 0.0)], True, "no trial learnt anything: the best miou is 0.0000, of trial #0"),
        ([trial(0, 0.17, collapsed=True)], False, "no trial learnt anything yet: the best miou is 0.1700"),
    ],
)
def test_the_last_words_fit_what_happened(trials: list[Trial], ended: bool, said: str) -> None:
    text = "\n".join(summary(trials, ended))
    assert said in text
    assert ("nothing that was tried" in text) == ("nothing that was tried" in said)
    assert text.startswith("winner: ") == (ended and "in epoch" in text)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "in epoch 3"),
        ({"limit_tiles": None, "val_samples": None}, "in epoch 3"),
        ({"limit_tiles": 10}, "in epoch 3 (on at most 10 tiles of each validation set)"),
        ({"limit_tiles": 10, "val_samples": 4}, "in epoch 3 (on at most 4 tiles of each validation set)"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_a_score_on_part_of_the_validation_tiles_is_named_as_such(
    limits: dict[str, Any], said: str, ended: bool
) -> None:
    assert summary([trial(0, 0.5, settings={"epochs": 3, **limits})], ended)[0].endswith(said)


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_a_search_whose_trials_all_failed_has_no_winner(status: Any) -> None:
    trials = [trial(0, 0.5, status="failed", epochs=1), trial(1, 0.4, status=status)]
    assert has_winner(trials) == (status == "finished")
    words = [str(part) for part in search_results(trials, None, True)]
    assert any("winner: trial #0" in line for line in words) == has_winner(trials)


@pytest.mark.parametrize(
    ("best", "waver", "doubted"), [(0.51, 0.01, True), (0.56, 0.01, False), (0.52, None, True), (0.53, None, False)]
)
def test_a_gain_that_another_seed_may_bring_is_told_of(best: float, waver: float | None, doubted: bool) -> None:
    line = summary([trial(0, 0.5, wobble=waver), trial(1, best, wobble=waver)])[-1]
    assert line.startswith(f"gain over the baseline: +{best - 0.5:.4f} (baseline 0.5000)")
    assert ("no more than another seed may bring" in line) == doubted


def test_how_much_a_score_varies_is_seen_in_the_second_half_and_not_where_it_rises() -> None:
    assert wobble([0.1, 0.9, 0.2, 0.5, 0.5, 0.5]) == 0
    assert wobble([0.0, 0.0, 0.0, 0.5, 0.52, 0.5]) == pytest.approx(0.02 / 2**0.5)
    assert wobble([0.0] * 6 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(0.1 / 2**0.5)
    assert wobble([0.5] * 5) is None
    assert seed_margin(trial(0, 0.5, wobble=0.03), trial(1, 0.5, wobble=0.04)) == pytest.approx(0.1)


def test_seeds_differ_by_less_than_the_margin_where_it_was_measured() -> None:
    recorded = seeds.pairs(Path(seeds.__file__).parent / "curves" / "s2india64.csv")
    assert (len(recorded), seeds.compared(recorded[:18]).endswith("17 of 18 within it")) == (37, True)


# Files that are damaged.


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
    bench, _ = searched(tmp_path / "s", [0.5, 0.9])
    run = bench.folder.trial(0)
    manifest().write(run.run_yaml)
    run.metrics_csv.write_text("epoch,best_miou,seconds\n1,0.5,7\n2,0.5,8\n3,0.5,9\n")
    (run.path / name).write_bytes(DAMAGE[damage])
    results = Results(bench.study, bench.folder, bench.space, "fingerprint")
    assert [found.miou for found in results.trials()] == [0.5, 0.9]
    results.update()
    found = state(bench)
    (line,) = found.remarks
    assert line.startswith(f"trial 0: {run.path / name}:")
    assert line.endswith("; its values are those of the study")
    assert line in state_of(found, 0.0)
    assert (run.path / name).read_bytes() == DAMAGE[damage]


@pytest.mark.parametrize("folder", [True, False])
def test_a_table_that_is_damaged_is_written_anew(tmp_path: Path, folder: bool) -> None:
    bench, results = searched(tmp_path / "s", [0.5])
    if folder:
        bench.folder.trials_csv.mkdir()
        (bench.folder.trials_csv / "mine").write_text("mine")
    else:
        bench.folder.trials_csv.write_bytes(DAMAGE["binary"])
    results.update()
    assert table(bench) == [("finished", "3")]
    assert not folder or (bench.folder.path / "lost_trials.csv_1" / "mine").read_text() == "mine"
