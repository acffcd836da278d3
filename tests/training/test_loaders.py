"""Loader processes: how many `workers: auto` takes, and when a run says that training waits for tiles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from segtune.training.loaders import Waiting, choose_workers, find_waiting, spare_cores
from tests.training.runs import curve, run, small_unet

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Timed:
    """Stands in for batches whose tiles take so long to load."""

    def __init__(self, seconds: float, batch_size: int = 16) -> None:
        self.batch_size, self._seconds = batch_size, seconds

    def tile_seconds(self) -> float:
        return self._seconds


def chosen(
    seconds: float, device: torch.device, cores: int, side: int = 256, threads: int = 1, cached: bool = True
) -> int:
    return choose_workers(Timed(seconds), side, cached, device, cores, threads)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (2, 4)])
def test_a_cpu_without_spare_cores_gets_no_loaders_for_decoded_tiles(cores: int, threads: int) -> None:
    assert chosen(0.1, CPU, cores, threads=threads) == 0
    assert chosen(0.1, CPU, cores, threads=threads, cached=False) == 1  # reading files waits for the disk


def test_a_cpu_with_spare_cores_gets_few_loaders() -> None:
    assert chosen(0.02, CPU, 8, side=128, threads=4) == 5 - 1
    assert chosen(0.001, CPU, 8, side=128, threads=4) == 1


@pytest.mark.parametrize(
    ("seconds", "cores", "side", "expected"),
    [(0.0004, 16, 256, 1), (0.006, 16, 256, 5), (0.025, 16, 512, 15), (0.025, 64, 512, 20), (0.025, 1, 512, 1)],
)
def test_a_gpu_gets_loaders_by_what_a_tile_costs(seconds: float, cores: int, side: int, expected: int) -> None:
    assert chosen(seconds, GPU, cores, side) == expected


@pytest.mark.parametrize(
    ("seconds", "waited", "workers", "cores", "better", "left"),
    [
        (10.0, 4.1, 2, 16, 4, 0.0),  # 20 s of work in 5.9 s
        (10.0, 4.1, 0, 16, 1, 0.0),  # 4.1 s of work in 5.9 s
        (10.0, 9.0, 0, 16, 9, 0.0),
        (10.0, 5.0, 2, 4, 3, 0.25),  # 20 s of work by three take 6.7 s, and the GPU needs 5
        (10.0, 5.0, 3, 4, 3, 0.5),
        (10.0, 5.0, 8, 4, 8, 0.5),
    ],
)
def test_the_number_that_helps_follows_from_the_work_of_the_loaders(
    seconds: float, waited: float, workers: int, cores: int, better: int, left: float
) -> None:
    found = find_waiting(seconds, waited, workers, spare_cores(GPU, cores, cores), gpu=True)
    assert found
    assert (found.share, found.better) == (pytest.approx(waited / seconds), better)
    assert found.left == pytest.approx(left)


@pytest.mark.parametrize(
    ("seconds", "waited", "spare", "gpu"),
    [(10.0, 0.9, 15, True), (0.4, 0.2, 15, True), (10.0, 5.0, 0, False), (10.0, 5.0, 1, False)],
)
def test_nothing_is_said_where_it_hardly_waits_or_the_cpu_is_busy(
    seconds: float, waited: float, spare: int, gpu: bool
) -> None:
    assert find_waiting(seconds, waited, 1, spare, gpu) is None


def test_a_cpu_with_idle_cores_is_told_to_use_them() -> None:
    assert find_waiting(10.0, 3.0, 0, 2, gpu=False) == Waiting(0.3, False, 0, 1, 0.0, 2)


def test_auto_changes_no_number_and_stands_in_run_yaml(tiles: Path, tmp_path: Path) -> None:
    results = {}
    for name, workers, cores in (("none", 0, 1), ("auto", "auto", 4), ("alone", "auto", 1)):
        config = small_unet(tiles, epochs=2, augmentation="hard", batch_size=3, workers=workers, threads=1)
        results[name] = curve(run(config, tmp_path / name, cores=cores))
    assert results["auto"] == results["alone"] == results["none"]
    manifests = {name: yaml.safe_load((tmp_path / name / "run.yaml").read_text()) for name in results}
    assert [manifests[name]["workers"] for name in results] == [0, "auto", "auto"]
    assert [manifests[name]["machine"]["workers"] for name in ("none", "alone")] == [0, 0]
    assert 1 <= manifests["auto"]["machine"]["workers"] <= 3
