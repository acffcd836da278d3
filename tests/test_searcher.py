"""The study's side of a search, driven as Ray Tune drives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from segtune.folders import SearchFolder
from segtune.space import load_space
from segtune.tuning.asha import OBJECTIVE, Asha, grace_period
from segtune.tuning.results import Results
from segtune.tuning.searcher import StudySearcher, open_study, same_data, settle

SPACE = """
run: {epochs: 3, model: unet, lr: 1e-3, batch_size: 4}
space:
  encoder: [resnet18, mobilenet_v2]
  optimizer:
    adamw: {weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd: {momentum: {low: 0.8, high: 0.99}}
search: {trials: 8, sampler: random}
"""


@dataclass
class Bench:
    """A study and its searcher, without Ray."""

    folder: SearchFolder
    space_text: str
    concurrent: int = 2
    stopped: set[str] = field(default_factory=set)
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.path.mkdir(exist_ok=True)
        path = self.folder.path / "space.yaml"
        path.write_text(self.space_text)
        self.space = load_space(path)
        self.study = open_study(self.folder, "s", self.space.search)
        self.searcher = StudySearcher(
            self.study,
            self.space,
            self.folder,
            lambda config: config,
            self.concurrent,
            lambda: self.stopped,
            self.ended.append,
        )

    def start(self, ray_id: str) -> dict[str, Any]:
        config = self.searcher.suggest(ray_id)
        assert isinstance(config, dict)
        return config

    def report(self, ray_id: str, epoch: int, value: float) -> dict[str, Any]:
        result = {"epoch": epoch, "epochs": 3, OBJECTIVE: value}
        self.searcher.on_trial_result(ray_id, result)
        return result

    def finish(self, ray_id: str, value: float = 0.5) -> None:
        for epoch in (1, 2, 3):
            result = self.report(ray_id, epoch, value)
        self.searcher.on_trial_complete(ray_id, result)

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials()]


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
    bench.searcher.on_trial_complete("a", {"error": "the loss became nan"})
    trial = bench.study.trials[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["error"] == "the loss became nan"
    assert trial.intermediate_values == {1: 0.2}


def test_a_lost_worker_is_a_failure_with_a_reason(bench: Bench) -> None:
    bench.start("a")
    bench.searcher.on_trial_complete("a", error=True)
    assert bench.study.trials[0].state is TrialState.FAIL
    assert "worker" in bench.study.trials[0].user_attrs["error"]


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
    assert again == before
    later.finish("c", 0.5)
    assert later.states() == ["COMPLETE", "COMPLETE"]
    assert later.study.trials[1].intermediate_values[1] == 0.25


def test_a_process_that_died_leaves_nothing_running(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    assert bench.states() == ["RUNNING", "RUNNING"]
    settle(bench.study, interrupted=True)
    assert bench.states() == ["WAITING", "WAITING"]


def test_trials_that_ray_lost_count_as_failed(bench: Bench) -> None:
    bench.start("a")
    settle(bench.study, interrupted=False)
    assert bench.states() == ["FAIL"]


def test_nothing_is_drawn_before_there_is_room(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    assert bench.searcher.suggest("c") is None
    bench.finish("a")
    assert isinstance(bench.searcher.suggest("c"), dict)


def test_as_many_trials_as_asked_for(bench: Bench) -> None:
    for number in range(8):
        bench.start(str(number))
        bench.finish(str(number))
    assert bench.searcher.suggest("9") == "FINISHED"
    assert len(bench.study.trials) == 8
    assert bench.ended == list(range(8))


def test_values_that_do_not_go_together_fail_by_name_and_the_search_goes_on(tmp_path: Path) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [1, 5]}
search: {trials: 12, sampler: random}
"""
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=20)
    drawn = [bench.searcher.suggest(str(number)) for number in range(12)]
    failed = [trial for trial in bench.study.trials if trial.state is TrialState.FAIL]
    assert failed
    assert len(failed) == sum(config is None for config in drawn)
    assert all("warmup_epochs" in trial.user_attrs["error"] for trial in failed)
    assert len(bench.study.trials) == 12
    listed = Results(bench.study, bench.folder, bench.space, "").trials()
    assert [trial.number for trial in listed] == list(range(12))


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


def test_lists_are_values_too(tmp_path: Path) -> None:
    text = "run: {model: unet}\nspace: {channels: [[], [nir]]}\nsearch: {trials: 9, sampler: random}\n"
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=20)
    seen = {tuple(bench.start(str(number))["settings"]["channels"]) for number in range(9)}
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


def reports(asha: Asha, number: int, values: list[float], baseline: bool = False) -> int:
    """Report values until ASHA stops the trial; the epochs that it was given."""
    trial = RayTrial(f"ray{number}", {"number": number, "baseline": baseline})
    asha.on_trial_add(None, trial)
    for epoch, value in enumerate(values, start=1):
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
