"""Searches by another objective than mIoU: what decides, what is kept, and what is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from segtune.errors import InputError
from segtune.evaluation.validate import validate
from segtune.files.folders import SearchFolder
from segtune.report.gather import gather
from segtune.report.page import page
from segtune.space.reader import load_space
from segtune.training.result import Own
from segtune.training.runlog import read_rows
from segtune.trials import ranked
from segtune.tuning.promotion import make_promotion
from segtune.tuning.scheduler import Decision
from segtune.tuning.status import search_state
from segtune.tuning.study import read_study
from tests.conftest import WriteDataSet
from tests.scripts import call
from tests.tuning.bench import SPACE, Bench
from tests.tuning.searches import RUN, rows

OBJECTIVE = "f1+2*iou/300"
SMALL = RUN.replace("workers: 0", "workers: 0, threads: 1") + (
    "space: {lr: {low: 1e-3, high: 2e-2, log: true}, loss: [dice, jaccard]}\n"
    "search: {trials: 4, objectives: {iou/300: 2, f1: 1}, grace_period: 1, gpus_per_trial: 0, cpus_per_trial: 1, "
    "start: none, confirm: {top: 1, seeds: 2}}\n"
)


@pytest.fixture(scope="module")
def small(data_set: WriteDataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchFolder, str]:
    """A search with a confirmed winner, and what it printed."""
    root = tmp_path_factory.mktemp("objective")
    data = data_set(root / "tiles", train=8, val=4, labels=(0, 1, 300))
    (root / "small.yaml").write_text(f"dataset: {data}\nclasses: [1, 300]\n{SMALL}")
    ended = call("run_search", "--space", root / "small.yaml", "--results-dir", root / "r", "--in-process")
    assert ended.status == 0, ended
    return SearchFolder(root / "r" / "small"), ended.out


@pytest.mark.slow
def test_study_table_and_models_follow_the_objective(small: tuple[SearchFolder, str]) -> None:
    folder, _ = small
    study = read_study(folder)
    table = [row for row in rows(folder.path) if row["origin"] != "confirm"]
    for row in table:
        run = folder.trial(int(row["trial"]))
        epochs = read_rows(run)
        best: list[float] = []
        for epoch in epochs:
            best.append(max([float(epoch["score"]), *best]))
            assert float(epoch["best_score"]) == best[-1]
        values = study.trials[int(row["trial"])].intermediate_values
        assert values == {number: best[number - 1] for number in values}
        reached = epochs[int(row["best_epoch"]) - 1]
        assert float(row[OBJECTIVE]) == float(reached["score"]) == best[-1]
        assert float(row["miou"]) == float(reached["miou"])
        assert row["objective"] == OBJECTIVE


@pytest.mark.slow
def test_the_winner_is_the_best_by_the_objective_with_its_exact_number(small: tuple[SearchFolder, str]) -> None:
    folder, printed = small
    data = load_space(folder.search_yaml).baseline.dataset
    found = validate(folder.path, Path(data) / "val", "cpu")
    winner = ranked(search_state(folder).trials)[0]
    assert winner.confirmed
    assert found.metrics()["objective"]["name"] == OBJECTIVE
    assert found.metrics()["objective"]["value"] == pytest.approx(winner.confirmed.score, abs=1e-12)
    parts = found.metrics()
    mean = sum(parts["per_class"][label]["f1"] for label in ("1", "300")) / 2
    assert (2 * parts["iou"]["300"] + mean) / 3 == pytest.approx(winner.confirmed.score, abs=1e-12)
    assert f"Trials by {OBJECTIVE}" in printed
    assert f"mean {OBJECTIVE} {winner.confirmed.mean:.4f} over fresh seeds" in printed
    html = page(gather(folder, with_examples=False))
    assert f"Best {OBJECTIVE} over the trials" in html
    assert "mIoU over the trials" not in html


@pytest.mark.slow
def test_a_search_goes_on_with_its_objective_alone(small: tuple[SearchFolder, str], tmp_path: Path) -> None:
    folder = SearchFolder(Path(shutil.copytree(small[0].path, tmp_path / "small")))
    ended = call("run_search", "--resume", "small", "--results-dir", tmp_path, "--trials", 5, "--in-process")
    assert ended.status == 0, ended
    assert sum(row["origin"] != "confirm" for row in rows(folder.path)) == 5
    first, other = small[0].path.parent.parent / "small.yaml", tmp_path / "other.yaml"
    other.write_text(first.read_text().replace("{iou/300: 2, f1: 1}", "f1"))
    place = ("--space", other, "--results-dir", tmp_path, "--in-process")
    ended = call("run_search", *place, "--name", "small", "--resume")
    assert ended.status == 2
    assert f"search: objectives ([{OBJECTIVE}] -> [f1])" in ended.err
    ended = call("run_search", *place, "--warm-start", folder.path)
    assert ended.status == 2
    assert f"was searched by {OBJECTIVE}, and this search by f1" in ended.err


def by_f1(folder: Path, **others: Any) -> Bench:
    text = SPACE.replace("sampler: random", "sampler: random, objectives: f1, grace_period: 1, reduction_factor: 2")
    return Bench(SearchFolder(folder), text, **others)


def test_promotion_and_ranking_go_by_the_objective_and_not_by_miou(tmp_path: Path) -> None:
    bench = by_f1(tmp_path / "s", concurrent=1, compared=make_promotion)
    scores = {0: 0.5, 1: 0.6, 2: 0.2}  # and mIoU the other way round
    first = bench.start()
    for epoch in (1, 2, 3):
        bench.report(first.number, epoch, 0.1, own=Own(scores[0], scores[0]))
    bench.searcher.ended(first.number)
    decisions = {}
    for _ in range(2):
        trial = bench.start()
        score = scores[trial.number]
        decisions[trial.number] = bench.report(trial.number, 1, 1 - score, own=Own(score, score))
        if decisions[trial.number] is not Decision.CONTINUE:
            bench.searcher.ended(trial.number)
        else:
            for epoch in (2, 3):
                bench.report(trial.number, epoch, 1 - score, own=Own(score, score))
            bench.searcher.ended(trial.number)
    assert decisions == {1: Decision.CONTINUE, 2: Decision.PAUSE}
    trials = bench.results().trials()
    assert [trial.score for trial in trials] == [0.5, 0.6, 0.2]
    assert [trial.number for trial in ranked(trials)] == [1, 0, 2]
    assert trials[1].row()["f1"] == 0.6


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("objectives: [miou, f1]", r"search.objectives: has 2 measures of quality \(miou, f1\)"),
        ("objectives: iou/7", r"search.objectives: iou/7 is the IoU of label 7, but classes is \[255\]"),
        ("objectives: {f1: -1}", "search.objectives: the weight of f1 must be a number above 0"),
        ("objectives: []", "search.objectives: names nothing to search for"),
        ("objectives: [latency]", r"search.objectives: names costs alone \(latency\); add a measure of quality"),
        ("prefer: f1, latency < 3ms", "search.prefer: f1 is not what this search is by, which is miou"),
        ("prefer: latency = 3ms", "search.prefer: unknown measure 'latency = 3ms'"),
        ("prefer: 3", "search.prefer: must be limits of costs"),
    ],
)
def test_a_wrong_objective_or_cost_is_one_line(tmp_path: Path, given: str, why: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace("search: {trials: 8, sampler: random}", f"search:\n  {given}\n"))
    with pytest.raises(InputError, match=rf"space\.yaml:9: {why}") as error:
        load_space(path)
    assert len(error.value.mistakes) == 1


def test_a_search_keeps_its_objective_in_its_own_file(tmp_path: Path) -> None:
    bench = by_f1(tmp_path / "s")
    assert bench.space.baseline.objective == bench.space.fixed["objective"] == "f1"
    assert "objective" not in bench.space.dump()["run"]
    (tmp_path / "space.yaml").write_text(SPACE.replace("lr: 1e-3", "lr: 1e-3, objective: f1"))
    with pytest.raises(InputError, match=r"run\.objective: is for single runs; a search has objectives, under search:"):
        load_space(tmp_path / "space.yaml")
