"""A study and trial folders that disagree when a search continues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segtune.files.folders import RunFolder, SearchFolder
from segtune.training.state import save_state
from segtune.tuning import recovery as module
from segtune.tuning.recovery import reconcile
from tests.epochs import epoch_result, write_results
from tests.tuning.bench import SPACE, Bench, manifest


def folder_of(bench: Bench, number: int, values: list[float], state: bool = True) -> RunFolder:
    """Write a trial's folder with a row per value, as training leaves it."""
    run = bench.folder.trial(number)
    run.path.mkdir(parents=True)
    manifest().write(run.run_yaml)
    write_results(run, [epoch_result(epoch, value) for epoch, value in enumerate(values, start=1)])
    if state:
        save_state(run.state, {"epoch": len(values)})
    return run


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Trial 0 finished; trial 1 was running, with one epoch known to the study."""
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE)
    bench.start()
    bench.finish(0)
    folder_of(bench, 0, [0.5, 0.5, 0.5], state=False)
    bench.start()
    bench.report(1, 1, 0.2)
    return bench


def test_where_they_agree_nothing_is_said_and_what_ran_waits(bench: Bench) -> None:
    folder_of(bench, 1, [0.2])
    assert reconcile(bench.study, bench.folder) == []
    assert bench.states() == ["COMPLETE", "WAITING"]


def test_epochs_that_the_study_missed_are_told_to_it(bench: Bench) -> None:
    folder_of(bench, 1, [0.2, 0.4])
    (remark,) = reconcile(bench.study, bench.folder)
    assert remark == "trial 1: its folder has 2 epochs, the study had 1; the others were added"
    assert bench.study.trials[1].intermediate_values == {1: 0.2, 2: 0.4}
    assert reconcile(bench.study, bench.folder) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_trial_of_which_the_study_knows_more_goes_on_from_its_folder(bench: Bench, there: bool) -> None:
    bench.report(1, 2, 0.3)
    if there:
        folder_of(bench, 1, [0.2])
    (remark,) = reconcile(bench.study, bench.folder)
    assert remark == f"trial 1: the study has 2 epochs, its folder {int(there)}; the trial continues from its folder"
    later = Bench(bench.folder, SPACE)
    assert later.start().number == 1


def test_a_trial_without_its_state_begins_again_and_what_it_had_is_kept(bench: Bench) -> None:
    run = folder_of(bench, 1, [0.2, 0.4], state=False)
    (remark,) = reconcile(bench.study, bench.folder)
    aside = bench.folder.path / "lost_trial_0001_1"
    assert remark == f"trial 1: {run.state} is missing; its files are now in {aside}, and the trial starts again"
    assert not run.path.exists()
    assert (aside / "metrics.csv").is_file()


def test_a_trial_that_did_all_its_epochs_needs_no_state(bench: Bench) -> None:
    folder_of(bench, 1, [0.2, 0.4, 0.6], state=False)
    (remark,) = reconcile(bench.study, bench.folder)
    assert "has 3 epochs" in remark


def test_folders_of_trials_that_the_study_does_not_know_are_set_aside(bench: Bench) -> None:
    folder_of(bench, 1, [0.2])
    for _ in range(2):
        run = folder_of(bench, 2, [0.9])
        (remark,) = reconcile(bench.study, bench.folder)
        assert remark.startswith(f"{run.path}: the study has no such trial")
        assert not run.path.exists()
    assert {path.name for path in bench.folder.path.glob("lost_*")} == {"lost_trial_0002_1", "lost_trial_0002_2"}


def test_a_result_whose_folder_is_gone_stays_a_result(bench: Bench) -> None:
    folder_of(bench, 1, [0.2])
    bench.folder.trial(0).run_yaml.unlink()
    (remark,) = reconcile(bench.study, bench.folder)
    assert remark == f"trial 0: the study has its result, but {bench.folder.trial(0).path} is gone"
    assert bench.states()[0] == "COMPLETE"


DAMAGE = {"empty": b"", "binary": bytes(range(256)), "cut": b"model: un", "folder": None}


def damage(path: Path, how: str) -> None:
    path.unlink(missing_ok=True)
    content = DAMAGE[how]
    if content is None:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["empty", "binary", "cut"])
@pytest.mark.parametrize("name", ["run.yaml", "state.pt", "best/run.yaml"])
def test_a_trial_that_cannot_go_on_for_a_damaged_file_begins_again(bench: Bench, name: str, how: str) -> None:
    run = folder_of(bench, 1, [0.2])
    damage(run.path / name, how)
    (remark,) = reconcile(bench.study, bench.folder)
    aside = bench.folder.path / "lost_trial_0001_1"
    assert remark.startswith(f"trial 1: {run.path / name}")
    assert remark.endswith(f"; its files are now in {aside}, and the trial starts again")
    assert (aside / name).read_bytes() == DAMAGE[how]
    assert not run.path.exists()
    assert bench.states() == ["COMPLETE", "WAITING"]


@pytest.mark.parametrize("how", ["binary", "folder"])
def test_a_trial_whose_rows_are_damaged_goes_on_from_its_state(bench: Bench, how: str) -> None:
    run = folder_of(bench, 1, [0.2])
    damage(run.metrics_csv, how)
    (remark,) = reconcile(bench.study, bench.folder)
    aside = run.path / "lost_metrics.csv_1"
    assert remark.startswith(f"trial 1: {run.metrics_csv}: ")
    assert remark.endswith(f"; moved to {aside}, and the trial continues from its state")
    assert aside.exists()
    assert run.state.is_file()
    assert not run.metrics_csv.exists()


@pytest.mark.parametrize("how", ["empty", "binary", "folder"])
@pytest.mark.parametrize("name", ["run.yaml", "metrics.csv"])
def test_damaged_files_of_a_trial_that_ended_stay_where_they_are(bench: Bench, name: str, how: str) -> None:
    folder_of(bench, 1, [0.2])
    damage(bench.folder.trial(0).path / name, how)
    remarks = reconcile(bench.study, bench.folder)
    gone = f"trial 0: the study has its result, but {bench.folder.trial(0).path} is gone"
    assert remarks == ([gone] if (name, how) == ("run.yaml", "folder") else [])
    assert (bench.folder.trial(0).path / name).exists()


HOLD = """
import sys, time
from pathlib import Path
from segtune.files.folders import RunFolder

with RunFolder(Path(sys.argv[1])).locked():
    print(flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("seconds", [0.7, pytest.param(60, marks=pytest.mark.slow)])
def test_a_process_that_outlived_its_search_is_waited_for(
    bench: Bench, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder_of(bench, 1, [0.2])
    monkeypatch.setattr(module, "_ORPHANS_S", 3.0)
    command = [sys.executable, "-c", HOLD, run.path, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout
        assert orphan.stdout.readline() == b"\n"
        assert run.held()
        if seconds < 3:
            assert reconcile(bench.study, bench.folder) == []
            assert not run.held()
        else:
            with pytest.raises(module.InputError, match=f"{run.path}: a process of an earlier start still trains here"):
                reconcile(bench.study, bench.folder)
        orphan.kill()
