"""The same settings give the same numbers, also when a run was stopped in between."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.config import RunConfig
from segtune.errors import NonFiniteLossError
from segtune.models.checkpoint import load_model
from segtune.training.losses import SegmentationLoss
from tests.training.runs import (
    Curve,
    curve,
    curve_of,
    run,
    same_model,
    small_unet,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def dropping(tiles: Path, **others: Any) -> RunConfig:
    """Return the settings of a run with dropout, which draws random numbers."""
    return small_unet(
        tiles, **{"model": "deeplabv3plus", "augmentation": "hard", "epochs": 4, "warmup_epochs": 1} | others
    )


@pytest.fixture(scope="module")
def reference(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Curve]:
    """A run that was never stopped, without loader workers: its folder, its curve."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    return folder, curve(run(dropping(tiles), folder))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_loader_workers_changes_nothing(
    tiles: Path, tmp_path: Path, reference: tuple[Path, Curve], workers: int
) -> None:
    assert curve(run(dropping(tiles, workers=workers), tmp_path)) == reference[1]
    assert same_model(tmp_path, reference[0])


def test_another_seed_changes_the_curve(tiles: Path, tmp_path: Path, reference: tuple[Path, Curve]) -> None:
    assert curve(run(dropping(tiles, seed=43), tmp_path)) != reference[1]


def test_runs_that_went_before_in_the_process_change_nothing(
    tiles: Path, tmp_path: Path, reference: tuple[Path, Curve]
) -> None:
    run(dropping(tiles, seed=7, epochs=2), tmp_path / "a")
    run(small_unet(tiles, model="fpn", decoder_channels=None, optimizer="sgd", workers=1, epochs=1), tmp_path / "b")
    run(dropping(tiles, precision="bf16", epochs=2, batch_size=1), tmp_path / "c", epochs=1)
    assert curve(run(dropping(tiles), tmp_path / "d")) == reference[1]
    assert same_model(tmp_path / "d", reference[0])


FRESH = """
import json, sys
import torch
from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.training.train import train
from pathlib import Path

torch.set_num_threads(1)
config = RunConfig.from_settings(json.loads(sys.argv[1]))
results = list(train(config, scan(config), RunFolder(Path(sys.argv[2]))))
print(json.dumps([[result.loss, result.scores.miou] for result in results]))
"""


@pytest.mark.slow
def test_a_fresh_process_gives_the_same(tiles: Path, tmp_path: Path, reference: tuple[Path, Curve]) -> None:
    given = json.dumps(dropping(tiles).settings())
    done = subprocess.run(
        [sys.executable, "-c", FRESH, given, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [tuple(pair) for pair in json.loads(done.stdout)] == reference[1]
    assert same_model(tmp_path, reference[0])


@pytest.mark.parametrize(("stop", "workers"), [(1, 0), (2, 1), (3, 0)])
def test_a_run_that_was_stopped_and_goes_on_ends_as_one_that_was_not(
    tiles: Path, tmp_path: Path, reference: tuple[Path, Curve], stop: int, workers: int
) -> None:
    config = dropping(tiles, workers=workers)
    first = run(config, tmp_path, epochs=stop)
    torch.rand(100)  # what others draw in between
    rest = run(config, tmp_path, go_on=True)
    assert [result.epoch for result in rest] == list(range(stop + 1, config.epochs + 1))
    assert curve(first) + curve(rest) == reference[1]
    assert curve_of(tmp_path) == reference[1]
    assert same_model(tmp_path, reference[0])
    assert rest[0].seconds > first[-1].seconds
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]


def test_a_run_that_broke_off_within_an_epoch_repeats_it_exactly(
    tiles: Path, tmp_path: Path, reference: tuple[Path, Curve]
) -> None:
    batches = 0

    def break_off(done: int, total: int, loss: float) -> None:
        nonlocal batches
        batches += 1
        if batches == 4:  # the second step of the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dropping(tiles), tmp_path, on_batch=break_off)
    assert curve_of(tmp_path) == reference[1][:1]
    run(dropping(tiles), tmp_path, go_on=True)
    assert curve_of(tmp_path) == reference[1]


def test_a_row_that_is_newer_than_the_state_is_replaced(
    tiles: Path, tmp_path: Path, reference: tuple[Path, Curve]
) -> None:
    run(dropping(tiles), tmp_path, epochs=1)
    shutil.copy(tmp_path / "state.pt", tmp_path / "kept")
    run(dropping(tiles), tmp_path, epochs=1, go_on=True)
    (tmp_path / "kept").replace(tmp_path / "state.pt")  # killed between the row and the state of epoch 2
    run(dropping(tiles), tmp_path, go_on=True)
    assert curve_of(tmp_path) == reference[1]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("miou")] == [1, 2, 3, 4]


def test_going_on_with_a_finished_run_does_nothing(tiles: Path, tmp_path: Path) -> None:
    config = small_unet(tiles, epochs=1)
    run(config, tmp_path)
    before = curve_of(tmp_path)
    assert run(config, tmp_path, go_on=True) == []
    assert curve_of(tmp_path) == before


def test_going_on_where_nothing_is_starts(tiles: Path, tmp_path: Path) -> None:
    assert [result.epoch for result in run(small_unet(tiles, epochs=1), tmp_path / "new", go_on=True)] == [1]


def test_a_learning_rate_out_of_all_bounds_is_told_of(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"epoch \d+, step \d+"):
        run(small_unet(tiles, lr=1e30, optimizer="sgd", grad_clip=0.0, epochs=20), tmp_path)


def test_a_loss_that_becomes_nan_leaves_the_last_good_model(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: tuple[Path, Curve]
) -> None:
    forward = SegmentationLoss.forward
    steps = 0

    def spoilt(self: SegmentationLoss, *given: Any) -> torch.Tensor:
        nonlocal steps
        steps += torch.is_grad_enabled()  # validation computes a loss, too
        return forward(self, *given) * (math.nan if steps > 5 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationLoss, "forward", spoilt)
        with pytest.raises(NonFiniteLossError, match="nan in epoch 3, step 2"):
            run(dropping(tiles), tmp_path)
    assert curve_of(tmp_path) == reference[1][:2]
    model, manifest = load_model(tmp_path / "best", torch.device("cpu"))
    assert manifest.metrics["epoch"] in (1, 2)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    run(dropping(tiles), tmp_path, go_on=True)
    assert curve_of(tmp_path) == reference[1]
