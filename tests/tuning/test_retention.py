"""The winner's model and the weights that are kept: the same trial wins everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files.folders import SearchFolder, find_model
from segtune.models.manifest import Manifest
from segtune.report.tables import state_of
from segtune.report.text import next_commands, summary
from segtune.trials import ranked
from segtune.tuning.failures import Fault
from segtune.tuning.recovery import catch_up_all
from segtune.tuning.study import settle
from tests.epochs import epoch_result, write_results
from tests.tuning.bench import SPACE, Bench, leave_model
from tests.tuning.searched import MODEL_BYTES, best_of, kept, model_of, searched, state, unfinished


def test_the_weights_of_the_best_few_stay_and_the_winner_has_a_copy(tmp_path: Path) -> None:
    bench, retention = searched(tmp_path / "s", [0.5, 0.9, 0.2, 0.7], keep=2)
    retention.update()
    assert kept(bench) == [1, 3]
    assert (bench.folder.best / "model.safetensors").read_bytes() == bytes([1]) * MODEL_BYTES


def test_nothing_is_deleted_before_the_better_model_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, retention = searched(tmp_path / "s", [0.5, 0.9], keep=1)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            retention.update()
    assert kept(bench) == [0, 1]
    assert not bench.folder.best.exists()
    retention.update()
    assert kept(bench) == [1]
    assert bench.folder.best.is_dir()


def test_over_quota_the_worst_weights_go_and_then_the_search_ends(tmp_path: Path) -> None:
    bench, retention = searched(tmp_path / "s", [0.5, 0.9, 0.7], keep=3, disk_gb=0.0036)
    retention.update()
    assert kept(bench) == [0, 1, 2]
    assert retention.too_large() is None
    assert kept(bench) == [1, 2]  # two, and the winner's copy
    model_of(bench, 0).parent.joinpath("events").write_bytes(bytes(3 * MODEL_BYTES))
    assert retention.too_large().startswith(f"disk_gb: {bench.folder.path} takes 0.004")
    assert kept(bench) == []
    assert (bench.folder.best / "model.safetensors").stat().st_size == MODEL_BYTES


def test_without_a_quota_nothing_is_too_large(tmp_path: Path) -> None:
    bench, retention = searched(tmp_path / "s", [0.5, 0.9], keep=2)
    retention.update()
    assert retention.too_large() is None
    assert kept(bench) == [0, 1]


@pytest.mark.parametrize("interrupted", [True, False], ids=["interrupted", "lost"])
def test_a_trial_that_is_not_finished_wins_where_its_score_is_the_best(tmp_path: Path, interrupted: bool) -> None:
    bench, retention = unfinished(tmp_path / "s")
    settle(bench.study, interrupted, "the process died")
    retention.update()
    trials = bench.results().trials()
    assert ranked(trials)[0].number == 1
    assert summary(trials, ended=False)[0] == "best so far: trial #1, miou 0.7000 in epoch 2"
    assert "best so far: trial #1, miou 0.7000 in epoch 2" in state_of(state(bench), 0.0)
    assert best_of(bench) == b"\2"
    assert Manifest.read(bench.folder.settings_yaml(None)).metrics == {"epoch": 2, "miou": 0.7}
    assert find_model(bench.folder.path) == bench.folder.best
    assert retention.without_model() is None


def test_a_trial_that_runs_wins_as_soon_as_it_is_the_best(tmp_path: Path) -> None:
    bench, retention = unfinished(tmp_path / "s")
    retention.follow(0.4)
    assert best_of(bench) == bytes(MODEL_BYTES)  # 0.4 is not more than 0.5: nothing was looked at
    retention.follow(0.7)
    assert best_of(bench) == b"\2"
    retention.follow(0.7)
    bench.report(1, 3, 0.8)
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    retention.update()
    assert best_of(bench) == b"\3"


def test_copying_models_takes_little_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, retention = unfinished(tmp_path / "s")
    now = iter([0.0, 10.0, 12.0, 12.1, 30.0, 53.0, 53.0, 54.0])
    monkeypatch.setattr("segtune.tuning.retention.time.monotonic", lambda: next(now))
    retention.follow(0.7)  # takes two seconds
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    bench.report(1, 3, 0.8)
    retention.follow(0.8)
    assert best_of(bench) == b"\2"


def test_a_model_replaced_while_being_copied_is_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, retention = unfinished(tmp_path / "s")
    copy = shutil.copyfile

    def overtaken(source: Path, target: Path) -> None:
        copy(source, target)
        leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", overtaken)
        retention.update()
    assert best_of(bench) == bytes(MODEL_BYTES)
    assert not [path for path in bench.folder.path.iterdir() if ".tmp" in path.name]
    retention.update()  # the study does not know of this model yet
    assert best_of(bench) == bytes(MODEL_BYTES)
    bench.report(1, 3, 0.8)
    retention.update()
    assert best_of(bench) == b"\3"


@pytest.mark.parametrize("row", [True, False], ids=["its row is there", "killed before its row was"])
def test_what_a_trial_reached_while_the_search_ended_counts(tmp_path: Path, row: bool) -> None:
    bench, retention = unfinished(tmp_path / "s")
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    if row:
        rows = [epoch_result(epoch, miou) for epoch, miou in ((1, 0.3), (2, 0.7), (3, 0.8))]
        write_results(bench.folder.trial(1), rows)
    settle(bench.study, True, "")
    catch_up_all(bench.study, bench.folder)
    retention.update()
    assert (ranked(bench.results().trials())[0].miou, best_of(bench)) == (0.8, b"\3")


def test_what_a_trial_reached_before_its_process_died_counts(tmp_path: Path) -> None:
    bench, retention = unfinished(tmp_path / "s")
    leave_model(model_of(bench, 1), 3, 0.8, data=b"\3")
    bench.fail(1, "the device is gone", Fault.SETTINGS)
    retention.update()
    assert bench.states() == ["COMPLETE", "FAIL"]
    assert (ranked(bench.results().trials())[0].miou, best_of(bench)) == (0.8, b"\3")


def test_a_search_without_a_model_names_no_command_that_needs_one(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE)
    (command,) = next_commands(bench.folder, bench.space.baseline, "r").values()
    assert command == "tensorboard --logdir r"
    bench.folder.best.mkdir()
    assert any("--from-search" in line for line in next_commands(bench.folder, bench.space.baseline, "r").values())


def test_a_best_model_that_is_gone_is_told_of(tmp_path: Path) -> None:
    bench, retention = searched(tmp_path / "s", [0.5])
    shutil.rmtree(model_of(bench, 0))
    retention.update()
    assert retention.without_model() == f"{bench.folder.best}: is missing; the best trial, #0, no longer has a model"
    leave_model(bench.folder.best, 1, 0.5)
    assert retention.without_model() is None


def test_a_trial_without_weights_says_what_can_be_done(tmp_path: Path) -> None:
    bench, retention = searched(tmp_path / "s", [0.5, 0.9], keep=1)
    bench.folder.search_yaml.write_text(SPACE)
    retention.update()
    with pytest.raises(InputError, match=r"keep.*--from-search .*s --trial 0 trains it again"):
        find_model(bench.folder.trial(0).path)
