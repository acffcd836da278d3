"""What a search tries, in which order and why."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from segtune.files.folders import SearchFolder
from segtune.tuning.proposals import Planned
from segtune.tuning.study import ORIGIN, settle
from segtune.tuning.warm_start import tell_earlier
from tests.tuning.bench import SPACE, Bench

PRIOR = Planned("prior", {"encoder": "mobilenet_v2", "optimizer": "adamw", "optimizer.adamw.weight_decay": 0.01})
SGD = Planned("portfolio", {"encoder": "resnet18", "optimizer": "sgd", "optimizer.sgd.momentum": 0.9})
ADAMW = Planned("portfolio", {"encoder": "resnet18", "optimizer": "adamw", "optimizer.adamw.weight_decay": 1e-3})
PLANNED = (PRIOR, SGD, ADAMW)
WANTED = [dict(planned.point) for planned in PLANNED]


def started(folder: Path, planned: tuple[Planned, ...] = PLANNED, text: str = SPACE) -> Bench:
    return Bench(SearchFolder(folder), text, planned=planned)


def origins(bench: Bench) -> list[str | None]:
    return [trial.user_attrs.get(ORIGIN) for trial in bench.study.get_trials()]


def points(bench: Bench) -> list[dict[str, object]]:
    return [trial.params for trial in bench.study.get_trials()]


def test_planned_points_come_after_the_baseline_and_before_the_sampler(tmp_path: Path) -> None:
    bench = started(tmp_path / "s")
    for number in range(6):
        bench.start()
        bench.finish(number)
    assert points(bench)[1:4] == WANTED
    assert origins(bench) == ["baseline", "prior", "portfolio", "portfolio", "sampler", "sampler"]
    assert [trial.origin for trial in bench.results().trials()] == origins(bench)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_killed_search_goes_on_with_what_it_had_planned(tmp_path: Path, before: int) -> None:
    bench = started(tmp_path / "s")
    for _ in range(before):
        bench.searcher.ended(bench.start().number)  # as if interrupted at once: it waits
    bench.close()
    later = started(tmp_path / "s", ())  # another release, with another portfolio
    for number in range(5):
        later.start()
        later.finish(number)
    assert points(later)[1:4] == WANTED
    assert origins(later) == ["baseline", "prior", "portfolio", "portfolio", "sampler"]


def test_a_trial_that_goes_on_keeps_its_origin(tmp_path: Path) -> None:
    bench = started(tmp_path / "s")
    bench.start()
    bench.start()
    bench.report(1, 1, 0.3)
    settle(bench.study, True, "")
    bench.close()
    later = started(tmp_path / "s")
    assert [later.start().number, later.start().number] == [0, 1]
    assert origins(later) == ["baseline", "prior"]


def test_a_search_of_a_former_release_gets_no_planned_points(tmp_path: Path) -> None:
    bench = started(tmp_path / "s", ())
    for number in range(2):
        bench.start()
        bench.finish(number)
    bench.close()
    with closing(sqlite3.connect(bench.folder.study_db)) as database, database:  # what a former release did not write
        database.execute("DELETE FROM study_user_attributes WHERE key = 'planned'")
        database.execute("DELETE FROM trial_user_attributes WHERE key = 'origin'")
    later = started(tmp_path / "s")
    later.start()
    assert origins(later) == [None, None, "sampler"]
    assert [trial.origin for trial in later.results().trials()] == ["baseline", "sampler", "sampler"]


def test_points_that_were_tried_are_not_tried_again(tmp_path: Path) -> None:
    bench = started(tmp_path / "s", (SGD, SGD, ADAMW), SPACE + "baseline: {encoder: resnet18, weight_decay: 1e-3}\n")
    for number in range(3):
        bench.start()
        bench.finish(number)
    assert origins(bench) == ["baseline", "portfolio", "sampler"]


def test_what_a_warm_start_brought_is_not_tried_again(tmp_path: Path) -> None:
    earlier = started(tmp_path / "earlier", (SGD,))
    for number in range(2):
        earlier.start()
        earlier.finish(number)
    later = started(tmp_path / "later")
    tell_earlier(later.study, later.space, later.space.baseline, [earlier.folder.path])
    numbers = []
    for _ in range(4):
        numbers.append(later.start().number)
        later.finish(numbers[-1])
    assert numbers == [0, 2, 3, 4]  # 1 was told
    assert origins(later) == ["baseline", None, "prior", "portfolio", "sampler"]
    assert points(later)[3] == ADAMW.point


def test_planned_points_count_among_the_trials(tmp_path: Path) -> None:
    bench = started(tmp_path / "s", PLANNED, SPACE.replace("trials: 8", "trials: 2"))
    for number in range(2):
        bench.start()
        bench.finish(number)
    assert bench.over()
    assert origins(bench) == ["baseline", "prior"]


def test_points_of_a_grid_are_called_so(tmp_path: Path) -> None:
    text = "space: {encoder: [resnet18, resnet34]}\nsearch: {sampler: grid}\nrun: {epochs: 3}\n"
    bench = started(tmp_path / "s", (), text)
    for number in range(3):
        bench.start()
        bench.finish(number)
    assert origins(bench) == ["baseline", "grid", "grid"]
