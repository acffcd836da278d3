"""What earlier searches teach a new one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import TrialState

from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.tuning.promotion import make_promotion
from segtune.tuning.recovery import check_drawn_from
from segtune.tuning.scheduler import Decision
from segtune.tuning.study import same_data, settle
from segtune.tuning.warm_start import check_earlier, tell_earlier
from tests.tuning.bench import SPACE, Bench

GRID = """
run: {epochs: 3, model: unet}
space: {lr: [1e-3, 1e-2], encoder: [resnet18, mobilenet_v2]}
baseline: {lr: 1e-2, encoder: resnet18}
search: {sampler: grid}
"""


def with_sampler(sampler: str, folder: Path) -> Space:
    path = folder / "space.yaml"
    path.write_text(GRID.replace("sampler: grid", f"sampler: {sampler}"))
    return load_space(path)


@pytest.fixture
def earlier(tmp_path: Path) -> Bench:
    """Five ended trials: the baseline outside the space, three finished, one stopped; and one that runs."""
    bench = Bench(SearchFolder(tmp_path / "earlier"), SPACE, concurrent=9)
    same_data(bench.study, "abc")
    for number in range(4):
        bench.finish(bench.start().number, 0.5 + number / 10)
    bench.start()
    bench.stop(4, 1, 0.2)
    bench.start()
    return bench


def test_trials_inside_the_new_space_are_told_with_values_and_marked(earlier: Bench, tmp_path: Path) -> None:
    later = Bench(SearchFolder(tmp_path / "later"), SPACE)
    (line,) = tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    assert line == f"{earlier.folder.path}: 4 of its 5 ended trials lie in this space, and teach the sampler"
    told = later.study.trials[1:]  # after the baseline, which waits
    assert [trial.params for trial in told] == [trial.params for trial in earlier.study.trials[1:5]]
    assert [trial.intermediate_values for trial in told] == [
        trial.intermediate_values for trial in earlier.study.trials[1:5]
    ]
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert told[0].user_attrs["warm_start"] == f"{earlier.folder.path} #1"


def test_a_paused_trial_teaches_what_a_stopped_one_does(tmp_path: Path) -> None:
    text = SPACE.replace("epochs: 3", "epochs: 9")
    earlier = Bench(SearchFolder(tmp_path / "earlier"), text, concurrent=9, compared=make_promotion)
    earlier.start()
    for score in (0.4, 0.5):
        number = earlier.start().number
        for epoch in (1, 2, 3):
            decision = earlier.report(number, epoch, score, epochs=9)
        assert decision is Decision.PAUSE
        earlier.searcher.ended(number)
    later = Bench(SearchFolder(tmp_path / "later"), text)
    (line,) = tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    assert line == f"{earlier.folder.path}: 2 of its 2 ended or paused trials lie in this space, and teach the sampler"
    told = later.study.trials[1:]
    assert [(trial.state, trial.value) for trial in told] == [(TrialState.PRUNED, 0.4), (TrialState.PRUNED, 0.5)]
    assert later.start().number == 0
    assert later.start().number == 3  # no paused trial of this search


def test_they_are_no_trials_of_the_new_search(earlier: Bench, tmp_path: Path) -> None:
    later = Bench(SearchFolder(tmp_path / "later"), SPACE, concurrent=9)
    tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    numbers = []
    for _ in range(8):
        numbers.append(later.start().number)
        later.finish(numbers[-1], 0.1)
    assert numbers == [0, 5, 6, 7, 8, 9, 10, 11]
    assert later.over()
    trials = later.results().trials()
    assert [trial.number for trial in trials] == numbers
    assert later.rules.without_improvement() == 7  # 0.1 each: the earlier 0.8 is none of this search's


def test_they_are_told_once_however_often_the_search_starts(earlier: Bench, tmp_path: Path) -> None:
    for _ in range(2):
        later = Bench(SearchFolder(tmp_path / "later"), SPACE)
        tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    assert len(later.study.trials) == 5


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[resnet18, mobilenet_v2]", "[resnet18]", None),  # a part of them
        ("batch_size: 4", "batch_size: 8", 0),  # fixed otherwise
        ("epochs: 3", "epochs: 4", 0),  # another schedule
        ("low: 0.8, high: 0.99", "low: 0.98, high: 0.99", None),
    ],
)
def test_only_what_lies_in_the_new_space_counts(
    earlier: Bench, tmp_path: Path, old: str, new: str, told: int | None
) -> None:
    later = Bench(SearchFolder(tmp_path / "later"), SPACE.replace(old, new))
    tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    found = later.study.trials[1:]
    assert len(found) == told if told is not None else len(found) < 4


def test_other_data_is_refused_unless_it_is_said_to_be_alike(earlier: Bench, tmp_path: Path) -> None:
    path, space = earlier.folder.path, with_sampler("tpe", tmp_path)
    check_earlier([path], space, "abc", anyway=False)
    check_earlier([path], space, "xyz", anyway=True)
    with pytest.raises(InputError, match=f"--warm-start {path}: was searched on other data; --warm-start-anyway"):
        check_earlier([path], space, "xyz", anyway=False)
    with pytest.raises(InputError, match=r"--warm-start .*nowhere: no search has started here"):
        check_earlier([tmp_path / "nowhere"], space, "abc", anyway=True)


def test_a_folder_that_is_named_twice_or_otherwise_teaches_once(earlier: Bench, tmp_path: Path) -> None:
    path = earlier.folder.path
    (tmp_path / "link").symlink_to(path)
    shutil.copytree(path, tmp_path / "copy")
    later = Bench(SearchFolder(tmp_path / "later"), SPACE)
    lines = tell_earlier(later.study, later.space, later.space.baseline, [path, path / ".", tmp_path / "link"])
    assert lines == [f"{path}: 4 of its 5 ended trials lie in this space, and teach the sampler"]
    for name in ("copy", "link"):
        tell_earlier(later.study, later.space, later.space.baseline, [tmp_path / name])
    tell_earlier(earlier.study, earlier.space, earlier.space.baseline, [tmp_path / "copy"])
    assert (len(later.study.trials), len(earlier.study.trials)) == (5, 6)


def test_a_search_does_not_teach_itself(earlier: Bench, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(earlier.folder.path)
    space = with_sampler("tpe", tmp_path)
    with pytest.raises(InputError, match=f"^--warm-start {tmp_path}/link: is this search itself") as caught:
        check_earlier([tmp_path / "link"], space, "abc", False, earlier.folder)
    assert len(caught.value.mistakes) == 1


def test_a_loss_that_an_earlier_release_spelt_otherwise_is_the_same_loss(tmp_path: Path) -> None:
    space = "space: {loss: [jaccard, %s], lr: {low: 1e-4, high: 1e-2}}"
    text = f"run: {{epochs: 3, model: unet}}\n{space}\nsearch: {{trials: 5}}\n"
    old = Bench(SearchFolder(tmp_path / "old"), text % "dice+bce", concurrent=9)
    for _ in range(5):
        old.start()
    for number in range(4):
        old.finish(number, 0.5 + number / 10)
    old.close()
    with closing(sqlite3.connect(old.folder.study_db)) as database, database:
        for table, column in (("trial_params", "distribution_json"), ("trial_user_attributes", "value_json")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, 'dice+bce', 'bce + dice')")
    later = Bench(SearchFolder(tmp_path / "later"), text % "bce+dice")
    tell_earlier(later.study, later.space, later.space.baseline, [old.folder.path])
    assert [trial.params["loss"] for trial in later.study.trials[1:]].count("dice+bce") > 0
    assert len(later.study.trials) == 4  # the baseline lies outside the space
    again = Bench(old.folder, (text % "bce+dice").replace("trials: 5", "trials: 8"))
    check_drawn_from(again.study, again.space, again.folder)
    settle(again.study, True, "")
    for _ in range(4):
        again.finish(again.start().number)
    assert not again.searcher.error
    losses = {trial.user_attrs["settings"]["loss"] for trial in again.study.trials}
    assert losses | {trial.params["loss"] for trial in again.study.trials if trial.params} == {
        "dice",
        "jaccard",
        "dice+bce",
    }


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_sampler_that_does_not_learn_is_refused(earlier: Bench, tmp_path: Path, sampler: str) -> None:
    space = with_sampler(sampler, tmp_path)
    with pytest.raises(
        InputError, match=f"^--warm-start: sampler {sampler} does not learn from trials, only tpe does$"
    ):
        check_earlier([earlier.folder.path], space, "abc", anyway=False)
    check_earlier([], space, "abc", anyway=False)


def test_a_grid_trains_the_points_that_an_earlier_search_trained(tmp_path: Path) -> None:
    benches = []
    for name in ("earlier", "later"):  # of which the later one was started when grids took told trials
        bench = Bench(SearchFolder(tmp_path / name), GRID, concurrent=9)
        tell_earlier(bench.study, bench.space, bench.space.baseline, [before.folder.path for before in benches])
        for _ in range(4):
            bench.finish(bench.start().number)
        assert bench.over()
        benches.append(bench)


def test_what_an_earlier_search_tried_is_tried_last(tmp_path: Path) -> None:
    text = GRID.replace("[resnet18, mobilenet_v2]", "[resnet18, mobilenet_v2, resnet34]").replace("grid", "tpe")
    earlier = Bench(SearchFolder(tmp_path / "earlier"), text)
    later = Bench(SearchFolder(tmp_path / "later"), text)
    for _ in range(3):
        earlier.finish(earlier.start().number, 0.9)
    tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    points = []
    while start := later.searcher.next_trial():
        points.append(later.study.trials[start.number].params)
        later.finish(start.number, 0.1)
    known = [trial.params for trial in earlier.study.trials]
    assert [point in known for point in points] == [True, False, False, False, True, True]  # the baseline comes first
    assert len({str(sorted(point.items())) for point in points}) == 6
