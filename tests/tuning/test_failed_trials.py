"""Failed trials: repeated, recorded, or the end of the search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from segtune.files.folders import SearchFolder
from segtune.tuning.failures import LOST, Fault
from segtune.tuning.ray_hooks import RayCallback, RaySearcher
from segtune.tuning.study import settle
from tests.tuning.bench import SPACE, Bench


def test_a_failed_trial_keeps_its_reason_and_its_values(bench: Bench) -> None:
    bench.start()
    bench.report(0, 1, 0.2)
    bench.fail(0, "the loss became nan", Fault.DIVERGED)
    trial = bench.study.trials[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["error"] == "the loss became nan"
    assert trial.intermediate_values == {1: 0.2}


def test_a_lost_trial_is_repeated_once_and_then_fails(bench: Bench) -> None:
    first = bench.start()
    bench.report(0, 1, 0.2)
    bench.lose(0)
    assert bench.states() == ["WAITING"]
    assert bench.repeats == [(0, LOST)]
    again = bench.start()
    assert (again.number, again.config) == (first.number, first.config)
    bench.lose(0)
    assert bench.states() == ["FAIL"]
    assert "worker" in bench.study.trials[0].user_attrs["error"]
    (trial,) = bench.results().trials()
    assert (trial.status, trial.error, trial.repeats) == ("failed", LOST, (LOST,))


def test_why_a_process_killed_itself_is_read_from_the_trials_folder(bench: Bench) -> None:
    start = bench.start()
    start.path.mkdir()
    start.folder.fault_txt.write_text("no sign of life for 601 s in training")
    bench.lose(0)
    assert bench.repeats == [(0, "no sign of life for 601 s in training")]


def test_what_is_wrong_with_the_settings_is_not_tried_again(bench: Bench) -> None:
    bench.start()
    bench.finish(0)
    bench.start()
    bench.fail(1, "the loss became nan in epoch 1", Fault.DIVERGED)
    assert bench.states() == ["COMPLETE", "FAIL"]
    assert not bench.repeats


def test_a_repeat_comes_first_and_does_not_count_as_a_new_trial(bench: Bench) -> None:
    numbers = []
    for attempt in range(9):
        numbers.append(bench.start().number)
        if attempt == 2:
            bench.lose(2)
        else:
            bench.finish(numbers[-1])
    assert numbers == [0, 1, 2, 2, 3, 4, 5, 6, 7]
    assert bench.over()


def test_a_search_waits_for_a_trial_that_may_be_repeated(bench: Bench) -> None:
    for _ in range(7):
        bench.finish(bench.start().number)
    bench.start()
    assert bench.waits()
    bench.lose(7)
    assert bench.start().number == 7


def test_first_trials_that_fail_for_one_cause_halt_the_search_and_wait(bench: Bench) -> None:
    for number in range(3):
        bench.start()
        error = f"CUDA driver error {number}"
        bench.fail(number, error, Fault.SETTINGS)
    assert bench.states() == ["WAITING"] * 3
    assert bench.over()
    assert "the first trials (#0, #1, #2) all failed: CUDA driver error 0" in bench.halted()
    later = Bench(bench.folder, SPACE)
    assert later.start().number == 0


@pytest.mark.parametrize("then", ["another cause", "a score", "the end"])
def test_first_trials_that_fail_by_themselves_are_told_as_failed(bench: Bench, then: str) -> None:
    bench.start()
    bench.fail(0, "encoder a: no", Fault.SETTINGS)
    assert bench.states() == ["RUNNING"]
    bench.start()
    if then == "another cause":
        bench.fail(1, "something else", Fault.SETTINGS)
    elif then == "a score":
        bench.report(1, 1, 0.3)
    else:
        bench.fail(1, "encoder b: no", Fault.SETTINGS)
        return
    assert bench.states()[0] == "FAIL"
    assert bench.study.trials[0].user_attrs["error"] == "encoder a: no"


def test_diverging_losses_do_not_end_a_search(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE, concurrent=4)
    for number in range(7):
        bench.start()
        if number:
            bench.fail(number, "the loss became nan in epoch 1", Fault.DIVERGED)
    assert bench.states() == ["RUNNING", *["FAIL"] * 6]
    assert not bench.halted()
    bench.finish(0)
    assert bench.start().number == 7


@pytest.mark.parametrize("then", ["trains", "fails too"])
def test_first_failures_are_judged_when_no_other_trial_runs(tmp_path: Path, then: str) -> None:
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE, concurrent=4)
    for _ in range(4):
        bench.start()
    for number in (1, 2, 3):
        bench.fail(number, "no such folder")
    assert not bench.halted()
    assert bench.waits()  # nothing is used up while that is open
    if then == "trains":
        bench.report(0, 1, 0.3)
        assert bench.states() == ["RUNNING", *["FAIL"] * 3]
        assert bench.start().number == 4
    else:
        bench.fail(0, "no such folder")
        assert "the first trials (#1, #2, #3, #0) all failed: no such folder" in bench.halted()
        assert bench.states() == ["WAITING"] * 4


@pytest.mark.parametrize("then", ["fails as well", "fails otherwise", "finishes", "diverges"])
def test_later_trials_that_fail_in_a_row_for_one_cause_end_the_search(tmp_path: Path, then: str) -> None:
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE.replace("trials: 8", "trials: 40"))
    bench.start()
    bench.report(0, 1, 0.3)

    def fail(reason: str, fault: Fault = Fault.SETTINGS) -> None:
        bench.fail(bench.start().number, reason, fault)

    for number in range(1, 10):
        fail(f"no module named 'x' in process {number}")
    assert not bench.halted()
    if then == "finishes":
        bench.start()
        bench.finish(10)
    elif then == "fails otherwise":
        fail("another cause")
    elif then == "diverges":
        fail("the loss became nan", Fault.DIVERGED)
        assert not bench.halted()
    fail("no module named 'x' in process 11")
    if then in ("fails as well", "diverges"):
        assert "10 trials in a row (#1 to #" in bench.halted()
        assert "failed: no module named 'x' in process 11" in bench.halted()
    else:
        assert not bench.halted()


def test_a_full_disk_ends_the_search_and_loses_no_trial(bench: Bench) -> None:
    bench.start()
    bench.finish(0)
    bench.start()
    bench.fail(1, "state.pt: No space left on device", Fault.DISK)
    assert bench.states() == ["COMPLETE", "WAITING"]
    assert "No space left" in bench.halted()
    assert bench.over()


def test_data_out_of_sight_are_looked_for_once_more_and_end_the_search(bench: Bench) -> None:
    bench.start()
    bench.finish(0)
    for _ in range(2):
        assert bench.start().number == 1
        assert not bench.halted()
        bench.fail(1, "/data: no such folder (node n)", Fault.PLACE)
    assert bench.repeats == [(1, "/data: no such folder (node n)")]
    assert "/data" in bench.halted()
    assert bench.states() == ["COMPLETE", "WAITING"]  # nothing is used up


@pytest.mark.parametrize("moment", ["epoch", "end", "start"])
def test_a_study_that_cannot_be_written_ends_the_search(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    bench.start()
    bench.finish(0)
    bench.start()
    bench.report(1, 2, 0.5)

    def full(*arguments: object, **named: object) -> None:
        raise StorageInternalError("disk I/O error")

    storage = type(bench.study._storage)
    with monkeypatch.context() as patch:
        for name in ("set_trial_state_values", "set_trial_intermediate_value", "create_new_trial"):
            patch.setattr(storage, name, full)
        if moment == "epoch":
            bench.report(1, 3, 0.5)
        elif moment == "end":
            bench.searcher.ended(1)
        else:
            assert bench.waits()
    assert bench.searcher.interrupted
    assert isinstance(bench.searcher.error, StorageInternalError)
    settle(bench.study, bench.searcher.interrupted, LOST)
    assert bench.states() == ["COMPLETE", "WAITING"]


def test_a_trial_of_which_ray_tells_nobody_is_repeated(bench: Bench) -> None:
    ray = RaySearcher(bench.searcher)
    for ray_id in "ab":
        assert ray.suggest(ray_id)
    bench.finish(0)
    ray.on_trial_complete("a")
    watch = RayCallback(ray)
    trials = [SimpleNamespace(trial_id=ray_id, status="ERROR") for ray_id in "ab"]
    watch.on_step_begin(0, trials)
    watch.on_step_begin(1, trials)
    assert bench.states() == ["COMPLETE", "WAITING"]
    assert [number for number, _ in bench.repeats] == [1]
