"""How stopped trials teach the sampler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.tuning.failures import Fault
from segtune.tuning.promotion import make_promotion
from segtune.tuning.teaching import AsComplete, AsPruned, Lesson, TopRung
from tests.tuning.bench import SPACE, Bench


def shown(bench: Bench, lesson: Callable[[Space], Lesson]) -> dict[int, tuple[str, float | None]]:
    space = load_space(bench.folder.path / "space.yaml", search_overrides={"grace_period": 1})
    taught = lesson(space)(bench.study.get_trials())
    return {trial.number: (trial.state.name, trial.value) for trial in taught}


def test_the_three_ways_of_teaching(tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / "s"), SPACE.replace("epochs: 3,", "epochs: 9,"), concurrent=9)
    for number, values in enumerate([[0.5, 0.5, 0.9], [0.2], [0.4, 0.4, 0.4], [0.3], [0.1], [0.6], [0.2], []]):
        bench.start()
        if number in (1, 2, 3, 4, 6):
            bench.asha.chosen.add(number)
        for epoch, value in enumerate(values, start=1):
            bench.report(number, epoch, value, epochs=9)
        if number == 5:
            continue  # runs still
        if number == 7:
            bench.fail(number, "nan", Fault.DIVERGED)
            continue
        if number == 0:
            bench.report(0, 9, 0.95, epochs=9)
        bench.searcher.ended(number)
    diverged = ("COMPLETE", 0.0)
    pruned = shown(bench, AsPruned)
    assert pruned[0] == ("COMPLETE", 0.95)
    assert {pruned[number][0] for number in (1, 2, 3, 4, 6)} == {"PRUNED"}
    assert (pruned[5], pruned[7]) == (("RUNNING", None), diverged)
    complete = shown(bench, AsComplete)
    assert [complete[number][1] for number in (0, 1, 2, 3, 4, 6)] == [0.95, 0.2, 0.4, 0.3, 0.1, 0.2]
    assert (complete[5], complete[7]) == (("RUNNING", None), diverged)
    # Rungs 1, 3, 9: the third epoch is known of two trials, and of one that diverged; six would be enough.
    top = shown(bench, TopRung)
    assert [top[number] for number in range(8)] == [
        *(("COMPLETE", value) for value in (0.5, 0.2, 0.4, 0.3, 0.1, 0.6, 0.2)),
        diverged,
    ]


def test_a_paused_trial_teaches_as_one_that_was_stopped(tmp_path: Path) -> None:
    text = SPACE.replace("epochs: 3,", "epochs: 9,").replace("trials: 8,", "trials: 8, grace_period: 1,")
    bench = Bench(SearchFolder(tmp_path / "s"), text, concurrent=4, compared=make_promotion)
    for number in range(4):
        bench.start()
        if number in (1, 2):
            bench.report(number, 1, 0.2 * number, epochs=9)
            bench.searcher.ended(number)
    assert [trial.status for trial in bench.results().trials()] == ["running", "paused", "paused", "running"]
    pruned, complete, top = (shown(bench, lesson) for lesson in (AsPruned, AsComplete, TopRung))
    assert pruned == {0: ("RUNNING", None), 1: ("PRUNED", 0.2), 2: ("PRUNED", 0.4), 3: ("RUNNING", None)}
    assert complete == {0: ("RUNNING", None), 1: ("COMPLETE", 0.2), 2: ("COMPLETE", 0.4), 3: ("RUNNING", None)}
    assert top == complete
    bench.report(0, 1, 0.1, epochs=9)
    assert bench.start().number == 2
    bench.report(2, 2, 0.5, epochs=9)
    assert shown(bench, AsComplete)[2] == ("COMPLETE", 0.5)  # it goes on, and what it showed is known
