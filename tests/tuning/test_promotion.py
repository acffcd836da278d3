"""Promotion: trials pause at rungs, the best of them go on, and a kill at any moment changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.tuning.asha import make_asha
from segtune.tuning.failures import Failure, Fault
from segtune.tuning.promotion import Promotion, Rung, Standings, make_promotion, promotable
from segtune.tuning.scheduler import Decision
from segtune.tuning.stopping import Cause
from segtune.tuning.study import NOTE, PAUSED
from tests.epochs import epoch_result
from tests.tuning.bench import Bench
from tests.tuning.promoted import BUDGETS, DRAWN, EPOCHS, PLANNED, SPACE, KilledError, Search

LATE = partial(make_promotion, late_baseline=True)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("promotion") / "space.yaml"
    path.write_text(SPACE)
    return load_space(path)


def standings(*rungs: Rung) -> Standings:
    return Standings(3, rungs)


def after(epochs: int, scores: Mapping[int, float], paused: set[int]) -> Rung:
    return Rung(epochs, dict(scores), paused)


# Which paused trial goes on


@pytest.mark.parametrize(
    ("rungs", "wanted"),
    [
        ([after(3, {1: 0.5, 2: 0.6}, {1, 2})], None),  # of two, none is in the best third
        ([after(3, {1: 0.5, 2: 0.6, 3: 0.4}, {1, 2, 3})], 2),
        ([after(3, {1: 0.5, 2: 0.6, 3: 0.4}, {1, 3})], None),  # the best one has gone on
        ([after(3, {1: 0.5, 2: 0.5, 3: 0.5}, {2, 3, 1})], 1),  # the earlier one of equals
        ([after(3, dict.fromkeys(range(6), 0.5) | {6: 0.9}, {6}), after(9, {0: 0.1, 1: 0.2, 2: 0.3}, {2})], 2),
        ([after(3, dict.fromkeys(range(6), 0.5) | {6: 0.9}, {6}), after(9, {0: 0.1, 1: 0.2}, {1})], 6),
    ],
    ids=["two", "best of three", "gone on", "equals", "highest rung first", "lower rung"],
)
def test_the_best_third_of_the_highest_rung_goes_on(rungs: list[Rung], wanted: int | None) -> None:
    assert promotable(standings(*rungs)) == wanted


def test_at_the_very_end_the_best_of_each_rung_goes_on() -> None:
    compared = Promotion([1, 3], 3, trials=3)
    for number, score in ((1, 0.5), (2, 0.6)):
        compared.add(number, {})
        assert compared.decide(number, epoch_result(1, score, epochs=9)) is Decision.PAUSE
    assert compared.promotable(last=False) is None
    assert compared.promotable(last=True) == 2


def test_at_the_very_end_one_trial_goes_on_however_good_the_baseline_is() -> None:
    compared = Promotion([1, 3], 3, trials=3)
    for number, score in ((0, 0.9), (1, 0.5), (2, 0.6)):
        compared.add(number, {})
        compared.decide(number, epoch_result(1, score, epochs=9))
    assert compared.promotable(last=False) is None
    assert compared.promotable(last=True) == 2
    assert compared.hopeless() == [1]


def test_a_rung_keeps_few_paused_trials_however_many_are_to_come() -> None:
    compared, most = Promotion([1, 3], 3, trials=1000), 0
    for number in range(1, 100):
        compared.add(number, {})
        score = number * 37 % 100 / 100  # all different
        if compared.decide(number, epoch_result(1, score, epochs=9)) is Decision.STOP:
            compared.ended(number, None)
        for beyond in compared.hopeless():
            compared.ended(beyond, None)
        while (best := compared.promotable(last=False)) is not None:
            compared.add(best, {})
            compared.ended(best, None)
        most = max(most, len(compared.paused))
    assert most == 10
    assert compared.hopeless() == []


# Whole searches


def test_most_trials_end_at_the_first_rung_and_the_best_go_on(space: Space) -> None:
    search = Search(space)
    search.run()
    done = {number: search.done(number) for number in range(10)}
    assert done[0] == EPOCHS  # the baseline
    assert sorted(done.values()) == [1] * 4 + [3] * 2 + [9] * 4
    at_the_rung = sorted(range(10), key=lambda number: search.study.get_trials()[number].intermediate_values[1])
    assert {number for number, epochs in done.items() if epochs == 1} == set(at_the_rung[:4])
    assert set(search.states()) == {"COMPLETE", "PRUNED"}


def test_a_paused_trial_goes_on_where_it_was(space: Space) -> None:
    search = Search(space)
    search.run()
    assert len(search.begun) == 14  # four of the ten came back
    assert len(search.trained) == len(set(search.trained))
    # A trial that would be the next one does not pause.
    assert all(one != other for one, other in pairwise(search.begun))


def test_a_search_says_why_a_trial_was_stopped(space: Space) -> None:
    search = Search(space)
    search.run()
    notes = [t.user_attrs.get(NOTE) for t in search.study.get_trials() if t.state is TrialState.PRUNED]
    assert all(note.startswith(("after epoch 1 not among", "after epoch 3 not among")) for note in notes)
    assert "after epoch 3 not among the best third of 6 trials" in notes


def test_a_late_baseline_pauses_and_is_finished_in_the_end(space: Space) -> None:
    search = Search(space, LATE)
    search.run()
    assert search.trained[1][0] == 1  # after the baseline's first epoch
    assert search.states()[0] == "COMPLETE"
    assert search.study.get_trials()[0].user_attrs[PAUSED] is None


def test_more_trials_are_compared_with_those_that_were_stopped(space: Space) -> None:
    search = Search(space.with_search({"trials": 6}))
    search.run()
    before = search.states()
    assert not search.paused()
    search.space = space
    search.run()
    assert search.states()[:6] == before
    assert [search.done(number) for number in (6, 7)] == [EPOCHS, 1]  # the best of all, and a poor one
    assert len(search.states()) == 10
    assert not search.paused()


@pytest.fixture(
    scope="module",
    params=[
        (SPACE, make_promotion, ()),
        (SPACE, LATE, ()),
        (BUDGETS, make_promotion, ()),
        (DRAWN, make_promotion, PLANNED),
    ],
    ids=["exempt baseline", "late baseline", "searched budget", "TPE, portfolio and prior"],
)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search that nothing interrupted."""
    text, compared, planned = request.param
    path = tmp_path_factory.mktemp("whole") / "space.yaml"
    path.write_text(text)
    search = Search(load_space(path), compared, planned)
    search.run()
    return search


def test_a_search_killed_before_any_write_goes_on_as_if_nothing_was(whole: Search) -> None:
    for moment in range(1, whole.storage.writes + 1):
        search = Search(whole.space, whole.compared, whole.planned)
        search.storage.kill_at = moment
        try:
            search.run()
        except KilledError:
            search.run()
        assert search.history() == whole.history(), f"killed before write {moment}"


def test_a_search_interrupted_after_any_epoch_goes_on_all_the_same(whole: Search) -> None:
    for moment in range(1, len(whole.trained) + 1):
        search = Search(whole.space, whole.compared, whole.planned)
        left = iter(range(moment - 1, -1, -1))
        search.run(lambda searcher, left=left: next(left, 1) == 0)
        search.run()
        assert search.history() == whole.history(), f"interrupted after epoch {moment}"


def test_paused_trials_stay_paused_when_the_search_is_interrupted(space: Space) -> None:
    search = Search(space)
    search.run(lambda searcher: len(searcher.study.get_trials()) == 7)
    before = search.paused()
    assert before
    begun = len(search.begun)
    search.run(lambda searcher: True)
    assert len(search.begun) == begun + 1
    assert search.begun[-1] == 6  # the one that was interrupted, and none that was paused
    assert set(search.paused()) >= set(before) - {6}


def test_a_search_that_a_former_release_started_goes_on(space: Space) -> None:
    search = Search(space, make_asha)
    search.run(lambda searcher: search.trained[-1][0] > 4 and search.trained[-1][2] == 2)
    states = search.states()
    assert "PRUNED" in states
    assert states[-1] == "WAITING"
    search.compared = make_promotion
    search.run()
    assert search.states()[: len(states) - 1] == states[:-1]
    assert search.begun[len(states)] == len(states) - 1  # the interrupted one comes first
    assert set(search.states()) == {"COMPLETE", "PRUNED"}
    assert len(search.states()) == 10


def test_without_a_scheduler_what_is_paused_goes_on(space: Space) -> None:
    search = Search(space)
    search.run(lambda searcher: len(searcher.study.get_trials()) == 6)
    paused = search.paused()
    search.compared = lambda space, study: None
    search.run()
    assert paused
    assert all(search.done(number) == EPOCHS for number in (*paused, *range(6, 10)))


# Several workers


def bench_of(folder: Path, **search: Any) -> Bench:
    more = "".join(f", {name}: {value}" for name, value in search.items())
    text = SPACE.replace("trials: 10", f"trials: 10{more}")
    return Bench(SearchFolder(folder), text, concurrent=3, compared=make_promotion)


def test_a_slot_goes_to_interrupted_then_promoted_then_new_trials(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s")
    assert [bench.start().number for _ in range(3)] == [0, 1, 2]
    bench.report(0, 1, 0.1, epochs=9)
    assert bench.report(1, 1, 0.6, epochs=9) is Decision.PAUSE
    bench.searcher.ended(1)
    assert bench.start().number == 3
    assert bench.report(2, 1, 0.5, epochs=9) is Decision.PAUSE  # now 1 is the best of three
    bench.searcher.ended(2)
    bench.lose(3)  # before its first epoch
    assert [bench.start().number for _ in range(2)] == [3, 1]
    bench.lose(1)
    assert bench.start().number == 1  # it had gone on, and is not compared again
    assert [trial.status for trial in bench.results().trials()] == ["running", "running", "paused", "running"]


def test_a_trial_whose_process_dies_as_it_pauses_stays_paused(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s")
    for _ in range(2):
        bench.start()
    assert bench.report(1, 1, 0.6, epochs=9) is Decision.PAUSE
    bench.lose(1)
    assert bench.start().number == 2
    assert [trial.status for trial in bench.results().trials()] == ["running", "paused", "running"]


def test_a_trial_beyond_hope_is_stopped_before_the_end(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s")
    bench.start()
    bench.report(0, 1, 0.9, epochs=9)
    decisions = []
    for number in range(1, 5):
        bench.start()
        decisions.append(bench.report(number, 1, 0.8 - 0.1 * number, epochs=9))
        bench.searcher.ended(number)
    # At most three of ten go on, and three are better than the fourth.
    assert decisions == [Decision.PAUSE] * 2 + [Decision.STOP] * 2
    assert bench.states() == ["RUNNING", "WAITING", "WAITING", "PRUNED", "PRUNED"]


def test_the_worst_paused_trial_makes_room_for_the_others(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s")
    bench.start()
    for number, score in ((1, 0.3), (2, 0.2)):
        bench.start()
        assert bench.report(number, 1, score, epochs=9) is Decision.PAUSE
        bench.searcher.ended(number)
    assert bench.searcher.give_up_worst("no room")
    assert [(trial.status, trial.note) for trial in bench.results().trials()[1:]] == [
        ("paused", None),
        ("stopped", "no room"),
    ]
    assert bench.searcher.give_up_worst("no room")
    assert not bench.searcher.give_up_worst("no room")  # the baseline runs, and is never given up


def test_a_diverged_trial_leaves_the_others_waiting_at_their_rung(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s")
    for _ in range(3):
        bench.start()
    for number in (1, 2):
        bench.report(number, 1, 0.5, epochs=9)
        bench.searcher.ended(number)
    bench.searcher.ended(0, Failure("the loss became NaN", Fault.DIVERGED))
    assert bench.start().number == 3


def test_patience_counts_paused_trials(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s", patience=2)

    def tried(number: int, score: float) -> None:
        assert bench.start().number == number
        bench.report(number, 1, score, epochs=9)
        bench.searcher.ended(number)

    bench.start()
    bench.report(0, 1, 0.9, epochs=9)
    for number, score in ((1, 0.8), (2, 0.1), (3, 0.1)):
        tried(number, score)
    assert bench.rules.without_improvement() == 2
    assert bench.waits()
    for epoch in range(2, 10):
        bench.report(0, epoch, 0.9, epochs=9)
    bench.searcher.ended(0)  # it is better than all that ended before
    tried(4, 0.1)
    tried(5, 0.1)
    assert bench.start().number == 1  # the second of six; it is the only one left, and goes on at the next rung, too
    assert [bench.report(1, epoch, 0.8, epochs=9) for epoch in range(2, 10)] == [Decision.CONTINUE] * 8
    bench.searcher.ended(1)
    assert bench.over()
    assert bench.states() == ["COMPLETE"] * 2 + ["PRUNED"] * 4
    assert bench.searcher.early_end().cause is Cause.PATIENCE


def test_a_pause_counts_when_it_began_and_not_when_its_trial_was_started(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s", patience=1)
    for _ in range(3):
        bench.start()
    for number, score in ((2, 0.3), (1, 0.9)):  # 1 was started first, and pauses last
        assert bench.report(number, 1, score, epochs=9) is Decision.PAUSE
        bench.searcher.ended(number)
    assert bench.rules.without_improvement() == 0


def test_a_trial_that_goes_on_has_no_reason_of_a_stop(tmp_path: Path) -> None:
    """A search was killed as it stopped the trial, and then got more trials."""
    bench = bench_of(tmp_path / "s")
    for number, score in ((1, 0.6), (2, 0.5)):
        while number not in bench.searcher.live:
            bench.start()
        bench.report(number, 1, score, epochs=9)
        if number == 1:
            bench.searcher.ended(1)
            bench.study._storage.set_trial_user_attr(bench.study.get_trials()[1]._trial_id, NOTE, "poor")
    bench.report(0, 1, 0.1, epochs=9)
    assert bench.results().trials()[1].note == "poor"
    bench.searcher.ended(2)
    assert bench.start().number == 1
    assert bench.results().trials()[1].note is None


def test_a_trial_that_dies_as_it_pauses_is_neither_repeated_nor_failed(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "s", retries=0)
    for _ in range(2):
        bench.start()
    assert bench.report(1, 1, 0.6, epochs=9) is Decision.PAUSE
    bench.lose(1)
    assert bench.results().trials()[1].status == "paused"
    assert (bench.repeats, bench.ends) == ([], [1])
