"""train(): it learns, repeats itself exactly, goes on where it stopped, and leaves nothing behind."""

from __future__ import annotations

import gc
import json
import math
import multiprocessing
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError, NonFiniteLossError
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.training.losses import SegmentationLoss
from segtune.training.resolve import check_run, resolve
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.training.state import load_state
from segtune.training.train import train

DataSet = Callable[..., Path]
Curve = list[tuple[float, float]]

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set")


def settings(dataset: Path, **others: Any) -> RunConfig:
    """A run that takes a second or two."""
    fast = {
        "dataset": str(dataset),
        "channels": ["nir"],
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "image_size": 32,
        "batch_size": 4,
        "epochs": 3,
        "workers": 0,
        "device": "cpu",
    }
    return RunConfig.from_settings(fast | others)


def run(config: RunConfig, folder: Path, epochs: int | None = None, **others: Any) -> list[EpochResult]:
    """Train, at most so many epochs, and close."""
    with closing(train(config, scan(config), RunFolder(folder), **others)) as generator:
        return list(islice(generator, epochs))


def curve(results: list[EpochResult]) -> Curve:
    return [(result.loss, result.scores.miou) for result in results]


def curve_of(folder: Path) -> Curve:
    """The curve that is on disk."""
    return [(float(row["loss"]), float(row["miou"])) for row in read_rows(RunFolder(folder))]


def same_model(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "best" / "model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


# A run that learns, and what it leaves on disk.


@pytest.fixture(scope="module")
def learnt(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path, list[EpochResult]]:
    """A finished run: its config, its folder, its epochs."""
    config = settings(tiles, epochs=12, lr=1e-2, loss="dice+bce", batch_size=2, augmentation="safe")
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


def test_tensorboard_shows_every_setting_as_a_hyperparameter(learnt: Learnt) -> None:
    config, folder, _ = learnt
    events = EventAccumulator(str(folder))
    events.Reload()
    contents = events.summary_metadata
    start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"].plugin_data.content)
    shown = start.session_start_info.hparams
    assert set(shown) == set(config.settings())
    assert shown["lr"].number_value == config.lr
    assert shown["loss"].string_value == config.loss
    end = HParamsPluginData.FromString(contents["_hparams_/session_end_info"].plugin_data.content)
    assert end.session_end_info.status == 1  # success


def test_the_model_in_best_carries_the_metrics_of_the_best_epoch(learnt: Learnt) -> None:
    config, folder, results = learnt
    _, manifest = load_model(folder / "best", torch.device("cpu"))
    best = results[results[-1].best_epoch - 1]
    assert manifest.metrics == {"epoch": best.epoch, **best.scores.flat()}
    used = config.model_copy(update={"threads": torch.get_num_threads()})
    assert manifest.config == resolve(used, scan(config))
    assert [band.name for band in manifest.bands] == ["image:1", "image:2", "image:3", "nir"]


@pytest.mark.parametrize("mious", [(0.3, 0.7, 0.5), (0.3, 0.7, 0.7)])
def test_best_holds_the_weights_of_the_first_best_epoch(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mious: tuple[float, ...]
) -> None:
    config = settings(tiles)
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


def test_after_each_step_the_caller_is_told(tiles: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    results = run(settings(tiles, epochs=2), tmp_path, on_batch=lambda *news: told.append(news))
    assert [news[:2] for news in told] == [(1, 2), (2, 2)] * 2  # six tiles, four per batch
    assert results[0].loss == pytest.approx((4 * told[0][2] + 2 * told[1][2]) / 6, rel=1e-6)


# The same configuration gives the same numbers. deeplabv3plus has dropout, and so draws random numbers.


def dropping(tiles: Path, **others: Any) -> RunConfig:
    return settings(
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
    run(settings(tiles, model="fpn", optimizer="sgd", workers=1, epochs=1), tmp_path / "b")
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


def test_a_fresh_process_gives_the_same(tiles: Path, tmp_path: Path, reference: tuple[Path, Curve]) -> None:
    given = json.dumps(dropping(tiles).settings())
    done = subprocess.run(
        [sys.executable, "-c", FRESH, given, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [tuple(pair) for pair in json.loads(done.stdout)] == reference[1]
    assert same_model(tmp_path, reference[0])


# Stopped and continued.


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


def test_a_row_that_was_written_after_the_last_state_is_written_again_not_twice(
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
    config = settings(tiles, epochs=1)
    run(config, tmp_path)
    before = curve_of(tmp_path)
    assert run(config, tmp_path, go_on=True) == []
    assert curve_of(tmp_path) == before


def test_going_on_where_nothing_is_starts(tiles: Path, tmp_path: Path) -> None:
    assert [result.epoch for result in run(settings(tiles, epochs=1), tmp_path / "new", go_on=True)] == [1]


# A loss that is no number.


def test_a_learning_rate_out_of_all_bounds_is_told_of(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"epoch \d+, step \d+"):
        run(settings(tiles, lr=1e30, optimizer="sgd", grad_clip=0.0, epochs=20), tmp_path)


def test_when_the_loss_becomes_nan_the_last_good_model_stays_and_the_run_can_go_on(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: tuple[Path, Curve]
) -> None:
    forward = SegmentationLoss.forward
    steps = 0

    def spoilt(self: SegmentationLoss, *given: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
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


# Odd data.


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("seven") / "set", train=7, val=3)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 7), (2, 4), (3, 3), (6, 2), (50, 1)])
def test_any_batch_size_works_a_last_batch_of_one_included(
    seven: Path, tmp_path: Path, batch_size: int, steps: int
) -> None:
    told: list[int] = []
    config = settings(seven, model="deeplabv3plus", batch_size=batch_size, epochs=1)
    (result,) = run(config, tmp_path, on_batch=lambda done, total, loss: told.append(total))
    assert told == [steps] * steps
    assert math.isfinite(result.loss)
    assert 0 <= result.scores.miou <= 1


def test_a_single_tile_to_train_and_to_evaluate_is_enough(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set", train=1, val=1)
    results = run(settings(dataset, model="deeplabv3plus", epochs=2), tmp_path / "run")
    assert all(math.isfinite(result.loss) for result in results)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("three") / "set", labels=(0, 1, 2))


@pytest.mark.parametrize(
    ("classes", "ignore", "measured"),
    [
        ([1, 2], [], ["1", "2", "background"]),
        ([2, 1], [], ["2", "1", "background"]),
        ([0, 1, 2], [], ["0", "1", "2"]),
        ([1, 2], [0], ["1", "2"]),
        ([1], [2], ["1", "background"]),
        ([2], [0, 1], ["2"]),
    ],
)
def test_several_classes_with_and_without_background_and_ignored_labels(
    three: Path, tmp_path: Path, classes: list[int], ignore: list[int], measured: list[str]
) -> None:
    config = settings(three, classes=classes, ignore=ignore, loss="dice+ce", epochs=2, augmentation="medium")
    results = run(config, tmp_path)
    for result in results:
        assert math.isfinite(result.loss)
        assert list(result.scores.iou) == measured
        values = [result.scores.iou[str(label)] for label in classes]
        assert result.scores.miou == pytest.approx(np.mean(values))
    names = {f"iou/{label}" for label in measured}
    assert names == {name for name in read_rows(RunFolder(tmp_path))[0] if name.startswith("iou/")}


def test_several_classes_are_learnt(three: Path, tmp_path: Path) -> None:
    config = settings(three, classes=[1, 2], loss="dice+ce", lr=1e-2, epochs=12, batch_size=2, augmentation="safe")
    results = run(config, tmp_path)
    assert results[-1].best_miou > results[0].scores.miou + 0.15


def test_where_only_one_label_is_left_to_learn_everything_is_it(three: Path, tmp_path: Path) -> None:
    results = run(settings(three, classes=[2], ignore=[0, 1], epochs=1, loss="dice"), tmp_path)
    assert results[0].scores.miou_with_background is None


def spoil(path: Path, where: tuple[slice, slice]) -> None:
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[:, where[0], where[1]] = np.nan
        file.write(pixels)


def test_float_tiles_with_nan_train_and_score_the_rest(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set", dtype="float32", suffix=".tif")
    first, second, *_ = sorted((dataset / "train" / "images").iterdir())
    spoil(first, (slice(0, 9), slice(None)))
    spoil(second, (slice(None), slice(None)))  # nothing left of it
    spoil(min((dataset / "val" / "images").iterdir()), (slice(None), slice(20, 25)))
    spoil(max((dataset / "val" / "nir").iterdir()), (slice(3, 8), slice(None)))
    for number, level in enumerate(("none", "hard")):
        for result in run(settings(dataset, augmentation=level, batch_size=1), tmp_path / f"run{number}"):
            assert math.isfinite(result.loss)
            assert 0 <= result.scores.miou <= 1
    state = load_state(tmp_path / "run1" / "state.pt")["model"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_tiles_of_different_sizes_go_together(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set")
    for path in sorted(data_set(tmp_path / "large", size=48).rglob("*.png")):
        target = dataset / path.relative_to(tmp_path / "large")
        shutil.copy(path, target.with_name(f"large_{path.name}"))
    config = settings(dataset, image_size=None)
    assert resolve(config, scan(config)).image_size == 64  # of 48, the next multiple of 32
    results = run(config, tmp_path / "run")
    assert all(math.isfinite(result.loss) for result in results)


# Nothing left behind.


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
    config = settings(tiles, workers=2, epochs=2)
    info = scan(config)
    gc.collect()
    gc.disable()  # the run itself sees to it that its model goes
    modules, threads = modules_alive(), threading.active_count()
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
    assert threading.active_count() == threads
    assert modules_alive() == modules


# What check_run refuses before anything starts.


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_run(config)
    return caught.value.mistakes


def test_check_run_names_an_unknown_encoder_and_an_impossible_pair(tiles: Path) -> None:
    assert "did you mean 'resnet18'?" in refusal(settings(tiles, encoder="resnet81"))[0]
    assert "linknet" in refusal(settings(tiles, model="linknet", encoder="mit_b0"))[0]
    assert "image_size 48" in refusal(settings(tiles, model="fpn", image_size=48))[0]
    check_run(settings(tiles))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tiles: Path, tmp_path: Path) -> None:
    for device in ("cuda", "cuda:3"):
        (message,) = refusal(settings(tiles, device=device))
        assert message.startswith("device: ")
        assert device in message
    (message,) = refusal(settings(tiles, device="auto", precision="fp16"))
    assert message.startswith("precision: ")
    with pytest.raises(InputError):
        run(settings(tiles, device="cuda"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
