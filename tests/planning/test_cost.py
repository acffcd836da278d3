"""What a run costs, measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.errors import NonFiniteLossError
from segtune.planning.cost import probe
from segtune.training.resolve import resolve


@pytest.fixture(scope="module")
def info(tiles: Path) -> DataInfo:
    return scan(run_of(tiles))


def run_of(tiles: Path, **settings: object) -> RunConfig:
    small: dict[str, object] = {"model": "unet", "encoder": "tu-mobilenetv3_small_050", "image_size": 32, "workers": 0}
    return RunConfig(dataset=str(tiles), classes=[3, 7, 255], device="cpu", **{**small, "batch_size": 2} | settings)


@pytest.mark.parametrize(("batch_size", "samples", "steps", "batches"), [(2, None, 4, 2), (4, 10, 3, 1), (3, 9, 3, 2)])
def test_a_probe_extrapolates_a_step_and_a_batch_to_an_epoch(
    tiles: Path, info: DataInfo, batch_size: int, samples: int | None, steps: int, batches: int
) -> None:
    config = run_of(tiles, batch_size=batch_size, samples_per_epoch=samples, epochs=40, warmup_epochs=3)
    cost = probe(resolve(config, info), info, threads=1)
    assert cost.peak_bytes is None
    assert cost.step_seconds > 0
    assert cost.batch_seconds > 0
    assert cost.epoch_seconds == pytest.approx(cost.step_seconds * steps + cost.batch_seconds * batches)


def test_a_probe_of_an_impossible_run_raises_the_reason(tiles: Path, info: DataInfo) -> None:
    with pytest.raises(NonFiniteLossError, match="loss became"):
        probe(resolve(run_of(tiles, lr=1e30, grad_clip=0.0, optimizer="sgd"), info), info)
