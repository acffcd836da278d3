"""Too little memory: a run goes on in smaller parts, says so, and is measured again exactly as it was measured.

There is no GPU here: models raise what torch raises, above a number of tiles at a time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.labels import Labels
from segtune.data.scan import scan
from segtune.errors import DeviceMemoryError, SegtuneError
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.models.build import build_model
from segtune.models.checkpoint import load_model
from segtune.models.device import within_memory
from segtune.training.losses import SegmentationLoss
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.training.state import load_state
from segtune.training.step import TrainingStep
from segtune.training.train import train

DataSet = Callable[..., Path]
Limit = Callable[[nn.Module, int], bool]  # whether so many tiles at a time are too many
CPU = torch.device("cpu")


def out_of_memory() -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB free.")


# Halving.


def test_the_size_is_halved_until_memory_takes_it() -> None:
    tried: list[int] = []

    def compute(size: int) -> str:
        tried.append(size)
        if size > 2:
            out_of_memory()
        return "done"

    undone: list[int] = []
    assert within_memory(compute, 11, lambda: undone.append(tried[-1])) == ("done", 2)
    assert tried == [11, 6, 3, 2]
    assert undone == [11, 6, 3]


def test_another_error_goes_up_at_once() -> None:
    def compute(size: int) -> None:
        raise RuntimeError(f"a bug with {size}")

    with pytest.raises(RuntimeError, match="a bug with 4"):
        within_memory(compute, 4)


def test_what_an_attempt_held_is_free_before_the_next_one_begins() -> None:
    held: list[weakref.ref[Tensor]] = []

    def compute(size: int) -> int:
        assert not any(reference() is not None for reference in held)
        activations = torch.zeros(size)
        held.append(weakref.ref(activations))
        if size > 1:
            out_of_memory()
        return len(activations)

    assert within_memory(compute, 8) == (1, 1)
    assert len(held) == 4


def test_a_cpu_without_memory_is_out_of_memory_too() -> None:
    taken = within_memory(lambda size: torch.empty(2**60 if size > 2 else 4, dtype=torch.uint8), 4)
    assert taken[1] == 2


# cuDNN's words where none of its algorithms got memory to work in, and CUDA's where a process cannot even begin.
@pytest.mark.parametrize(
    "words",
    [
        "GET was unable to find an engine to execute this computation after trying 4 plans",
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the manual.\nCUDA kernel errors might",
    ],
)
def test_what_libraries_say_of_memory_is_known_and_told_without_their_advice(words: str) -> None:
    def compute(size: int) -> None:
        raise RuntimeError(words)

    with pytest.raises(DeviceMemoryError) as caught:
        within_memory(compute, 2)
    assert str(caught.value).endswith(f"({words.splitlines()[0]})")


# One step.


class Network(nn.Module):
    """Four outputs per pixel; out of memory above a number of tiles, in the forward pass or the backward pass."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(dropout), nn.Conv2d(8, 4, 1))
        self.limit, self.backward_limit, self.failing_call = 99, 99, 0
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        logits: Tensor = self.layers(images)
        if len(images) > self.limit or len(self.seen) == self.failing_call:
            out_of_memory()
        if len(images) > self.backward_limit:
            logits.register_hook(lambda _: out_of_memory())
        return logits


def step_of(network: Network, scaler: torch.amp.GradScaler | None = None, grad_clip: float = 0.0) -> TrainingStep:
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    labels = Labels.from_masks([1, 2, 3], [], [0, 1, 2, 3])
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    loss = SegmentationLoss("ce", labels)
    return TrainingStep(
        network, loss, optimizer, scaler, lambda images: images.permute(0, 3, 1, 2), CPU, "fp32", grad_clip
    )


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    images = torch.rand(7, 16, 16, 3, generator=random)
    return images, torch.randint(0, 4, (7, 16, 16), generator=random, dtype=torch.uint8)


def weights(network: Network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("grad_clip", [0.0, 1e-2])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    batch: tuple[Tensor, Tensor], micro_batch: int, grad_clip: float
) -> None:
    whole, parts = Network(), Network()
    loss, _ = step_of(whole, grad_clip=grad_clip)(*batch, micro_batch=7)
    same_loss, kept = step_of(parts, grad_clip=grad_clip)(*batch, micro_batch=micro_batch)
    assert whole.seen == [7]
    assert sum(parts.seen) == 7
    assert max(parts.seen) <= micro_batch == kept
    assert max(parts.seen) - min(parts.seen) <= 1
    assert same_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(whole), weights(Network()), atol=1e-4)


@pytest.mark.parametrize("where", ["limit", "backward_limit"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_step_that_ran_out_of_memory_ends_as_one_that_began_in_parts(
    batch: tuple[Tensor, Tensor], where: str, dropout: float
) -> None:
    failing, parts = Network(dropout), Network(dropout)
    setattr(failing, where, 2)
    torch.manual_seed(5)
    loss, kept = step_of(failing)(*batch, micro_batch=7)
    after = torch.rand(3)
    torch.manual_seed(5)
    same_loss, _ = step_of(parts)(*batch, micro_batch=2)
    assert kept == 2
    assert failing.seen == [7, 4, 2, 2, 2, 1]
    assert torch.equal(loss, same_loss)
    assert torch.equal(weights(failing), weights(parts))
    assert torch.equal(after, torch.rand(3))


def test_gradients_of_parts_that_were_done_before_memory_ran_out_do_not_count(batch: tuple[Tensor, Tensor]) -> None:
    failing, parts = Network(), Network()
    failing.failing_call = 2  # the second of two parts
    assert step_of(failing)(*batch, micro_batch=4)[1] == 2
    step_of(parts)(*batch, micro_batch=2)
    assert failing.seen == [4, 3, 2, 2, 2, 1]
    assert torch.equal(weights(failing), weights(parts))


def test_a_last_batch_that_is_smaller_leaves_the_micro_batch_as_it_is(batch: tuple[Tensor, Tensor]) -> None:
    network = Network()
    step = step_of(network)
    images, targets = batch
    assert step(images[:3], targets[:3], micro_batch=5)[1] == 5
    network.limit = 2
    assert step(images[:3], targets[:3], micro_batch=5)[1] == 2


def test_where_one_tile_is_too_much_one_line_says_what_would_help(batch: tuple[Tensor, Tensor]) -> None:
    network = Network()
    network.limit = 0
    with pytest.raises(DeviceMemoryError) as caught:
        step_of(network)(*batch, micro_batch=7)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in ("image_size", "encoder", "precision", "CUDA out of memory"))
    assert all(parameter.grad is None for parameter in network.parameters())


class CountingScaler(torch.amp.GradScaler):
    """Loss scaling as for fp16, on the CPU; notes the order of what is done."""

    def __init__(self) -> None:
        super().__init__("cpu", init_scale=1024.0)
        self.done: list[str] = []

    def scale(self, outputs: Any) -> Any:
        self.done.append("scale")
        return super().scale(outputs)

    def unscale_(self, optimizer: Any) -> None:
        self.done.append("unscale")
        super().unscale_(optimizer)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self.done.append("step")
        return super().step(optimizer, *args, **kwargs)

    def update(self, *args: Any) -> None:
        self.done.append("update")
        super().update(*args)


def test_scaled_gradients_are_accumulated_clipped_once_and_applied_once(batch: tuple[Tensor, Tensor]) -> None:
    plain, scaled, scaler = Network(), Network(), CountingScaler()
    scaled.limit = 3
    step_of(plain, grad_clip=1e-2)(*batch, micro_batch=7)
    step_of(scaled, scaler, grad_clip=1e-2)(*batch, micro_batch=7)
    assert scaled.seen == [7, 4, 2, 2, 2, 1]
    assert scaler.done == ["scale"] * 4 + ["unscale", "step", "update"]
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=1e-5, atol=1e-7)


def test_a_part_that_overflows_in_half_precision_skips_the_update_of_the_batch(batch: tuple[Tensor, Tensor]) -> None:
    network, scaler = Network(), CountingScaler()
    images, targets = batch
    images[5] = torch.inf
    before = weights(network)
    step_of(network, scaler)(images, targets, micro_batch=2)
    assert torch.equal(weights(network), before)
    assert scaler.get_scale() == 512.0


# A run.


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set", train=7, val=5)


def settings(dataset: Path, **others: Any) -> RunConfig:
    fast = {
        "dataset": str(dataset),
        "model": "pspnet",
        "encoder": "tu-mobilenetv3_small_050",
        "image_size": 32,
        "batch_size": 4,
        "epochs": 3,
        "lr": 1e-2,
        "augmentation": "safe",
        "worst": 0,
        "workers": 0,
        "device": "cpu",
    }
    return RunConfig.from_settings(fast | others)


def run(config: RunConfig, folder: Path, epochs: int | None = None, **others: Any) -> list[EpochResult]:
    with closing(train(config, scan(config), RunFolder(folder), **others)) as generator:
        return list(islice(generator, epochs))


Restrict = Callable[..., list[tuple[bool, int]]]


@pytest.fixture
def restrict(monkeypatch: pytest.MonkeyPatch) -> Restrict:
    """Have models of runs from here on run out of memory; gives a list of what they see: (training, tiles)."""

    def arrange(limit: Limit) -> list[tuple[bool, int]]:
        seen: list[tuple[bool, int]] = []

        def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.append((module.training, len(inputs[0])))
            if limit(module, len(inputs[0])):
                out_of_memory()

        def build(*arguments: Any) -> nn.Module:
            model = build_model(*arguments)
            model.register_forward_pre_hook(look)
            return model

        monkeypatch.setattr("segtune.training.run.build_model", build)
        return seen

    return arrange


def training_above(limit: int) -> Limit:
    return lambda module, tiles: module.training and tiles > limit


def evaluation_above(limit: int) -> Limit:
    return lambda module, tiles: not module.training and tiles > limit


def steps_done(module: nn.Module) -> int:
    """How often a model's running statistics were updated: known from its state alone."""
    return next(int(value) for name, value in module.named_buffers() if name.endswith("num_batches_tracked"))


def rows(folder: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if "seconds" not in name} for row in read_rows(RunFolder(folder))
    ]


def test_a_run_goes_on_with_half_the_batch_and_says_so(tiles: Path, tmp_path: Path, restrict: Restrict) -> None:
    seen = restrict(training_above(2))
    results = run(settings(tiles), tmp_path)
    assert [size for training, size in seen if training] == [4, 2, 2, 2, 1, *([2, 2, 2, 1] * 2)]
    assert [size for training, size in seen if not training] == [4, 1] * 3
    assert [result.micro_batch for result in results] == [2, 2, 2]
    assert [row["micro_batch"] for row in rows(tmp_path)] == ["2", "2", "2"]
    for name in ("run.yaml", "best/run.yaml"):
        written = yaml.safe_load((tmp_path / name).read_text(encoding="utf-8"))
        assert written["batch_size"] == 4
        assert (written["evaluation"]["micro_batch"], written["evaluation"]["batch_size"]) == (2, 4)


def test_the_number_of_updates_stays_that_of_the_batches(tiles: Path, tmp_path: Path, restrict: Restrict) -> None:
    told: list[tuple[int, int]] = []
    restrict(training_above(1))
    run(settings(tiles, epochs=1), tmp_path, on_batch=lambda done, total, loss: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    counts = {int(value["step"]) for value in load_state(tmp_path / "state.pt")["optimizer"]["state"].values()}
    assert counts == {2}


def test_a_run_that_is_out_of_memory_with_one_tile_ends_with_one_line(
    tiles: Path, tmp_path: Path, restrict: Restrict
) -> None:
    for number, limit in enumerate((training_above(0), evaluation_above(0))):
        restrict(limit)
        with pytest.raises(SegtuneError, match="image_size") as caught:
            run(settings(tiles), tmp_path / str(number))
        assert "\n" not in str(caught.value)


def test_memory_that_is_not_enough_for_the_update_itself_is_told_of_too(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.optim.AdamW.step", lambda *_: out_of_memory())
    with pytest.raises(DeviceMemoryError, match="encoder"):
        run(settings(tiles), tmp_path)


def late(module: nn.Module, tiles: int) -> bool:
    """Out of memory from the fourth update of the statistics on: in the second epoch, in its second step."""
    return module.training and tiles > 2 and steps_done(module) > 2


@pytest.mark.parametrize("stop", [1, 6, 7])  # before the split; right after it; in an evaluation after it
def test_a_run_that_was_split_and_stopped_ends_as_one_that_was_not_stopped(
    tiles: Path, tmp_path: Path, restrict: Restrict, stop: int
) -> None:
    config = settings(tiles, model="deeplabv3plus", augmentation="hard")  # which draws numbers for dropout
    restrict(late)
    results = run(config, tmp_path / "whole")
    assert [result.micro_batch for result in results] == [4, 2, 2]
    asked = iter(range(1, 1000))
    run(config, tmp_path / "stopped", stop=lambda: next(asked) == stop)
    kept = load_state(tmp_path / "stopped" / "state.pt")["progress"]["micro_batch"]
    assert kept == (4 if stop == 1 else 2)
    seen = restrict(late)
    run(config, tmp_path / "stopped", go_on=True)
    assert ((True, 4) in seen) == (stop == 1)  # what did not fit before is not tried again
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")


def test_a_run_that_broke_off_after_it_was_split_repeats_the_epoch_exactly(
    tiles: Path, tmp_path: Path, restrict: Restrict
) -> None:
    restrict(late)
    run(settings(tiles), tmp_path / "whole")

    def break_off(done: int, total: int, loss: float) -> None:
        if len(rows(tmp_path / "broken")) == 1 and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings(tiles), tmp_path / "broken", on_batch=break_off)
    run(settings(tiles), tmp_path / "broken", go_on=True)
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


# Evaluation.


def sizes_seen(monkeypatch: pytest.MonkeyPatch, limit: int = 99) -> list[int]:
    """What validate()'s models get at a time."""
    seen: list[int] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > limit:
            out_of_memory()

    def load(*arguments: Any) -> Any:
        model, manifest = load_model(*arguments)
        model.register_forward_pre_hook(look)
        return model, manifest

    monkeypatch.setattr("segtune.evaluation.validate.load_model", load)
    return seen


@pytest.mark.parametrize(
    "others",
    [{}, {"workers": 1, "cache_dir": "none"}, {"fit": "crop", "image_size": 32}],
    ids=["cached", "a loader process", "windows"],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_an_evaluation_out_of_memory_is_done_again_in_smaller_batches_as_is_validation(
    tmp_path: Path, data_set: DataSet, restrict: Restrict, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any]
) -> None:
    dataset = data_set(tmp_path / "set", train=3, val=5, size=72 if "fit" in others else 32)
    seen = restrict(evaluation_above(2))
    config = settings(dataset, epochs=2, worst=2, **others)
    results = run(config, tmp_path / "run")
    at_a_time = [2, 2, 2, 2, 1] * 5 if "fit" in others else [2, 2, 1]  # nine windows a tile, or five tiles
    assert [size for training, size in seen if not training] == [4, *at_a_time, *at_a_time]
    assert [result.micro_batch for result in results] == [4, 4]
    found = validate(tmp_path / "run", dataset / "val")  # with memory enough
    assert found.manifest.evaluation_batch_size == found.metrics()["batch_size"] == 2
    assert found.scores.miou == results[-1].best_miou
    sizes = sizes_seen(monkeypatch)
    validate(tmp_path / "run", dataset / "val")
    assert sizes == at_a_time


def test_an_evaluation_scores_the_same_in_whatever_batches(tiles: Path, tmp_path: Path, restrict: Restrict) -> None:
    whole = run(settings(tiles), tmp_path / "whole")
    restrict(evaluation_above(1))
    parts = run(settings(tiles), tmp_path / "parts")
    for one, other in zip(whole, parts, strict=True):
        assert other.scores.miou == pytest.approx(one.scores.miou, abs=1e-3)  # a pixel in a thousand may round over
        assert other.loss == one.loss


def test_the_evaluations_batch_size_is_kept_when_the_run_goes_on(
    tiles: Path, tmp_path: Path, restrict: Restrict
) -> None:
    restrict(evaluation_above(2))
    run(settings(tiles), tmp_path, epochs=1)
    seen = restrict(evaluation_above(2))
    run(settings(tiles), tmp_path, go_on=True)
    assert [size for training, size in seen if not training] == [2, 2, 1] * 2


def test_a_validation_on_a_smaller_device_says_which_batch_size_it_used(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run(settings(tiles), tmp_path / "run")
    sizes = sizes_seen(monkeypatch, limit=1)
    names: list[str] = []
    found = validate(tmp_path / "run", tiles / "val", on_tile=lambda tile, mask: names.append(tile.name))
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert found.metrics()["batch_size"] == 1
    assert len(set(names)) == len(names) == 5
    assert found.scores.miou == pytest.approx(results[-1].best_miou, abs=1e-3)
    monkeypatch.undo()
    sizes_seen(monkeypatch, limit=0)
    with pytest.raises(DeviceMemoryError):
        validate(tmp_path / "run", tiles / "val")
