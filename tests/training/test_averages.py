"""ema: the average of the weights is what a run evaluates and keeps, and it goes on exactly."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from segtune.config import RunConfig
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.training.state import TrainingState, load_state
from tests.training.runs import CPU, left, other, refusal, run, small_pspnet

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def averaged(tiles: Path, **others: Any) -> RunConfig:
    """Three epochs of three steps."""
    return small_pspnet(tiles, **{"batch_size": 2, "lr": 1e-2, "ema": 0.4, **others})


@pytest.fixture(scope="module")
def whole(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run with an average that was never stopped."""
    config, folder = averaged(tiles), tmp_path_factory.mktemp("averaged") / "run"
    run(config, folder)
    return config, folder


def test_weights_and_running_statistics_are_averaged_after_every_step(
    whole: tuple[RunConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = whole
    average: dict[str, Tensor] = {}
    step_done, steps = TrainingState.step_done, itertools.count(1)

    def averaging(state: TrainingState) -> None:
        step_done(state)
        before = next(steps) - 1
        decay = min(0.4, before / (9 + before))  # 0 in the first step, 0.4 from the seventh on
        for name, value in state.model.state_dict().items():
            averages = name in average and value.is_floating_point()
            average[name] = decay * average[name] + (1 - decay) * value if averages else value.clone()

    monkeypatch.setattr(TrainingState, "step_done", averaging)
    run(config, tmp_path)
    state = load_state(tmp_path / "state.pt")
    assert next(steps) == 10
    assert state["average"].keys() == average.keys()
    for name, value in average.items():
        torch.testing.assert_close(state["average"][name], value, msg=name)
    last = "segmentation_head.0.weight"
    assert not torch.equal(state["average"][last], state["model"][last])


def test_a_stopped_run_goes_on_with_its_average_exactly(whole: tuple[RunConfig, Path], tmp_path: Path) -> None:
    config, folder = whole
    for batches in (2, 4, 1, 5):  # within an epoch, in an evaluation, ...
        asked = iter(range(1, 1000))
        run(config, tmp_path, go_on=True, stop=lambda asked=asked, batches=batches: next(asked) == batches)
        torch.rand(7)
    run(config, tmp_path, go_on=True)
    assert left(tmp_path) == left(folder)


def test_best_holds_the_averaged_model_and_validates_to_its_score(whole: tuple[RunConfig, Path]) -> None:
    config, folder = whole
    state = load_state(folder / "state.pt")
    best = load_file(folder / "best" / "model.safetensors")
    if state["progress"]["best_epoch"] == config.epochs:
        assert all(torch.equal(value, state["average"][name]) for name, value in best.items())
    found = validate(folder, Path(config.dataset) / "val", device="cpu")
    assert found.scores.miou == state["progress"]["best_miou"]
    assert load_model(folder / "best", CPU)[1].metrics["miou"] == found.scores.miou


def test_the_average_changes_the_scores_and_not_the_training(whole: tuple[RunConfig, Path], tmp_path: Path) -> None:
    config, folder = whole
    run(other(config, ema=0.0), tmp_path)
    with_average, without = load_state(folder / "state.pt"), load_state(tmp_path / "state.pt")
    assert without["average"] is None
    assert all(torch.equal(value, without["model"][name]) for name, value in with_average["model"].items())
    assert with_average["row"]["loss"] == without["row"]["loss"]


def test_a_frozen_encoder_stays_as_it_is_in_the_average(tiles: Path, tmp_path: Path) -> None:
    run(averaged(tiles, freeze_encoder_epochs=2), tmp_path, epochs=2)
    state = load_state(tmp_path / "state.pt")
    encoder = [name for name in state["model"] if name.startswith("encoder.")]
    assert all(torch.equal(state["model"][name], state["average"][name]) for name in encoder)
    assert state["average"]["encoder.model.conv_stem.weight"].is_contiguous(memory_format=torch.channels_last)


def test_a_damaged_average_is_named(whole: tuple[RunConfig, Path], tmp_path: Path) -> None:
    config, _ = whole
    folder = tmp_path / "run"
    run(config, folder, epochs=1)
    state = load_state(folder / "state.pt")
    state["average"].popitem()
    torch.save(state, folder / "state.pt")
    assert "state.pt: damaged, or not the state of this run" in refusal(config, folder)


def test_a_state_of_the_first_release_goes_on(tiles: Path, tmp_path: Path) -> None:
    config = small_pspnet(tiles, batch_size=2, lr=1e-2)
    run(config, tmp_path / "whole")
    folder = RunFolder(tmp_path / "run")
    run(config, folder.path, epochs=1)
    state = load_state(folder.state)
    del state["average"], state["progress"]["stale_epochs"]
    torch.save(state, folder.state)
    run(config, folder.path, go_on=True)
    assert left(folder.path) == left(tmp_path / "whole")
