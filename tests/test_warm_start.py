"""What earlier searches teach a new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import SPACE, Bench
from optuna.trial import TrialState

from segtune.errors import InputError
from segtune.folders import SearchFolder
from segtune.space import Space, load_space
from segtune.tuning.results import Results
from segtune.tuning.study import same_data
from segtune.tuning.warm_start import check_earlier, tell_earlier

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
        bench.start(str(number))
        bench.finish(str(number), 0.5 + number / 10)
    bench.start("4")
    bench.report("4", 1, 0.2)
    bench.stopped.add("4")
    bench.searcher.on_trial_complete("4", {"epoch": 1, "epochs": 3})
    bench.start("5")
    return bench


def test_trials_inside_the_new_space_are_told_with_their_values_and_marked(earlier: Bench, tmp_path: Path) -> None:
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


def test_they_are_no_trials_of_the_new_search(earlier: Bench, tmp_path: Path) -> None:
    later = Bench(SearchFolder(tmp_path / "later"), SPACE, concurrent=9)
    tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    numbers = []
    for attempt in range(8):
        numbers.append(later.start(str(attempt))["number"])
        later.finish(str(attempt), 0.1)
    assert numbers == [0, 5, 6, 7, 8, 9, 10, 11]
    assert later.searcher.suggest("z") == "FINISHED"
    trials = Results(later.study, later.folder, later.space, "").trials()
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


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_what_learns_from_no_trial_is_not_to_be_taught(earlier: Bench, tmp_path: Path, sampler: str) -> None:
    space = with_sampler(sampler, tmp_path)
    with pytest.raises(InputError, match=f"^--warm-start: sampler {sampler} learns from no trial, only tpe does$"):
        check_earlier([earlier.folder.path], space, "abc", anyway=False)
    check_earlier([], space, "abc", anyway=False)


def test_a_grid_trains_the_points_that_an_earlier_search_trained(tmp_path: Path) -> None:
    benches = []
    for name in ("earlier", "later"):  # of which the later one was started when grids took told trials
        bench = Bench(SearchFolder(tmp_path / name), GRID, concurrent=9)
        tell_earlier(bench.study, bench.space, bench.space.baseline, [before.folder.path for before in benches])
        for number in range(4):
            bench.start(str(number))
            bench.finish(str(number))
        assert bench.searcher.suggest("z") == "FINISHED"
        benches.append(bench)
