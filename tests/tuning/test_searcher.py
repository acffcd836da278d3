"""The study's side of a search, driven as Ray Tune drives it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.report.tables import state_of
from segtune.space.reader import load_space
from segtune.training.resolve import anchored
from segtune.tuning.asha import OBJECTIVE, Asha, grace_period
from segtune.tuning.failures import LOST
from segtune.tuning.results import Results
from segtune.tuning.sampler import LESSONS, build_sampler, distributions, encode
from segtune.tuning.search import _Watch
from segtune.tuning.status import search_state
from segtune.tuning.stopping import seconds_of
from segtune.tuning.study import same_data, settle, wait
from tests.tuning.bench import SPACE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(SearchFolder(tmp_path / "search"), SPACE)


def test_the_first_trial_is_the_baseline_and_lies_outside_this_space(bench: Bench) -> None:
    config = bench.start("a")
    assert (config["number"], config["baseline"]) == (0, True)
    assert config["settings"]["encoder"] == "efficientnet-b0"  # RunConfig's default
    assert config["settings"]["batch_size"] == 4
    assert bench.study.trials[0].params == {}


def test_a_baseline_inside_the_space_is_told_to_the_sampler(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE + "baseline: {encoder: resnet18}\n")
    bench.start("a")
    assert bench.study.trials[0].params == {
        "encoder": "resnet18",
        "optimizer": "adamw",
        "optimizer.adamw.weight_decay": 1e-4,
    }


def test_each_optimizer_draws_its_own_settings(bench: Bench) -> None:
    bench.concurrent = 8
    for number in range(8):
        bench.start(str(number))
        bench.finish(str(number))
    for trial in bench.study.trials[1:]:
        own = {"adamw": "optimizer.adamw.weight_decay", "sgd": "optimizer.sgd.momentum"}[trial.params["optimizer"]]
        assert set(trial.params) == {"encoder", "optimizer", own}
    assert {trial.params["optimizer"] for trial in bench.study.trials[1:]} == {"adamw", "sgd"}


def test_only_a_trial_that_used_its_budget_is_complete(bench: Bench) -> None:
    bench.start("a")
    bench.finish("a", 0.7)
    assert bench.study.trials[0].state is TrialState.COMPLETE
    assert bench.study.trials[0].value == 0.7


def test_a_stopped_trial_is_pruned_with_all_its_values(bench: Bench) -> None:
    bench.start("a")
    bench.report("a", 1, 0.2)
    last = {"epoch": 2, "epochs": 3, OBJECTIVE: 0.3}  # Ray keeps the result that stops from on_trial_result
    bench.stopped.add("a")
    bench.searcher.on_trial_complete("a", last)
    assert bench.study.trials[0].state is TrialState.PRUNED
    assert bench.study.trials[0].intermediate_values == {1: 0.2, 2: 0.3}


def test_a_failed_trial_keeps_its_reason_and_its_values(bench: Bench) -> None:
    bench.start("a")
    bench.report("a", 1, 0.2)
    bench.searcher.on_trial_complete("a", {"error": "the loss became nan", "fault": "diverged"})
    trial = bench.study.trials[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["error"] == "the loss became nan"
    assert trial.intermediate_values == {1: 0.2}


def test_a_trial_whose_worker_was_lost_is_repeated_once_and_then_fails_with_the_reason(bench: Bench) -> None:
    first = bench.start("a")
    bench.report("a", 1, 0.2)
    bench.searcher.on_trial_complete("a", error=True)
    assert bench.states() == ["WAITING"]
    assert bench.repeated == [(0, LOST)]
    again = bench.start("b")
    assert (again["number"], again["settings"]) == (first["number"], first["settings"])
    bench.searcher.on_trial_complete("b", error=True)
    assert bench.states() == ["FAIL"]
    assert "worker" in bench.study.trials[0].user_attrs["error"]
    (trial,) = Results(bench.study, bench.folder, bench.space, "").trials()
    assert (trial.status, trial.error, trial.repeats) == ("failed", LOST, (LOST,))


def test_why_a_process_killed_itself_is_read_from_the_trials_folder(bench: Bench) -> None:
    config = bench.start("a")
    Path(config["folder"]).mkdir()
    (Path(config["folder"]) / "fault.txt").write_text("no sign of life for 601 s in training")
    bench.searcher.on_trial_complete("a", error=True)
    assert bench.repeated == [(0, "no sign of life for 601 s in training")]


def test_what_is_wrong_with_the_settings_is_not_tried_again(bench: Bench) -> None:
    bench.start("a")
    bench.finish("a")
    bench.start("b")
    bench.searcher.on_trial_complete("b", {"error": "the loss became nan in epoch 1", "fault": "diverged"})
    assert bench.states() == ["COMPLETE", "FAIL"]
    assert not bench.repeated


def test_a_repeat_comes_before_a_new_trial_and_is_not_one_more_of_those_asked_for(bench: Bench) -> None:
    numbers = []
    for attempt in range(9):
        numbers.append(bench.start(str(attempt))["number"])
        if attempt == 2:
            bench.searcher.on_trial_complete("2", error=True)
        else:
            bench.finish(str(attempt))
    assert numbers == [0, 1, 2, 2, 3, 4, 5, 6, 7]
    assert bench.searcher.suggest("z") == "FINISHED"


def test_the_search_is_not_finished_while_a_trial_that_may_be_repeated_runs(bench: Bench) -> None:
    for number in range(7):
        bench.start(str(number))
        bench.finish(str(number))
    bench.start("7")
    assert bench.searcher.suggest("8") is None
    bench.searcher.on_trial_complete("7", error=True)
    assert bench.start("9")["number"] == 7


def test_when_the_first_trials_fail_for_one_cause_the_search_stops_and_they_wait(bench: Bench) -> None:
    for number in range(3):
        bench.start(str(number))
        error = f"CUDA driver error {number}"
        bench.searcher.on_trial_complete(str(number), {"error": error, "fault": "settings"})
    assert bench.states() == ["WAITING"] * 3
    assert bench.searcher.suggest("3") == "FINISHED"
    assert "the first trials (#0, #1, #2) all failed: CUDA driver error 0" in bench.searcher.halted
    later = Bench(bench.folder, SPACE)
    assert later.start("a")["number"] == 0


@pytest.mark.parametrize("then", ["another cause", "a score", "the end"])
def test_first_trials_that_fail_by_themselves_are_told_as_failed(bench: Bench, then: str) -> None:
    bench.start("0")
    bench.searcher.on_trial_complete("0", {"error": "encoder a: no", "fault": "settings"})
    assert bench.states() == ["RUNNING"]
    bench.start("1")
    if then == "another cause":
        bench.searcher.on_trial_complete("1", {"error": "something else", "fault": "settings"})
    elif then == "a score":
        bench.report("1", 1, 0.3)
    else:
        bench.searcher.on_trial_complete("1", {"error": "encoder b: no", "fault": "settings"})
        return
    assert bench.states()[0] == "FAIL"
    assert bench.study.trials[0].user_attrs["error"] == "encoder a: no"


def test_losses_that_explode_do_not_end_a_search_whose_baseline_still_trains(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE, concurrent=4)
    for number in range(7):
        bench.start(str(number))
        if number:
            result = {"error": "the loss became nan in epoch 1", "fault": "diverged"}
            bench.searcher.on_trial_complete(str(number), result)
    assert bench.states() == ["RUNNING", *["FAIL"] * 6]
    assert not bench.searcher.halted
    bench.finish("0")
    assert bench.start("7")["number"] == 7


@pytest.mark.parametrize("then", ["trains", "fails too"])
def test_failures_for_one_cause_are_judged_when_no_trial_runs_that_may_still_report(tmp_path: Path, then: str) -> None:
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE, concurrent=4)
    for number in range(4):
        bench.start(str(number))
    failure = {"error": "no such folder", "fault": "settings"}
    for number in (1, 2, 3):
        bench.searcher.on_trial_complete(str(number), failure)
    assert not bench.searcher.halted
    assert bench.searcher.suggest("4") is None  # nothing is used up while that is open
    if then == "trains":
        bench.report("0", 1, 0.3)
        assert bench.states() == ["RUNNING", *["FAIL"] * 3]
        assert bench.start("4")["number"] == 4
    else:
        bench.searcher.on_trial_complete("0", failure)
        assert "the first trials (#1, #2, #3, #0) all failed: no such folder" in bench.searcher.halted
        assert bench.states() == ["WAITING"] * 4


@pytest.mark.parametrize("then", ["fails as well", "fails otherwise", "finishes", "diverges"])
def test_later_trials_that_fail_in_a_row_for_one_cause_end_the_search(tmp_path: Path, then: str) -> None:
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE.replace("trials: 8", "trials: 40"))
    bench.start("baseline")
    bench.report("baseline", 1, 0.3)

    def fail(number: int, error: str, fault: str = "settings") -> None:
        bench.start(str(number))
        bench.searcher.on_trial_complete(str(number), {"error": error, "fault": fault})

    for number in range(1, 10):
        fail(number, f"no module named 'x' in process {number}")
    assert not bench.searcher.halted
    if then == "finishes":
        bench.start("10")
        bench.finish("10")
    elif then == "fails otherwise":
        fail(10, "another cause")
    elif then == "diverges":
        fail(10, "the loss became nan", "diverged")
        assert not bench.searcher.halted
    fail(11, "no module named 'x' in process 11")
    if then in ("fails as well", "diverges"):
        assert "10 trials in a row (#1 to #" in bench.searcher.halted
        assert "failed: no module named 'x' in process 11" in bench.searcher.halted
    else:
        assert not bench.searcher.halted


def test_a_full_disk_ends_the_search_and_loses_no_trial(bench: Bench) -> None:
    bench.start("a")
    bench.finish("a")
    bench.start("b")
    bench.searcher.on_trial_complete("b", {"error": "state.pt: No space left on device", "fault": "disk"})
    assert bench.states() == ["COMPLETE", "WAITING"]
    assert "No space left" in bench.searcher.halted
    assert bench.searcher.suggest("c") == "FINISHED"


def test_data_out_of_sight_are_looked_for_once_more_and_end_the_search(bench: Bench) -> None:
    bench.start("a")
    bench.finish("a")
    for ray_id in "bc":
        assert bench.start(ray_id)["number"] == 1
        assert not bench.searcher.halted
        bench.searcher.on_trial_complete(ray_id, {"error": "/data: no such folder (node n)", "fault": "place"})
    assert bench.repeated == [(1, "/data: no such folder (node n)")]
    assert "/data" in bench.searcher.halted
    assert bench.states() == ["COMPLETE", "WAITING"]  # nothing is used up


@pytest.mark.parametrize("moment", ["epoch", "end", "start"])
def test_a_study_that_cannot_be_written_ends_the_search_and_loses_no_trial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    bench.start("a")
    bench.finish("a")
    bench.start("b")
    result = bench.report("b", 2, 0.5)

    def full(*arguments: object, **named: object) -> None:
        raise StorageInternalError("disk I/O error")

    storage = type(bench.study._storage)
    with monkeypatch.context() as patch:
        for name in ("set_trial_state_values", "set_trial_intermediate_value", "create_new_trial"):
            patch.setattr(storage, name, full)
        if moment == "epoch":
            bench.report("b", 3, 0.5)
        elif moment == "end":
            bench.searcher.on_trial_complete("b", result | {"epoch": 3})
        else:
            assert bench.searcher.suggest("c") is None
    assert bench.searcher.interrupted
    assert isinstance(bench.searcher.broken, StorageInternalError)
    settle(bench.study, bench.searcher.interrupted, LOST)
    assert bench.states() == ["COMPLETE", "WAITING"]


def test_a_trial_of_which_ray_tells_nobody_is_repeated(bench: Bench) -> None:
    bench.start("a")
    bench.finish("a")
    bench.start("b")
    watch = _Watch(bench, bench.searcher)  # type: ignore[arg-type]
    trials = [SimpleNamespace(trial_id=ray_id, status="ERROR") for ray_id in "ab"]
    watch.on_step_begin(0, trials)
    watch.on_step_begin(1, trials)
    assert bench.states() == ["COMPLETE", "WAITING"]
    assert [number for number, _ in bench.repeated] == [1]


def test_the_time_spent_is_noted_while_no_trial_reports(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = Bench(bench.folder, SPACE)
    now += 29
    bench.searcher.look_at_the_clock()
    assert seconds_of(bench.study) == 0
    now += 2
    bench.searcher.look_at_the_clock()
    assert seconds_of(bench.study) == 31


def test_a_trial_that_was_drawn_in_part_when_the_search_was_killed_is_completed_by_what_goes_with_it(
    tmp_path: Path,
) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [1, 5], lr: {low: 1e-4, high: 1e-2}}
search: {trials: 30, sampler: random}
"""
    bench = Bench(SearchFolder(tmp_path / "search"), text, concurrent=40)
    bench.start("baseline")
    for number in range(20):
        trial = bench.study.ask()
        drawn = trial._suggest("epochs", dict(distributions(bench.space.parameters))["epochs"])
        wait(bench.study, trial._trial_id)
        bench = Bench(bench.folder, text, concurrent=40)
        config = bench.start(str(number))
        assert config["number"] == trial.number
        assert encode({"epochs": config["settings"]["epochs"]}) == {"epochs": drawn}
        assert config["settings"]["warmup_epochs"] < config["settings"]["epochs"]


def test_an_interrupted_trial_comes_back_with_number_settings_and_values(bench: Bench) -> None:
    bench.start("a")
    bench.finish("a")
    before = bench.start("b")
    bench.report("b", 1, 0.25)
    bench.searcher.interrupted = True
    bench.searcher.on_trial_complete("b", {"epoch": 1, "epochs": 3, OBJECTIVE: 0.25})
    assert bench.states() == ["COMPLETE", "WAITING"]

    later = Bench(bench.folder, SPACE)
    again = later.start("c")
    assert again | {"asked": 0} == before | {"asked": 0}
    later.finish("c", 0.5)
    assert later.states() == ["COMPLETE", "COMPLETE"]
    assert later.study.trials[1].intermediate_values[1] == 0.25


def test_a_trial_goes_on_where_the_data_are_now(bench: Bench) -> None:
    bench.start("a")
    before = bench.start("b")["settings"]
    bench.report("b", 1, 0.25)
    settle(bench.study, True, LOST)
    bench.study._storage.remove_session()
    moved = bench.folder.path.rename(bench.folder.path.with_name("moved"))
    later = Bench(SearchFolder(moved), "dataset: elsewhere\n" + SPACE)
    settings = {config["number"]: config["settings"] for config in (later.start("c"), later.start("d"))}
    assert settings[1] == before | {"dataset": "elsewhere"}


def test_a_trial_that_was_drawn_before_the_search_moved_starts_from_the_weights_where_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a/model.pt", "b/model.pt", "b/other.pt")
    space = f"encoder_weights: [none, {', '.join(names)}], lr: {{low: 1e-4, high: 1e-2}}"
    text = f"space: {{{space}}}\nsearch: {{trials: 20, sampler: random}}\n"
    for name in names:
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).touch()

    def started(where: Path) -> dict[int, str]:
        monkeypatch.chdir(where)
        bench = Bench(SearchFolder(where / "search"), text, concurrent=20)
        bench.searcher._complete = anchored
        weights = {}
        for ray_id in map(str, range(20)):
            config = bench.start(ray_id)
            weights[config["number"]] = config["settings"]["encoder_weights"]
        settle(bench.study, True, LOST)
        bench.study._storage.remove_session()
        return weights

    drawn = started(tmp_path / "old")
    assert {"none", *(str(tmp_path / "old" / name) for name in names)} == set(drawn.values())
    (tmp_path / "old").rename(tmp_path / "new")
    # Its weights are in its state; with others it would be another run.
    begun = next(number for number, weights in drawn.items() if weights != "none")
    SearchFolder(tmp_path / "new" / "search").trial(begun).path.mkdir()
    SearchFolder(tmp_path / "new" / "search").trial(begun).state.touch()
    moved = {number: weights.replace(str(tmp_path / "old"), str(tmp_path / "new")) for number, weights in drawn.items()}
    assert started(tmp_path / "new") == moved | {begun: drawn[begun]}


def test_a_process_that_died_leaves_nothing_running(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    assert bench.states() == ["RUNNING", "RUNNING"]
    settle(bench.study, True, LOST)
    assert bench.states() == ["WAITING", "WAITING"]


def test_trials_that_ray_lost_count_as_failed(bench: Bench) -> None:
    bench.start("a")
    settle(bench.study, False, LOST)
    assert bench.states() == ["FAIL"]


def test_nothing_is_drawn_before_there_is_room(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    assert bench.searcher.suggest("c") is None
    bench.finish("a")
    assert isinstance(bench.searcher.suggest("c"), dict)


def interrupt(bench: Bench) -> None:
    bench.searcher.interrupt()


def use_up_the_time(bench: Bench) -> None:
    bench.rules.over = lambda: True  # type: ignore[method-assign]


def fill_the_disk(bench: Bench) -> None:
    bench.searcher.halt("disk_gb: too large")


def lose_the_study(bench: Bench) -> None:
    bench.searcher._ask = lambda: (_ for _ in ()).throw(StorageInternalError("disk I/O error"))  # type: ignore[method-assign]


@pytest.mark.parametrize("end", [interrupt, use_up_the_time, fill_the_disk, lose_the_study])
@pytest.mark.parametrize("ended", [0, 1])
def test_a_search_that_ends_while_no_trial_lives_says_so(bench: Bench, end: Any, ended: int) -> None:
    # Ray asks for the next trial again and again while none lives, and looks at nothing else.
    for number in range(ended):
        bench.start(str(number))
        bench.finish(str(number))
    end(bench)
    assert bench.searcher.suggest("z") == "FINISHED"
    assert bench.searcher.interrupted


def test_a_search_that_ends_while_a_trial_lives_waits_for_it(bench: Bench) -> None:
    bench.start("a")
    bench.searcher.interrupt()
    assert bench.searcher.suggest("b") is None
    bench.searcher.on_trial_complete("a", {"epoch": 0})
    assert bench.searcher.suggest("b") == "FINISHED"
    assert bench.states() == ["WAITING"]


def test_as_many_trials_as_asked_for(bench: Bench) -> None:
    for number in range(8):
        bench.start(str(number))
        bench.finish(str(number))
    assert bench.searcher.suggest("9") == "FINISHED"
    assert len(bench.study.trials) == 8
    assert bench.ended == list(range(8))


def test_values_that_do_not_go_together_are_drawn_again(tmp_path: Path) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [1, 5], lr: {low: 1e-4, high: 1e-2}}
search: {trials: 30, sampler: SAMPLER}
"""
    for sampler in ("random", "tpe"):
        bench = Bench(SearchFolder(tmp_path / sampler), text.replace("SAMPLER", sampler), concurrent=40)
        points = []
        for number in range(16):
            settings = bench.start(str(number))["settings"]
            points.append((settings["epochs"], settings["warmup_epochs"]))
            # TPE is drawn to where a part of the points cannot be run.
            bench.finish(str(number), 0.9 if settings["epochs"] == 2 else 0.1)
        assert set(points[1:]) == {(2, 1), (9, 1), (9, 5)}
        assert {trial.state for trial in bench.study.trials} <= {TrialState.COMPLETE, TrialState.WAITING}


def test_a_space_in_which_nothing_goes_together_fails_by_name(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE)
    bench.study.sampler = build_sampler(bench.space, lambda settings: "no")
    bench.searcher._complete = lambda config: (_ for _ in ()).throw(InputError("lr: no"))
    assert bench.searcher.suggest("a") == "FINISHED"
    assert bench.study.trials[0].user_attrs["error"] == "lr: no"


GRID = """
run: {model: unet}
space: {lr: [1e-3, 1e-2], encoder: [resnet18, mobilenet_v2, resnet34]}
baseline: {lr: 1e-2, encoder: resnet18}
search: {trials: 20, sampler: grid, scheduler: none, compare: encoder}
"""


def test_a_grid_runs_every_point_once_and_the_compared_setting_fastest(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), GRID, concurrent=20)
    points = []
    while isinstance(config := bench.searcher.suggest(str(len(points))), dict):
        points.append((config["settings"]["lr"], config["settings"]["encoder"]))
    assert points[0] == (1e-2, "resnet18")  # the baseline
    assert points[1:4] == [(1e-3, "resnet18"), (1e-3, "mobilenet_v2"), (1e-3, "resnet34")]
    assert len(points) == len(set(points)) == 6


@pytest.mark.parametrize(("encoder", "points"), [("resnet18", 6), ("resnet50", 7)], ids=["inside", "outside"])
def test_a_grid_that_was_tried_from_end_to_end_is_a_search_that_ended(
    tmp_path: Path, encoder: str, points: int
) -> None:
    text = GRID.replace("encoder: resnet18}", f"encoder: {encoder}}}")
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=20)
    bench.folder.search_yaml.write_text(yaml.safe_dump(bench.space.dump()))
    for number in range(points):
        assert "--resume goes on with it" in str(state_of(search_state(bench.folder), 0.0)[0])
        bench.start(str(number))
        bench.finish(str(number))
    assert bench.searcher.suggest("z") == "FINISHED"
    lines = state_of(search_state(bench.folder), 0.0)
    assert lines[0] == f"{bench.folder.path}: not running"
    assert str(lines[1]).startswith(f"{points} of {points} trials ended ({points} finished)")


# What was tried is not tried again.

FEW = {
    "values": ("loss: [dice, dice+bce]\n  lr: [1e-3, 5e-3]", 4),
    "numbers": ("batch_size: {low: 5, high: 6}\n  lr: {low: 1e-3, high: 3e-3, step: 1e-3}", 6),
    "branches": ("optimizer:\n    adamw: {lr: [1e-3, 2e-3]}\n    sgd: {momentum: {low: 0.8, high: 0.9, step: 0.1}}", 4),
    "one": ("lr: {low: 1e-3, high: 1e-3, log: true}\n  batch_size: {low: 5, high: 7, log: true}", 3),
}
EXHAUSTED = "the space is exhausted: every configuration that can be run was tried"


def finish_all(bench: Bench, most: int = 99) -> list[str]:
    """What is tried until the searcher has no more."""
    points = []
    while len(points) < most and isinstance(config := bench.searcher.suggest(str(len(points))), dict):
        points.append(str(sorted(bench.study.trials[config["number"]].params.items())))
        bench.finish(str(len(points) - 1), 0.5)
    return points


@pytest.mark.parametrize(("few", "sampler"), [*((few, "tpe") for few in FEW), ("values", "random")])
def test_no_point_is_tried_twice_and_a_space_that_is_exhausted_ends_the_search(
    few: str, sampler: str, tmp_path: Path
) -> None:
    space, size = FEW[few]
    text = f"run: {{model: unet, epochs: 3}}\nspace:\n  {space}\nsearch: {{trials: 12, sampler: {sampler}}}\n"
    points = finish_all(Bench(SearchFolder(tmp_path / "s"), text, concurrent=1), most=2)
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=1)  # which goes on
    points += finish_all(bench)
    assert len(points) == len(set(points)) == size
    assert bench.searcher.exhausted == EXHAUSTED
    again = Bench(SearchFolder(tmp_path / "s"), text, concurrent=1)
    assert again.searcher.suggest("z") == "FINISHED"
    assert again.searcher.exhausted == EXHAUSTED


def test_trials_beside_each_other_try_different_points_and_what_cannot_be_run_is_left_out(tmp_path: Path) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [1, 5], batch_size: [6, 7]}
search: {trials: 30, sampler: random}
"""
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=40)
    points = []
    while isinstance(config := bench.searcher.suggest(str(len(points))), dict):
        points.append(tuple(config["settings"][name] for name in ("epochs", "warmup_epochs", "batch_size")))
    assert config is None  # one of those that run may still be repeated
    assert set(points[1:]) == {(2, 1, 6), (2, 1, 7), (9, 1, 6), (9, 1, 7), (9, 5, 6), (9, 5, 7)}
    assert len(points) == 7  # the baseline lies outside


def test_a_number_without_a_choice_is_nothing_to_model(tmp_path: Path) -> None:
    text = """
run: {model: unet, epochs: 3}
space:
  optimizer:
    adamw: {lr: {low: 1e-4, high: 1e-2, log: true}, weight_decay: {low: 1e-3, high: 1e-3, log: true}}
    sgd: {lr: {low: 1e-3, high: 1e-1, log: true}, momentum: {low: 0.9, high: 0.9}}
search: {trials: 16, sampler: tpe}
"""
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=1)
    assert len(finish_all(bench)) == 16
    assert bench.study.sampler.redrawn == 0  # type: ignore[attr-defined]
    ends = {"optimizer.adamw.weight_decay": 1e-3, "optimizer.sgd.momentum": 0.9}
    assert all(trial.params[key] == ends[key] for trial in bench.study.trials for key in ends.keys() & trial.params)


def test_lists_are_values_too(tmp_path: Path) -> None:
    text = "run: {model: unet}\nspace: {channels: [[], [nir]]}\nsearch: {trials: 9, sampler: random}\n"
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=20)
    seen = {tuple(bench.start(str(number))["settings"]["channels"]) for number in range(2)}
    assert seen == {(), ("nir",)}


def test_tpe_learns_from_stopped_trials_and_skips_a_baseline_outside(tmp_path: Path) -> None:
    text = SPACE.replace("sampler: random", "sampler: tpe").replace("trials: 8", "trials: 60")
    bench = Bench(SearchFolder(tmp_path / "s"), text)
    for number in range(60):
        config = bench.start(str(number))
        good = config["settings"]["optimizer"] == "sgd"
        if good:
            bench.finish(str(number), 0.9)
        else:
            bench.stopped.add(str(number))
            bench.searcher.on_trial_complete(str(number), {"epoch": 1, "epochs": 3, OBJECTIVE: 0.1})
    late = [trial.params["optimizer"] for trial in bench.study.trials[30:]]
    assert late.count("sgd") > 20


@dataclass
class RayTrial:
    trial_id: str
    config: dict[str, Any]


def reports(asha: Asha, number: int, values: list[float], baseline: bool = False, since: int = 1) -> int:
    """Report values, from epoch `since` on, until ASHA stops the trial; the epochs that it was given."""
    trial = RayTrial(f"ray{number}", {"number": number, "baseline": baseline})
    asha.on_trial_add(None, trial)
    for epoch, value in list(enumerate(values, start=1))[since - 1 :]:
        result = {"epoch": epoch, "epochs": len(values), OBJECTIVE: value}
        if asha.on_trial_result(None, trial, result) != "CONTINUE":
            return epoch
    return len(values)


def test_asha_stops_poor_trials_at_a_rung_and_never_the_baseline() -> None:
    asha = Asha(grace_period=3, reduction_factor=3, epochs=27)
    for number in range(3):
        assert reports(asha, number, [0.5 + 0.1 * number] * 27) in (3, 9, 27)
    assert reports(asha, 3, [0.1] * 27) == 3
    assert asha.stopped >= {"ray3"}
    assert reports(asha, 4, [0.0] * 27, baseline=True) == 27


def test_a_slow_starter_survives_the_grace_period() -> None:
    asha = Asha(grace_period=5, reduction_factor=3, epochs=45)
    for number in range(4):
        reports(asha, number, [0.5] * 45)
    assert reports(asha, 9, [0.0] * 4 + [0.6] * 41) == 45
    assert reports(asha, 10, [0.0] * 45) == 5


@pytest.mark.parametrize(("epochs", "warmup", "grace"), [(45, 1, 5), (9, 0, 3), (9, 3, 6), (2, 0, 2), (100, 0, 12)])
def test_the_default_grace_period(bench: Bench, epochs: int, warmup: int, grace: int) -> None:
    assert grace_period(bench.space.search, epochs, warmup) == grace


def test_rungs_are_the_same_after_a_replay() -> None:
    asha, replayed = (Asha(grace_period=1, reduction_factor=3, epochs=9) for _ in range(2))
    curves = {0: [0.2, 0.3, 0.4], 1: [0.3, 0.5, 0.6], 2: [0.4, 0.4, 0.4]}
    for number, values in curves.items():
        reports(asha, number, values)
        replayed.replay(number, dict(enumerate(values, start=1)))
    for poor in ([0.1] * 9, [0.35] * 9, [0.45] * 9):
        assert reports(asha, 99, poor) == reports(replayed, 99, poor)


def test_a_trial_that_a_kill_saved_from_being_stopped_is_stopped_when_it_goes_on() -> None:
    asha = Asha(grace_period=3, reduction_factor=3, epochs=27)
    for number in range(3):
        asha.replay(number, dict.fromkeys(range(1, 28), 0.9))
    asha.replay(7, dict.fromkeys((1, 2, 3), 0.1), ended=False)
    assert reports(asha, 7, [0.1] * 27, since=4) == 4


def test_the_study_is_named_after_the_search(bench: Bench) -> None:
    bench.start("a")
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{bench.folder.study_db}")
    assert loaded.direction.name == "MAXIMIZE"


def test_a_search_that_goes_on_draws_new_values(bench: Bench) -> None:
    for number in range(4):
        bench.start(str(number))
        bench.finish(str(number))
    later = Bench(bench.folder, SPACE)
    for number in range(4, 7):
        later.start(str(number))
        later.finish(str(number))
    drawn = [str(trial.params) for trial in later.study.trials[1:]]
    assert len(drawn) == len(set(drawn)) == 6


def test_other_data_is_noticed(bench: Bench) -> None:
    assert same_data(bench.study, "abc")
    assert same_data(bench.study, "abc")
    assert not same_data(bench.study, "abd")


# What ends a search, or a trial of it, by rule.


def with_rules(tmp_path: Path, rules: str) -> Bench:
    return Bench(SearchFolder(tmp_path / "s"), SPACE.replace("trials: 8", f"trials: 8, {rules}"), concurrent=1)


def test_without_improvement_for_long_enough_no_more_trials_are_asked_for(tmp_path: Path) -> None:
    bench = with_rules(tmp_path, "patience: 3")
    for number, value in enumerate([0.5, 0.4, 0.6, 0.6, 0.1, 0.2]):
        bench.start(str(number))
        bench.finish(str(number), value)
    assert bench.searcher.suggest("z") == "FINISHED"
    assert bench.rules.why_over() == "3 trials in a row brought no improvement"


def test_the_time_budget_is_that_of_all_starts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("segtune.tuning.stopping.running_seconds", lambda: now)
    bench = with_rules(tmp_path, "time_budget: 1m")
    bench.start("a")
    now += 40
    bench.finish("a")
    now = 5.0  # another process, after a reboot
    bench = with_rules(tmp_path, "time_budget: 1m")
    assert bench.rules.seconds() == 40
    assert isinstance(bench.searcher.suggest("b"), dict)
    now += 25
    assert bench.rules.over()
    bench.searcher.on_trial_complete("b", {"epoch": 1, "epochs": 3, OBJECTIVE: 0.2})
    assert bench.searcher.suggest("c") == "FINISHED"
    assert bench.searcher.interrupted
    assert "time budget" in bench.rules.why_over()


@pytest.mark.parametrize(
    ("rules", "report", "reason"),
    [
        ("max_trial_time: 1m", {"seconds": 61.0}, "61 s"),
        ("max_trial_time: 1m", {"seconds": 59.0}, None),
        ("collapse_epochs: 2", {"collapsed_epochs": 2}, "one class everywhere for 2 epochs"),
        ("collapse_epochs: 2", {"collapsed_epochs": 1}, None),
    ],
)
def test_a_rule_stops_a_trial_with_its_reason_but_not_the_baseline(
    tmp_path: Path, rules: str, report: dict[str, float], reason: str | None
) -> None:
    bench = with_rules(tmp_path, rules)
    result = {"epoch": 2, "epochs": 3, OBJECTIVE: 0.1, "seconds": 1.0, "collapsed_epochs": 0} | report
    bench.start("a")
    assert not bench.rules.stop("a", bench.searcher.is_baseline("a"), result)
    bench.finish("a")
    bench.start("b")
    assert bench.rules.stop("b", bench.searcher.is_baseline("b"), result) == bool(reason)
    bench.searcher.on_trial_complete("b", result)
    trial = Results(bench.study, bench.folder, bench.space, "").trials()[1]
    assert trial.status == ("stopped" if reason else "pending")
    assert (reason or "") in trial.note


# How trials that were stopped teach the sampler.


def lesson(bench: Bench, teach: str) -> dict[int, tuple[str, float | None]]:
    space = load_space(bench.folder.path / "space.yaml", search_overrides={"teach": teach, "grace_period": 1})
    taught = LESSONS[teach](space)(bench.study.get_trials())
    return {trial.number: (trial.state.name, trial.value) for trial in taught}


def test_the_three_ways_of_teaching(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE.replace("epochs: 3,", "epochs: 9,"), concurrent=9)
    for number, values in enumerate([[0.5, 0.5, 0.9], [0.2], [0.4, 0.4, 0.4], [0.3], [0.1], [0.6], [0.2], []]):
        name = str(number)
        bench.start(name)
        for epoch, value in enumerate(values, start=1):
            bench.report(name, epoch, value)
        if number == 5:
            continue  # runs still
        if number == 7:
            bench.searcher.on_trial_complete(name, {"error": "nan", "fault": "diverged"})
            continue
        bench.stopped.add(name)
        ended = {"epoch": 9, "epochs": 9, OBJECTIVE: 0.95} if number == 0 else {"epoch": 0}
        bench.searcher.on_trial_complete(name, ended)
    diverged = ("COMPLETE", 0.0)
    pruned = lesson(bench, "pruned")
    assert pruned[0] == ("COMPLETE", 0.95)
    assert {pruned[number][0] for number in (1, 2, 3, 4, 6)} == {"PRUNED"}
    assert (pruned[5], pruned[7]) == (("RUNNING", None), diverged)
    complete = lesson(bench, "complete")
    assert [complete[number][1] for number in (0, 1, 2, 3, 4, 6)] == [0.95, 0.2, 0.4, 0.3, 0.1, 0.2]
    assert (complete[5], complete[7]) == (("RUNNING", None), diverged)
    # Rungs 1, 3, 9: the third epoch is known of two trials, and of one that diverged; six would be enough.
    top = lesson(bench, "top_rung")
    assert [top[number] for number in range(8)] == [
        *(("COMPLETE", value) for value in (0.5, 0.2, 0.4, 0.3, 0.1, 0.6, 0.2)),
        diverged,
    ]
