"""Drawing trials: whole points, none twice, grids, and a search that continues."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.report.tables import state_of
from segtune.tuning.points import distributions, encode
from segtune.tuning.sampler import build_sampler
from segtune.tuning.status import search_state
from segtune.tuning.stopping import Cause, EarlyEnd
from segtune.tuning.study import wait
from tests.tuning.bench import SPACE, Bench


def test_each_optimizer_draws_its_own_settings(bench: Bench) -> None:
    for _ in range(8):
        bench.finish(bench.start().number)
    for trial in bench.study.trials[1:]:
        own = {"adamw": "optimizer.adamw.weight_decay", "sgd": "optimizer.sgd.momentum"}[trial.params["optimizer"]]
        assert set(trial.params) == {"encoder", "optimizer", own}
    assert {trial.params["optimizer"] for trial in bench.study.trials[1:]} == {"adamw", "sgd"}


def test_a_partly_drawn_trial_is_completed_with_matching_values(
    tmp_path: Path,
) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [1, 5], lr: {low: 1e-4, high: 1e-2}}
search: {trials: 30, sampler: random}
"""
    bench = Bench(SearchFolder(tmp_path / "search"), text, concurrent=40)
    bench.start()
    for _ in range(20):
        trial = bench.study.ask()
        drawn = trial._suggest("epochs", dict(distributions(bench.space.parameters))["epochs"])
        wait(bench.study, trial._trial_id)
        bench = Bench(bench.folder, text, concurrent=40)
        start = bench.start()
        assert start.number == trial.number
        assert encode({"epochs": start.config.epochs}) == {"epochs": drawn}
        assert start.config.warmup_epochs < start.config.epochs


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
            settings = bench.start().config.settings()
            points.append((settings["epochs"], settings["warmup_epochs"]))
            # TPE is drawn to where a part of the points cannot be run.
            bench.finish(number, 0.9 if settings["epochs"] == 2 else 0.1)
        assert set(points[1:]) == {(2, 1), (9, 1), (9, 5)}
        assert {trial.state for trial in bench.study.trials} <= {TrialState.COMPLETE, TrialState.WAITING}


def test_a_space_in_which_nothing_goes_together_fails_by_name(tmp_path: Path) -> None:
    def refuse(config: RunConfig) -> RunConfig:
        raise InputError("lr: no")

    bench = Bench(SearchFolder(tmp_path / "s"), SPACE, resolve=refuse)
    bench.study.sampler = build_sampler(bench.space, lambda settings: "no")
    assert bench.over()
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
    while start := bench.searcher.next_trial():
        points.append((start.config.lr, start.config.encoder))
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
    for _ in range(points):
        assert "--resume goes on with it" in str(state_of(search_state(bench.folder), 0.0)[0])
        bench.finish(bench.start().number)
    assert bench.over()
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
EXHAUSTED = EarlyEnd(Cause.EXHAUSTED, "the space is exhausted: every configuration that can be run was tried")


def finish_all(bench: Bench, most: int = 99) -> list[str]:
    """Finish trials until no more come; return their points."""
    points = []
    while len(points) < most and (start := bench.searcher.next_trial()):
        points.append(str(sorted(bench.study.trials[start.number].params.items())))
        bench.finish(start.number, 0.5)
    return points


@pytest.mark.parametrize(("few", "sampler"), [*((few, "tpe") for few in FEW), ("values", "random")])
def test_no_point_is_tried_twice_and_an_exhausted_space_ends_the_search(few: str, sampler: str, tmp_path: Path) -> None:
    space, size = FEW[few]
    text = f"run: {{model: unet, epochs: 3}}\nspace:\n  {space}\nsearch: {{trials: 12, sampler: {sampler}}}\n"
    points = finish_all(Bench(SearchFolder(tmp_path / "s"), text, concurrent=1), most=2)
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=1)  # which goes on
    points += finish_all(bench)
    assert len(points) == len(set(points)) == size
    assert bench.searcher.early_end() == EXHAUSTED
    again = Bench(SearchFolder(tmp_path / "s"), text, concurrent=1)
    assert again.over()
    assert again.searcher.early_end() == EXHAUSTED


def test_concurrent_trials_try_different_points_that_can_be_run(tmp_path: Path) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [1, 5], batch_size: [6, 7]}
search: {trials: 30, sampler: random}
"""
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=40)
    points = []
    while start := bench.searcher.next_trial():
        points.append(tuple(getattr(start.config, name) for name in ("epochs", "warmup_epochs", "batch_size")))
    assert bench.waits()  # one of those that run may still be repeated
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
    seen = {tuple(bench.start().config.channels) for number in range(2)}
    assert seen == {(), ("nir",)}


def test_tpe_learns_from_stopped_trials_and_skips_a_baseline_outside(tmp_path: Path) -> None:
    text = SPACE.replace("sampler: random", "sampler: tpe").replace("trials: 8", "trials: 30")
    bench = Bench(SearchFolder(tmp_path / "s"), text)
    for number in range(30):
        start = bench.start()
        good = start.config.optimizer == "sgd"
        if good:
            bench.finish(number, 0.9)
        else:
            bench.stop(number, 1, 0.1)
    late = [trial.params["optimizer"] for trial in bench.study.trials[15:]]
    assert late.count("sgd") > 10


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_is_resumed_draws_what_it_would_have_drawn(sampler: str, tmp_path: Path) -> None:
    text = SPACE.replace("sampler: random", f"sampler: {sampler}").replace("trials: 8", "trials: 16")

    def drawn(name: str, starts: int) -> list[str]:
        points = []
        for _ in range(starts):
            bench = Bench(SearchFolder(tmp_path / name), text, concurrent=1)
            for _ in range(16 // starts):
                number = bench.start().number
                points.append(str(bench.study.trials[number].params))
                bench.finish(number, 0.1 + 0.05 * ("sgd" in points[-1]) + 0.01 * (number % 5))
        return points

    whole = drawn("whole", 1)
    assert drawn("resumed", 4) == whole
    assert len(set(whole)) == 16


def test_a_search_that_goes_on_draws_new_values(bench: Bench) -> None:
    for _ in range(4):
        bench.finish(bench.start().number)
    later = Bench(bench.folder, SPACE)
    for _ in range(3):
        later.finish(later.start().number)
    drawn = [str(trial.params) for trial in later.study.trials[1:]]
    assert len(drawn) == len(set(drawn)) == 6
