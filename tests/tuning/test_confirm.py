"""The winner is confirmed: who trains again, what is kept, what goes on, and what the search never learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.report.confirmation import confirmation_results
from segtune.report.tables import state_of
from segtune.report.text import summary
from segtune.trials import ranked
from segtune.tuning.confirm import Asked
from segtune.tuning.failures import Failure, Fault
from tests.tuning.confirming import Data, Searched, Trains
from tests.tuning.searched import state
from tests.tuning.searches import rows

# The search's best trial, 2, owes its score to chance: trial 1 is better in truth.
VALUES, SKILLS = [0.70, 0.80, 0.90, 0.60], {0: 0.70, 1: 0.85, 2: 0.80, 3: 0.90}
MEDIAN = "confirm_0001_s1"  # of trial 1
SIX = [f"confirm_{trial:04d}_s{seed}" for seed in (1, 2) for trial in (0, 2, 1)]


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
    lines = [line for line in state_of(found, 0.0) if isinstance(line, str)]
    assert "confirmation: 6 of 6 runs with fresh seeds done" in lines
    assert f"  {result.sentence}" in lines


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


def test_a_killed_confirmation_ends_as_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searched(tmp_path / "s", VALUES)
    update = "segtune.tuning.retention.Retention._keep_winner"

    def killed(*_: object) -> None:
        if search.confirmation.result:  # the result is written, and the model is not
            raise KeyboardInterrupt

    search.confirm(Trains(SKILLS, interrupt_after=0))
    with monkeypatch.context() as patch:
        patch.setattr(update, killed)
        with pytest.raises(KeyboardInterrupt):
            search.confirm(Trains(SKILLS))
    assert search.model == "2"
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == []
    assert search.model == MEDIAN


def test_models_and_states_that_nobody_needs_are_deleted(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    result, folder = search.confirmation.result, search.bench.folder.path
    assert result
    kept = {one.run for one in result.configurations} | {"confirm_0001_s1", "confirm_0001_s2"}
    assert {path.parent.name for path in folder.glob("confirm_*/best")} == kept
    assert not list(folder.glob("confirm_*/state.pt"))


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


@pytest.mark.parametrize(("left", "trials", "seeds"), [(20.0, (0, 2, 1), 2), (14.0, (0, 2), 2), (9.0, None, 0)])
def test_a_short_time_confirms_fewer_trials_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, trials: tuple[int, ...] | None, seeds: int
) -> None:
    search = Searched(tmp_path / "s", VALUES, "time_budget: 1h, confirm: {top: 2, seeds: 2}")
    monkeypatch.setattr(search.bench.rules, "left", lambda: left)  # every run takes 3 s
    search.confirm(Trains(SKILLS))
    if trials is None:
        assert not search.bench.folder.confirmation.exists()
        assert "the winner is not confirmed: that takes about 12 s, and 9.0 s of the time budget" in search.said[-1]
    else:
        assert (search.confirmation.trials, search.confirmation.seeds) == (trials, seeds)
    search.confirm(Trains(SKILLS), Asked(alone=True))  # which takes its time
    assert search.confirmation.trials == (0, 2, 1)


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


def test_tiles_of_one_scene_are_drawn_together(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES, r"confirm: {top: 2, seeds: 2, group: 'scene_(\d+)'}")
    search.confirm(Trains(SKILLS))
    result = search.confirmation.result
    assert result
    assert (result.tiles, result.groups) == (12, 6)


def test_a_damaged_confirmation_is_set_aside_and_the_runs_are_used_again(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    found, path = search.confirmation, search.bench.folder.confirmation
    path.write_text(json.dumps({"top": "many"}))
    assert any("damaged, not a confirmation" in line for line in state(search.bench).remarks)
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == []
    assert "moved to" in search.said[-1]
    assert search.confirmation == found


def test_damaged_counts_of_a_run_name_what_to_delete(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    run = search.bench.folder.repeat(2, 1)
    run.tiles.write_bytes(b"x")
    with pytest.raises(InputError, match=r"tiles\.npz: damaged.*; delete .*confirm_0002_s1, and .* trains it again"):
        search.confirm(Trains(SKILLS))
