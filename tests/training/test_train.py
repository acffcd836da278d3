"""train(): a run learns, leaves what it should on disk, and nothing in the process."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.training.runlog import RunLog, read_rows
from segtune.training.state import load_state
from segtune.training.train import train
from tests.training.runs import (
    run,
    small_unet,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(scope="module")
def learnt(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path, list[EpochResult]]:
    """A finished run: its config, its folder, its epochs."""
    config = small_unet(tiles, epochs=12, lr=1e-2, loss="dice+bce", batch_size=2, augmentation="safe")
    folder = tmp_path_factory.mktemp("learnt") / "run"
    return config, folder, run(config, folder)


Learnt = tuple[RunConfig, Path, list[EpochResult]]


def test_a_run_learns(learnt: Learnt) -> None:
    _, _, results = learnt
    assert results[-1].scores.miou > results[0].scores.miou + 0.2
    assert results[-1].scores.miou > 0.5
    assert results[-1].loss < results[0].loss / 2


def test_epochs_are_numbered_and_carry_the_best_so_far(learnt: Learnt) -> None:
    config, _, results = learnt
    assert [result.epoch for result in results] == list(range(1, config.epochs + 1))
    assert {result.epochs for result in results} == {config.epochs}
    mious = [result.scores.miou for result in results]
    for number, result in enumerate(results, start=1):
        assert result.best_miou == max(mious[:number])
        assert result.best_epoch == mious.index(result.best_miou) + 1
    assert all(later.seconds > earlier.seconds for earlier, later in pairwise(results))
    assert results[0].lr == pytest.approx(config.lr, rel=0.1)
    assert results[-1].lr < config.lr / 20
    assert results[0].first_lr == config.lr
    assert config.lr > results[1].first_lr > results[1].lr


def test_metrics_csv_has_a_row_per_epoch_with_the_very_numbers(learnt: Learnt) -> None:
    _, folder, results = learnt
    rows = read_rows(RunFolder(folder))
    assert len(rows) == len(results)
    for row, result in zip(rows, results, strict=True):
        assert int(row["epoch"]) == result.epoch
        assert float(row["loss"]) == result.loss
        assert float(row["miou"]) == result.scores.miou
        assert float(row["iou/255"]) == result.scores.iou["255"]
        assert float(row["iou/background"]) == result.scores.iou["background"]
        assert float(row["best_miou"]) == result.best_miou
        assert float(row["lr"]) == result.lr


def test_a_runs_folder_holds_what_it_should_and_nothing_else(learnt: Learnt) -> None:
    _, folder, _ = learnt
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents"))
    assert names == [".lock", "best", "metrics.csv", "run.yaml", "state.pt", "worst.png"]


def test_tensorboard_shows_the_curves_of_all_epochs(learnt: Learnt) -> None:
    _, folder, results = learnt
    events = EventAccumulator(str(folder))
    events.Reload()
    wanted = {
        "loss": [result.loss for result in results],
        "miou": [result.scores.miou for result in results],
        "lr": [result.lr for result in results],
    }
    for tag, values in wanted.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [result.epoch for result in results]
        assert [event.value for event in found] == pytest.approx(values, rel=1e-6)


def test_tensorboard_shows_settings_that_can_explain_a_score(learnt: Learnt) -> None:
    config, folder, _ = learnt
    events = EventAccumulator(str(folder))
    events.Reload()
    contents = events.summary_metadata
    start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"].plugin_data.content)
    shown = start.session_start_info.hparams
    assert {"lr", "encoder", "channels", "seed", "weight_decay"} <= set(shown) < set(config.settings())
    assert not {"dataset", "cache_dir", "device", "workers", "worst", "add_val_dirs", "alpha", "adv_freq"} & set(shown)
    told = HParamsPluginData.FromString(contents["_hparams_/experiment"].plugin_data.content).experiment
    first = [info.name for info in told.hparam_infos if info.differs]
    assert first == ["model", "encoder", "batch_size", "optimizer", "lr", "loss"]
    assert shown["lr"].number_value == config.lr
    assert shown["loss"].string_value == config.loss
    end = HParamsPluginData.FromString(contents["_hparams_/session_end_info"].plugin_data.content)
    assert end.session_end_info.status == 1  # success


def test_tensorboard_shows_the_searched_settings_of_a_trial_first(tmp_path: Path) -> None:
    trial = tmp_path / "search" / "trial_0000"
    trial.mkdir(parents=True)
    text = (
        "space: {encoder: [resnet18], fit: {crop: {image_size: [64, 96]}, pad: null}, dropout: {low: 0.1, high: 0.2}}"
    )
    (tmp_path / "search" / "search.yaml").write_text(text, encoding="utf-8")
    RunLog(RunFolder(trial), RunConfig()).close(finished=False)
    events = EventAccumulator(str(tmp_path / "search" / "trial_0000"))
    events.Reload()
    metadata = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    infos = HParamsPluginData.FromString(metadata).experiment.hparam_infos
    assert {info.name for info in infos if info.differs} == {"encoder", "fit", "image_size", "dropout"}


def test_the_model_in_best_carries_the_metrics_of_the_best_epoch(learnt: Learnt) -> None:
    config, folder, results = learnt
    _, manifest = load_model(folder / "best", torch.device("cpu"))
    best = results[results[-1].best_epoch - 1]
    low, high = manifest.metrics["miou_low"], manifest.metrics["miou_high"]
    assert low <= best.scores.miou <= high
    assert manifest.metrics == {"epoch": best.epoch, **best.scores.flat(), "miou_low": low, "miou_high": high}
    used = config.model_copy(update={"threads": torch.get_num_threads()})
    assert manifest.config == resolve(used, scan(config))
    assert [band.name for band in manifest.bands] == ["image:1", "image:2", "image:3", "nir"]


@pytest.mark.parametrize("mious", [(0.3, 0.7, 0.5), (0.3, 0.7, 0.7)])
def test_best_holds_the_weights_of_the_first_best_epoch(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mious: tuple[float, ...]
) -> None:
    config = small_unet(tiles)
    run(config, tmp_path / "stopped", epochs=2)
    wanted = load_state(tmp_path / "stopped" / "state.pt")["model"]
    scripted = iter(mious)

    def scores(matrix: ConfusionMatrix) -> Scores:
        return Scores(next(scripted), {"255": 0.0}, None)

    monkeypatch.setattr("segtune.evaluation.metrics.ConfusionMatrix.scores", scores)
    results = run(config, tmp_path / "whole")
    assert results[-1].best_epoch == 2
    kept = load_file(tmp_path / "whole" / "best" / "model.safetensors")
    assert all(torch.equal(value, wanted[name]) for name, value in kept.items())
    last = load_state(tmp_path / "whole" / "state.pt")["model"]
    assert not all(torch.equal(value, last[name]) for name, value in kept.items())


def test_worst_png_does_not_outlive_the_worst_tiles(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter((0.3, 0.7))
    monkeypatch.setattr(ConfusionMatrix, "scores", lambda matrix: Scores(next(scripted), {"255": 0.0}, None))
    run(small_unet(tiles, worst=2, epochs=1), tmp_path)
    assert (tmp_path / "worst.png").is_file()
    run(small_unet(tiles, worst=0, epochs=2), tmp_path, go_on=True)  # a better epoch, whose tiles are not looked at
    assert not (tmp_path / "worst.png").exists()


def test_after_each_step_the_caller_is_told(tiles: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    results = run(
        small_unet(tiles, epochs=2),
        tmp_path,
        on_batch=lambda done, total, loss: told.append((done, total, loss.item())),
    )
    assert [news[:2] for news in told] == [(1, 2), (2, 2)] * 2  # six tiles, four per batch
    assert results[0].loss == pytest.approx((4 * told[0][2] + 2 * told[1][2]) / 6, rel=1e-6)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    gc.enable()
    torch.set_num_threads(before)


def modules_alive() -> int:
    # type() and not isinstance(): some libraries' lazy objects answer to __class__ with an import.
    return sum(issubclass(type(item), nn.Module) for item in gc.get_objects())


@pytest.mark.parametrize("end", ["exhausted", "closed early", "failed", "never started"])
@pytest.mark.usefixtures("one_thread")
def test_a_run_leaves_no_process_no_thread_and_no_model(tiles: Path, tmp_path: Path, end: str) -> None:
    config = small_unet(tiles, workers=2, epochs=2, samples_per_epoch=4)
    info = scan(config)
    running_seconds()  # has a thread that stays
    gc.collect()
    gc.disable()  # the run itself sees to it that its model goes
    modules, threads = modules_alive(), set(threading.enumerate())
    seen: list[tuple[int, int]] = []

    def look(done: int, total: int, loss: float) -> None:
        seen.append((torch.get_num_threads(), len(multiprocessing.active_children())))
        if end == "failed":
            raise RuntimeError("stop")

    generator = train(config, info, RunFolder(tmp_path), threads=2, on_batch=look)
    if end == "exhausted":
        list(generator)
    elif end == "closed early":
        next(generator)
        generator.close()
    elif end == "failed":
        with pytest.raises(RuntimeError, match="stop"):
            next(generator)
    else:
        generator.close()
    del generator
    assert set(seen) == (set() if end == "never started" else {(2, 2)})
    assert torch.get_num_threads() == 1
    assert multiprocessing.active_children() == []
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=30)  # a queue's own thread ends soon after the queue was closed, on a busy machine later
    assert set(threading.enumerate()) <= threads
    assert modules_alive() == modules
