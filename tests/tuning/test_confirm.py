"""The winner is confirmed: who trains again, what is kept, what goes on, and what the search never learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segtune.confirmed import Look
from segtune.errors import DeviceMemoryError
from segtune.evaluation.intervals import Interval
from segtune.files.atomic import discard_folder
from segtune.report.confirmation import confirmation_results
from segtune.report.tables import state_of
from segtune.report.text import summary
from segtune.space.confirm import Confirm
from segtune.trials import ranked
from segtune.tuning.confirm import Asked
from segtune.tuning.confirm_looks import trials_search
from segtune.tuning.failures import Failure, Fault
from segtune.tuning.retention import Retention
from tests.tuning.bench import manifest
from tests.tuning.confirming import MEDIAN, SIX, SKILLS, VALUES, Data, Searched, Trains
from tests.tuning.searched import state
from tests.tuning.searches import rows

LOOK = Look("DATASET/test", 3, 1, 0.8, Interval(0.8, 0.7, 0.9), 0.6, None)


def test_the_best_mean_over_fresh_seeds_wins_everywhere(tmp_path: Path) -> None:
    search, backend = Searched(tmp_path / "s", VALUES), Trains(SKILLS)
    ended = search.confirm(backend)
    assert (ended.signal, ended.early) == (None, None)
    assert backend.trained == SIX
    result = search.confirmation.result
    assert result
    assert [one.trial for one in result.configurations] == [1, 2, 0]
    assert result.gained
    assert search.model == result.winner.run == MEDIAN
    assert result.winner.score == min(result.winner.scores)
    trials = search.results.trials()
    assert ranked(trials)[0].number == 1
    assert summary(trials)[0].startswith(f"winner: trial #1, mean miou {result.winner.mean:.4f} over fresh seeds")
    found = state(search.bench)
    assert ranked(found.trials)[0].number == 1
    for one in (ranked(found.trials)[0].confirmed, result.winner):
        assert one
        assert one.interval
        assert one.interval.low < one.mean == one.interval.value < one.interval.high
        assert one.deviation is not None
    assert [one.gain is None for one in result.configurations] == [False, False, True]  # the baseline's is the last
    lines = [line for line in state_of(found, 0.0) if isinstance(line, str)]
    assert "confirmation: 6 of 6 runs with fresh seeds done" in lines
    assert f"  {result.sentence}" in lines


def test_a_baseline_over_the_limits_cannot_win_and_the_sentence_says_so(tmp_path: Path) -> None:
    limited = "prefer: 'parameters < 2k', confirm: {top: 2, seeds: 2}"
    search = Searched(tmp_path / "s", VALUES, limited)
    baseline = search.bench.folder.trial(0).run_yaml
    replace(manifest(), parameters=5000).write(baseline)
    search.confirm(Trains({**SKILLS, 0: 0.95}))
    result = search.confirmation.result
    assert result
    assert [(one.trial, one.fits) for one in result.configurations] == [(1, True), (2, True), (0, False)]
    assert search.model == result.winner.run == MEDIAN
    assert ranked(search.results.trials())[0].number == 1
    said = "the baseline is over the limits, and the gain over it is -0."
    lines = [line for line in state_of(state(search.bench), 0.0) if isinstance(line, str)]
    assert any(said in line for line in lines)
    printed = confirmation_results(search.confirmation, search.results.trials())
    assert any(said in str(line) for line in printed)
    replace(manifest(), parameters=1000).write(baseline)  # as if the limits had changed
    assert ranked(search.bench.results().trials())[0].number == 2  # the best one of the search
    search.confirm(Trains({}))
    assert ranked(search.results.trials())[0].number == 0


def test_every_run_has_a_seed_of_its_own_and_all_else_of_its_trial(tmp_path: Path) -> None:
    search, backend = Searched(tmp_path / "s", VALUES), Trains(SKILLS)
    search.confirm(backend)
    trials = {trial.number: trial.settings for trial in search.results.trials()}
    for start in backend.starts:
        number, seed = int(start.path.name[8:12]), int(start.path.name[-1])
        expected = {**trials[number], "seed": trials[number]["seed"] + seed, "image_size": None, "threads": 1}
        assert {**start.config.settings(), "image_size": None, "threads": 1} == expected
        assert start.counts_tiles
    assert [
        (row["trial"], row["origin"], row["seed"], row["status"]) for row in rows(search.bench.folder.path)[4:]
    ] == [(str(trial), "confirm", str(42 + seed), "finished") for seed in (1, 2) for trial in (0, 2, 1)]


def test_the_study_never_learns_of_it(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    before = [(trial.state, trial.params, trial.values, trial.user_attrs) for trial in search.bench.study.trials]
    search.confirm(Trains(SKILLS))
    assert [
        (trial.state, trial.params, trial.values, trial.user_attrs) for trial in search.bench.study.trials
    ] == before


def test_an_interrupted_confirmation_goes_on_with_what_is_left(tmp_path: Path) -> None:
    search, first, second = Searched(tmp_path / "s", VALUES), Trains(SKILLS, interrupt_after=4), Trains(SKILLS)
    ended = search.confirm(first)
    assert ended.early
    assert ended.early.reason == "the test stops here"
    assert search.model == "2"  # nothing is confirmed yet
    assert search.confirmation.result is None
    search.confirm(second)
    assert first.trained + second.trained == SIX
    whole = Searched(tmp_path / "whole", VALUES)
    whole.confirm(Trains(SKILLS))
    assert search.confirmation == whole.confirmation


def test_states_are_deleted_and_models_stay_as_far_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Searched(tmp_path / "s", VALUES)
    folder = search.bench.folder.path

    def models() -> set[str]:
        return {path.parent.name for path in folder.glob("confirm_*/best")}

    search.confirm(Trains(SKILLS))
    assert models() == set(SIX)
    assert not list(folder.glob("confirm_*/state.pt"))
    monkeypatch.setattr(
        "segtune.tuning.retention.Retention.too_large", lambda _: "disk_gb: full" if len(models()) > 4 else None
    )
    search.confirm(Trains(SKILLS))
    result = search.confirmation.result
    assert result
    assert models() == {one.run for one in result.configurations} | {"confirm_0001_s1", "confirm_0001_s2"}


def more_seeds(search: Searched, seeds: int) -> None:
    search.bench.space = search.bench.space.with_search({"confirm": Confirm(2, seeds)})


@pytest.mark.parametrize("deleted", [False, True])
def test_another_median_has_its_model_or_a_line_says_that_it_is_gone(tmp_path: Path, deleted: bool) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    before = search.confirmation.result
    assert before
    other = next(one for one in before.configurations if one.trial == 2)
    more_seeds(search, 3)
    if deleted:
        for seed in (1, 2):
            discard_folder(search.bench.folder.repeat(2, seed).best)
    search.confirm(Trains({0: 0.1, 1: 0.1, 2: 0.98}))
    result = search.confirmation.result
    assert result
    assert result.winner.trial == 2
    assert result.winner.run not in (other.run, "confirm_0002_s3")
    assert (search.model == result.winner.run) is not deleted
    said = f"the best trial, #2, no longer has a model; to train it again, delete {search.bench.folder.path}"
    assert (
        any(f"{said}/{result.winner.run} and type run_search.py --confirm" in line for line in search.said) is deleted
    )


def test_a_result_counts_until_a_larger_confirmation_has_one(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    before = search.confirmation.result
    more_seeds(search, 3)
    ended = search.confirm(Trains(SKILLS, interrupt_after=1))
    assert ended.early
    assert search.confirmation.result == before
    assert ranked(search.results.trials())[0].number == 1
    assert search.model == MEDIAN
    found = state(search.bench)
    assert (found.waiting, found.over) == (2, False)
    search.confirm(Trains(SKILLS))
    assert search.confirmation.result != before


def test_a_failed_run_trains_again_without_its_folder_or_where_asked(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    failure = Failure("nan", Fault.DIVERGED)
    search.confirm(Trains(SKILLS, {"confirm_0001_s2": [failure], "confirm_0002_s2": [failure]}))
    search.bench.folder.repeat(2, 2).path.mkdir()
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == ["confirm_0001_s2"]
    assert search.confirmation.failed == {"confirm_0002_s2": "nan"}
    again = Trains(SKILLS)
    search.confirm(again, Asked(alone=True))
    assert again.trained == ["confirm_0002_s2"]
    assert search.confirmation.failed == {}


def test_a_failed_run_is_left_out_and_ends_nothing(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES, "confirm: {top: 2, seeds: 3}")
    reasons = {"confirm_0001_s2": [Failure("the loss became nan", Fault.DIVERGED)]}
    search.confirm(Trains(SKILLS, reasons))
    confirmation = search.confirmation
    assert confirmation.failed == {"confirm_0001_s2": "the loss became nan"}
    assert confirmation.result
    assert confirmation.result.winner.seeds == (1, 3)
    failed = [row["error"] for row in rows(search.bench.folder.path) if row["status"] == "failed"]
    assert failed == ["the loss became nan"]
    lines = confirmation_results(confirmation, search.results.trials())
    assert "failed: confirm_0001_s2: the loss became nan" in lines


def test_a_trial_with_too_few_runs_is_not_compared(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS, {"confirm_0001_s2": [Failure("nan", Fault.SETTINGS)]}))
    result = search.confirmation.result
    assert result
    assert [one.trial for one in result.configurations] == [2, 0]
    search = Searched(tmp_path / "t", VALUES)
    backend = Trains(SKILLS, {name: [Failure("nan", Fault.SETTINGS)] for name in SIX if name.endswith("s1")})
    search.confirm(backend)
    assert search.confirmation.result is None
    assert search.said[-1] == "the winner is not confirmed: too many runs failed"
    assert search.model == "2"


def test_a_lost_run_is_repeated_and_a_full_disk_ends_it_for_now(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    lost, full = Failure("the process died"), Failure("No space left", Fault.DISK)
    backend = Trains(SKILLS, {"confirm_0002_s1": [lost], "confirm_0001_s2": [full]})
    ended = search.confirm(backend)
    assert ended.early
    assert ended.early.reason == "No space left"
    assert backend.trained == SIX[:5]
    assert search.confirmation.failed == {}
    search.confirm(Trains(SKILLS, {"confirm_0001_s2": [lost, lost]}))
    assert search.confirmation.failed == {"confirm_0001_s2": "the process died"}


def test_a_better_trial_later_is_the_best_until_it_is_confirmed_as_well(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    search.add([0.95])
    results = search.bench.results()
    assert ranked(results.trials())[0].number == 4
    assert not confirmation_results(search.confirmation, results.trials())
    again = Trains(SKILLS | {4: 0.5})
    search.confirm(again)
    assert again.trained == ["confirm_0004_s1", "confirm_0004_s2"]
    result = search.confirmation.result
    assert result
    assert [one.trial for one in result.configurations] == [2, 0, 4]
    assert search.model == result.winner.run


def test_a_worse_trial_later_changes_nothing(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    search.add([0.75])
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == []
    assert search.model == MEDIAN


@pytest.mark.parametrize(("left", "trials", "seeds"), [(21.0, (0, 2, 1), 2), (20.0, (0, 2), 2), (13.0, None, 0)])
def test_a_short_time_confirms_fewer_trials_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, trials: tuple[int, ...] | None, seeds: int
) -> None:
    search = Searched(tmp_path / "s", VALUES, "time_budget: 1h, confirm: {top: 2, seeds: 2}")
    monkeypatch.setattr(search.bench.rules, "left", lambda: left)  # every run takes 3 s
    search.confirm(Trains(SKILLS))
    if trials is None:
        assert not search.bench.folder.confirmation.exists()
        assert (
            "the winner is not confirmed: that takes up to 14 s, and 13 s of the time budget are left"
            in search.said[-1]
        )
        assert search.said[-1].endswith(f"run_search.py --confirm {search.bench.folder.path} does it later")
    else:
        assert (search.confirmation.trials, search.confirmation.seeds) == (trials, seeds)
    search.confirm(Trains(SKILLS), Asked(alone=True))  # which takes its time
    assert search.confirmation.trials == (0, 2, 1)


def test_what_is_done_is_compared_when_the_time_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searched(tmp_path / "s", VALUES, "time_budget: 1h, confirm: {top: 2, seeds: 2}")
    backend = Trains(SKILLS)
    monkeypatch.setattr(search.bench.rules, "out_of_time", lambda: len(backend.trained) == 5)
    ended = search.confirm(backend)
    assert ended.early
    assert ended.early.reason.startswith(
        "the time budget is used up, and 1 run of the confirmation waits; run_search.py --confirm "
    )
    result = search.confirmation.result
    assert result
    assert [one.trial for one in result.configurations] == [2, 0]
    assert search.model == result.winner.run
    search.confirm(Trains(SKILLS), Asked(alone=True))
    assert search.model == MEDIAN


def test_a_search_without_it_or_without_a_second_one_is_left_alone(tmp_path: Path) -> None:
    off = Searched(tmp_path / "off", VALUES, "confirm: none")
    off.confirm(Trains({}))
    alone = Searched(tmp_path / "alone", [0.7])
    alone.confirm(Trains({}))
    assert alone.said == ["the winner is not confirmed: no trial beside the baseline learnt anything"]
    few = Searched(tmp_path / "few", VALUES)
    few.confirm(Trains({}), data=Data(1))
    assert few.said == ["the winner is not confirmed: an interval needs at least 2 validation tiles, and there is 1"]
    assert not any(search.bench.folder.confirmation.exists() for search in (off, alone, few))


@pytest.mark.parametrize(("tiles", "seconds"), [(1, 80.0), (2, 60.0)])
def test_no_time_is_kept_where_nothing_can_be_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles: int, seconds: float
) -> None:
    search = Searched(tmp_path / "s", VALUES, "time_budget: 80, confirm: auto")
    monkeypatch.setattr("segtune.tuning.confirm_looks.resolve", lambda config, _: config)
    assert trials_search(search.bench.space, Data(tiles)).trials_budget() == seconds  # type: ignore[arg-type]


def test_the_best_of_the_search_keeps_its_model(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES, "keep: 1, confirm: {top: 2, seeds: 2}")
    search.confirm(Trains(SKILLS))
    assert search.model == MEDIAN
    assert [run.path.name for run in search.bench.folder.trials() if run.best.is_dir()] == ["trial_0002"]
    search.add([0.85])  # now among the best two: the confirmation no longer counts
    results = search.bench.results()
    retention = Retention(results, search.bench.folder, search.bench.space.search)
    retention.update()
    assert ranked(results.trials())[0].number == 2
    assert search.model == "2"
    assert retention.without_model() is None


def test_test_tiles_are_not_looked_at_again_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searched(tmp_path / "s", VALUES)
    looked: list[str] = []

    def look(place: Path, *_: Any) -> Look:
        looked.append(str(place))
        return LOOK

    monkeypatch.setattr("segtune.tuning.confirm.test_place", lambda _: Path("DATASET/test"))
    monkeypatch.setattr("segtune.tuning.confirm.look_at", look)
    search.confirm(Trains(SKILLS))
    assert search.confirmation.tests == (LOOK,)
    search.bench.folder.confirmation.unlink()
    search.confirm(Trains(SKILLS))
    assert looked == ["DATASET/test"]
    assert search.confirmation.tests == (LOOK,)
    search.bench.folder.confirmation.unlink()
    search.confirm(Trains(SKILLS), Asked(alone=True, test_again=True))
    assert search.confirmation.tests == (LOOK, replace(LOOK, look=2))


def test_a_look_that_fails_leaves_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any) -> Look:
        raise DeviceMemoryError("memory is too small")

    monkeypatch.setattr("segtune.tuning.confirm.test_place", lambda _: Path("DATASET/test"))
    monkeypatch.setattr("segtune.tuning.confirm.look_at", look)
    search = Searched(tmp_path / "s", VALUES)
    assert search.confirm(Trains(SKILLS)).early is None
    assert search.said[-1] == "DATASET/test: the winner is not measured there: memory is too small"
    assert search.model == MEDIAN


def test_the_latency_and_the_time_of_each_run_are_kept(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    for number, run in enumerate(SIX):
        measured = replace(manifest(), latency=10.0 + number)
        measured.write(search.bench.folder.path / run / "run.yaml")
    search.confirm(Trains({}))
    result = search.confirmation.result
    assert result
    assert {one.trial: one.latencies for one in result.configurations} == {0: (10, 13), 2: (11, 14), 1: (12, 15)}
    assert all(len(one.times) == 2 for one in result.configurations)
