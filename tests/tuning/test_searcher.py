"""The study's side of a search, driven as Ray Tune drives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from segtune.files.folders import SearchFolder
from segtune.training.resolve import anchored
from segtune.tuning.asha import OBJECTIVE
from segtune.tuning.failures import LOST
from segtune.tuning.study import same_data, settle
from tests.tuning.bench import SPACE, Bench


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


def test_the_study_is_named_after_the_search(bench: Bench) -> None:
    bench.start("a")
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{bench.folder.study_db}")
    assert loaded.direction.name == "MAXIMIZE"


def test_other_data_is_noticed(bench: Bench) -> None:
    assert same_data(bench.study, "abc")
    assert same_data(bench.study, "abc")
    assert not same_data(bench.study, "abd")
