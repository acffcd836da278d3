"""The searcher: which trial is next, how it ended, and when the search is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from segtune.files.folders import SearchFolder
from segtune.training.resolve import anchored
from segtune.tuning.failures import LOST
from segtune.tuning.study import same_data, settle
from tests.tuning.bench import SPACE, Bench


def test_the_first_trial_is_the_baseline_and_lies_outside_this_space(bench: Bench) -> None:
    start = bench.start()
    assert start.number == 0
    assert start.config.encoder == "efficientnet-b0"  # RunConfig's default
    assert start.config.batch_size == 4
    assert bench.study.trials[0].params == {}


def test_a_baseline_inside_the_space_is_told_to_the_sampler(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE + "baseline: {encoder: resnet18}\n")
    bench.start()
    assert bench.study.trials[0].params == {
        "encoder": "resnet18",
        "optimizer": "adamw",
        "optimizer.adamw.weight_decay": 1e-4,
    }


def test_only_a_trial_that_used_its_budget_is_complete(bench: Bench) -> None:
    bench.start()
    bench.finish(0, 0.7)
    assert bench.study.trials[0].state is TrialState.COMPLETE
    assert bench.study.trials[0].value == 0.7


def test_a_stopped_trial_is_pruned_with_all_its_values(bench: Bench) -> None:
    bench.start()
    bench.report(0, 1, 0.2)
    bench.stop(0, 2, 0.3)
    assert bench.study.trials[0].state is TrialState.PRUNED
    assert bench.study.trials[0].intermediate_values == {1: 0.2, 2: 0.3}


def test_an_interrupted_trial_comes_back_with_number_settings_and_values(bench: Bench) -> None:
    bench.start()
    bench.finish(0)
    before = bench.start()
    bench.report(1, 1, 0.25)
    bench.searcher.interrupt()
    bench.searcher.ended(1)
    assert bench.states() == ["COMPLETE", "WAITING"]

    later = Bench(bench.folder, SPACE)
    again = later.start()
    assert replace(again, asked=before.asked) == before
    later.finish(1, 0.5)
    assert later.states() == ["COMPLETE", "COMPLETE"]
    assert later.study.trials[1].intermediate_values[1] == 0.25


def test_a_trial_goes_on_where_the_data_are_now(bench: Bench) -> None:
    bench.start()
    before = bench.start().config.settings()
    bench.report(1, 1, 0.25)
    settle(bench.study, True, LOST)
    bench.close()
    moved = bench.folder.path.rename(bench.folder.path.with_name("moved"))
    later = Bench(SearchFolder(moved), "dataset: elsewhere\n" + SPACE)
    settings = {start.number: start.config.settings() for start in (later.start(), later.start())}
    assert settings[1] == before | {"dataset": "elsewhere"}


def test_a_trial_finds_its_initial_weights_after_the_search_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a/model.pt", "b/model.pt", "b/other.pt")
    space = f"encoder_weights: [none, {', '.join(names)}], lr: {{low: 1e-4, high: 1e-2}}"
    text = f"baseline: {{encoder_weights: none}}\nspace: {{{space}}}\nsearch: {{trials: 20, sampler: random}}\n"
    for name in names:
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).touch()

    def started(where: Path) -> dict[int, str]:
        monkeypatch.chdir(where)
        bench = Bench(SearchFolder(where / "search"), text, concurrent=20, resolve=anchored)
        weights = {}
        for _ in range(20):
            start = bench.start()
            weights[start.number] = start.config.encoder_weights
        settle(bench.study, True, LOST)
        bench.close()
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
    bench.start()
    bench.start()
    assert bench.states() == ["RUNNING", "RUNNING"]
    settle(bench.study, True, LOST)
    assert bench.states() == ["WAITING", "WAITING"]


def test_trials_that_ray_lost_count_as_failed(bench: Bench) -> None:
    bench.start()
    settle(bench.study, False, LOST)
    assert bench.states() == ["FAIL"]


def test_nothing_is_drawn_before_there_is_room(bench: Bench) -> None:
    bench.start()
    bench.start()
    assert bench.waits()
    bench.finish(0)
    assert bench.searcher.next_trial()


def interrupt(bench: Bench) -> None:
    bench.searcher.interrupt()


def use_up_the_time(bench: Bench) -> None:
    bench.rules.over = lambda: True


def fill_the_disk(bench: Bench) -> None:
    bench.searcher.halt("disk_gb: too large")


def lose_the_study(bench: Bench) -> None:
    def lost(**named: Any) -> None:
        raise StorageInternalError("disk I/O error")

    bench.study.get_trials = lost


@pytest.mark.parametrize("end", [interrupt, use_up_the_time, fill_the_disk, lose_the_study])
@pytest.mark.parametrize("ended", [0, 1])
def test_a_search_that_ends_while_no_trial_lives_says_so(bench: Bench, end: Any, ended: int) -> None:
    # Ray asks for the next trial again and again while none lives, and looks at nothing else.
    for _ in range(ended):
        bench.finish(bench.start().number)
    end(bench)
    assert bench.over()
    assert bench.searcher.interrupted


def test_a_search_that_ends_while_a_trial_lives_waits_for_it(bench: Bench) -> None:
    bench.start()
    bench.searcher.interrupt()
    assert bench.waits()
    bench.searcher.ended(0)
    assert bench.over()
    assert bench.states() == ["WAITING"]


def test_as_many_trials_as_asked_for(bench: Bench) -> None:
    for _ in range(8):
        bench.finish(bench.start().number)
    assert bench.over()
    assert len(bench.study.trials) == 8
    assert bench.ends == list(range(8))


def test_the_study_is_named_after_the_search(bench: Bench) -> None:
    bench.start()
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{bench.folder.study_db}")
    assert loaded.direction.name == "MAXIMIZE"


def test_other_data_is_noticed(bench: Bench) -> None:
    assert same_data(bench.study, "abc")
    assert same_data(bench.study, "abc")
    assert not same_data(bench.study, "abd")
