"""Searches with costs: what is measured, kept and chosen."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.models.manifest import Manifest
from segtune.planning.feasibility import check_space
from segtune.report.gather import gather
from segtune.report.page import page
from segtune.space.reader import load_space
from segtune.tuning.teaching import AsComplete, TaughtCosts
from tests.conftest import WriteDataSet
from tests.scripts import call
from tests.tuning.bench import SPACE, Bench
from tests.tuning.searches import RUN, rows

_ANY_MODEL = RUN.replace("model: unet, ", "").replace("decoder_channels: 64, ", "")  # which linknet does not take
SMALL = _ANY_MODEL.replace("workers: 0", "workers: 0, threads: 1, lr: 5e-3") + (
    "space: {model: [unet, linknet], loss: [dice, jaccard]}\n"
    "baseline: {model: unet, loss: dice}\n"
    "search: {trials: 4, sampler: grid, scheduler: none, objectives: [miou, latency, parameters], gpus_per_trial: 0, "
    "cpus_per_trial: 1, keep: 1}\n"
)


@pytest.fixture(scope="module")
def small(data_set: WriteDataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchFolder, str]:
    """A search with costs, and what it printed."""
    root = tmp_path_factory.mktemp("costs")
    data = data_set(root / "tiles", train=8, val=4)
    (root / "small.yaml").write_text(f"dataset: {data}\n{SMALL}")
    ended = call("run_search", "--space", root / "small.yaml", "--results-dir", root / "r", "--in-process")
    assert ended.status == 0, ended
    return SearchFolder(root / "r" / "small"), ended.out


def on_front(table: list[dict[str, str]]) -> set[int]:
    """The trials that nothing beats, by their rows of trials.csv."""
    points = {int(row["trial"]): [-float(row["miou"]), *(float(row[n]) for n in COSTS)] for row in table}
    return {
        number
        for number, mine in points.items()
        if not any(
            other != mine and all(theirs <= own for theirs, own in zip(other, mine, strict=True))
            for other in points.values()
        )
    }


COSTS = ("latency", "parameters")


@pytest.mark.slow
def test_costs_are_in_the_table_the_console_the_page_and_run_yaml(small: tuple[SearchFolder, str]) -> None:
    folder, printed = small
    table = rows(folder.path)
    for row in table:
        assert 0.1 < float(row["latency"]) < 1000
        assert row["gpu_memory"] == ""
        manifest = Manifest.read(folder.trial(int(row["trial"])).run_yaml)
        assert float(row["latency"]) == pytest.approx(manifest.latency, abs=1e-3)
    best = Manifest.read(folder.best / "run.yaml")
    assert best.latency in [Manifest.read(folder.trial(number).run_yaml).latency for number in range(4)]
    names = printed.split("front by miou, latency, parameters (*), among trials with all epochs: ")[1].split("\n")[0]
    assert {int(name.removeprefix("#")) for name in names.split(", ")} == on_front(table)
    html = page(gather(folder, with_examples=False))
    assert 'id="chart-front-latency"' in html
    assert 'id="chart-front-parameters"' in html


@pytest.mark.slow
def test_models_of_the_front_stay_and_a_preference_chooses_one(small: tuple[SearchFolder, str]) -> None:
    folder, _ = small
    table = rows(folder.path)
    kept = {number for number in range(4) if folder.trial(number).best.is_dir()}
    assert kept == on_front(table)  # the best one is among them
    by_size = sorted(table, key=lambda row: float(row["parameters"]))
    smallest = by_size[0]["parameters"]
    assert smallest != by_size[-1]["parameters"]
    most = int(smallest) + 1
    again = ("--resume", folder.path.name, "--results-dir", folder.path.parent, "--in-process")
    ended = call("run_search", *again, "--prefer", f"miou, parameters < {most}")
    assert ended.status == 0, ended
    assert f"prefer miou, parameters < {most}: kept by 2 trials; the winner is the best of them" in ended.out
    allowed = [row for row in table if row["parameters"] == smallest]
    winner = max(allowed, key=lambda row: float(row["miou"]))
    assert f"trial #{winner['trial']}, miou {float(winner['miou']):.4f}" in ended.out
    assert Manifest.read(folder.best / "run.yaml").parameters == int(smallest)
    assert yaml.safe_load(folder.search_yaml.read_text())["search"]["prefer"] == f"miou, parameters < {most}"
    with folder.trials_csv.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    ended = call("run_search", *again, "--prefer", "none")
    assert ended.status == 0, ended
    best = max(table, key=lambda row: float(row["miou"]))
    assert Manifest.read(folder.best / "run.yaml").score == pytest.approx(float(best["miou"]), abs=1e-12)


def test_memory_of_a_gpu_is_no_cost_of_a_search_without_one(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace("trials: 8", "trials: 8, gpus_per_trial: 0, objectives: [miou, gpu_memory]"))
    with pytest.raises(InputError, match="gpu_memory needs a GPU, but trials get none"):
        check_space(load_space(path), fetch=False)


PARAMETERS = {"mobilenet_v2": 2e6, "resnet18": 2e8, "efficientnet-b0": 2e8}  # by encoder; the last is the baseline


def drawn(folder: Path, objectives: str) -> list[str]:
    """The encoders that a search draws where the larger one has the better score."""
    text = SPACE.replace("trials: 8, sampler: random", f"trials: 40, objectives: {objectives}, start: none")
    bench = Bench(SearchFolder(folder), text, concurrent=1)
    encoders = []
    for _ in range(40):
        start = bench.start()
        encoders.append(start.config.encoder)
        costs = {"parameters": PARAMETERS[start.config.encoder]}
        bench.report(start.number, 1, 0.5 + costs["parameters"] / 1e9, epochs=1, costs=costs)
        bench.searcher.ended(start.number)
    return encoders


@pytest.mark.slow
def test_costs_draw_the_sampler_to_what_costs_less(tmp_path: Path) -> None:
    with_costs, without = (
        drawn(tmp_path / name, objectives) for name, objectives in (("a", "[miou, parameters]"), ("b", "miou"))
    )
    assert with_costs[20:].count("mobilenet_v2") >= without[20:].count("mobilenet_v2") + 5


def test_the_sampler_sees_costs_of_whole_budgets_and_nothing_without_them(tmp_path: Path) -> None:
    text = SPACE.replace("sampler: random", "sampler: random, objectives: [miou, seconds, parameters]")
    bench = Bench(SearchFolder(tmp_path / "s"), text)
    for number, costs in enumerate([{"parameters": 100.0}, {}, {"parameters": 10.0}]):
        bench.start()
        bench.asha.chosen.add(number)
        bench.report(number, 1, 0.3 + number / 10, seconds=4.0, costs=costs)
        bench.searcher.ended(number)
    bench.start()
    seen = TaughtCosts(bench.study, AsComplete(bench.space), bench.space.search.objectives[1:])
    told = seen._get_trials(states=(TrialState.COMPLETE,))
    assert [trial.number for trial in told] == [0, 2]
    assert told[0].values == pytest.approx([0.3, math.log(12.0), math.log(100.0)])  # 4 s in one of three epochs
    assert [trial.number for trial in seen._get_trials(states=(TrialState.RUNNING,))] == [3]
