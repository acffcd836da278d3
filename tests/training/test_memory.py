"""Too little memory: a run goes on in smaller parts, says so, and is measured again exactly as it was measured.

There is no GPU here: models raise what torch raises, above a number of tiles at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.errors import DeviceMemoryError, SegtuneError
from segtune.evaluation.validate import validate
from segtune.models.build import build_model
from segtune.models.checkpoint import load_model
from segtune.training.state import load_state
from tests.memory import out_of_memory
from tests.training.runs import (
    DataSet,
    rows,
    run,
    small_pspnet,
)

Limit = Callable[[nn.Module, int], bool]  # whether so many tiles at a time are too many
Restrict = Callable[..., list[tuple[bool, int]]]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set", train=7, val=5)


def settings(dataset: Path, **others: Any) -> RunConfig:
    return small_pspnet(dataset, **{"batch_size": 4, "lr": 1e-2, "augmentation": "safe"} | others)


def limited(patch: pytest.MonkeyPatch, limit: Limit) -> list[tuple[bool, int]]:
    """Let models of runs from here on run out of memory; return a list of what they see: (training, tiles)."""
    seen: list[tuple[bool, int]] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append((module.training, len(inputs[0])))
        if limit(module, len(inputs[0])):
            out_of_memory()

    def build(*arguments: Any) -> nn.Module:
        model = build_model(*arguments)
        model.register_forward_pre_hook(look)
        return model

    patch.setattr("segtune.training.run.build_model", build)
    patch.setattr("segtune.training.train.measure_costs", lambda run: None)  # its passes are not to be counted
    return seen


@pytest.fixture
def restrict(monkeypatch: pytest.MonkeyPatch) -> Restrict:
    """A function that limits the memory of all runs from here on."""
    return partial(limited, monkeypatch)


def training_above(limit: int) -> Limit:
    return lambda module, tiles: module.training and tiles > limit


def evaluation_above(limit: int) -> Limit:
    return lambda module, tiles: not module.training and tiles > limit


def steps_done(module: nn.Module) -> int:
    """How often a model's running statistics were updated: known from its state alone."""
    return next(int(value) for name, value in module.named_buffers() if name.endswith("num_batches_tracked"))


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


@pytest.fixture(scope="module")
def divided(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run that went on in smaller parts and was never stopped: its config and its folder."""
    config = settings(tiles, model="deeplabv3plus", augmentation="hard")  # which draws numbers for dropout
    folder = tmp_path_factory.mktemp("divided") / "run"
    with pytest.MonkeyPatch.context() as patch:
        limited(patch, late)
        assert [result.micro_batch for result in run(config, folder)] == [4, 2, 2]
    return config, folder


@pytest.mark.parametrize("stop", [1, 6, 7])  # before the split; right after it; in an evaluation after it
def test_a_run_in_smaller_parts_that_was_stopped_ends_as_if_not_stopped(
    divided: tuple[RunConfig, Path], tmp_path: Path, restrict: Restrict, stop: int
) -> None:
    config, whole = divided
    restrict(late)
    asked = iter(range(1, 1000))
    run(config, tmp_path, stop=lambda: next(asked) == stop)
    kept = load_state(tmp_path / "state.pt")["progress"]["micro_batch"]
    assert kept == (4 if stop == 1 else 2)
    seen = restrict(late)
    run(config, tmp_path, go_on=True)
    assert ((True, 4) in seen) == (stop == 1)  # what did not fit before is not tried again
    assert rows(tmp_path) == rows(whole)


def test_a_run_in_smaller_parts_that_broke_off_repeats_the_epoch_exactly(
    divided: tuple[RunConfig, Path], tmp_path: Path, restrict: Restrict
) -> None:
    config, whole = divided
    restrict(late)

    def break_off(done: int, total: int, loss: float) -> None:
        if len(rows(tmp_path)) == 1 and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, on_batch=break_off)
    run(config, tmp_path, go_on=True)
    assert rows(tmp_path) == rows(whole)


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

    monkeypatch.setattr("segtune.evaluation.opened.load_model", load)
    return seen


@pytest.mark.parametrize(
    "others",
    [{}, {"workers": 1, "cache_dir": "none"}, {"fit": "crop", "image_size": 32}],
    ids=["cached", "a loader process", "windows"],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_an_evaluation_out_of_memory_is_repeated_in_smaller_batches(
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
    found = validate(tmp_path / "run", tiles / "val", on_tile=lambda seen: names.append(seen.tile.name))
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert found.metrics()["batch_size"] == 1
    assert len(set(names)) == len(names) == 5
    assert found.scores.miou == pytest.approx(results[-1].best_miou, abs=1e-3)
    monkeypatch.undo()
    sizes_seen(monkeypatch, limit=0)
    with pytest.raises(DeviceMemoryError):
        validate(tmp_path / "run", tiles / "val")
