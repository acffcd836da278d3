"""Encoders from the command line: weights from a file, freezing, learning rate, and the input that they know."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.training.state import load_state
from segtune.training.train import train
from tests.cli.runs import (
    DataSet,
    Plain,
    measures_the_same,
    refused,
    settings,
    trained,
)
from tests.scripts import call

pytestmark = pytest.mark.usefixtures("blank_charts")


def encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's weights and running statistics; how many batches BatchNorm has seen matters to nothing."""
    return {
        name: value
        for name, value in state.items()
        if name.startswith("encoder.") and not name.endswith("num_batches_tracked")
    }


def test_a_frozen_encoder_from_a_file_stays_unchanged_and_then_trains(plain: Plain, tmp_path: Path) -> None:
    start = plain.folder.best / "model.safetensors"
    changes = {"encoder_weights": str(start), "freeze_encoder_epochs": 1, "loss": "dice+bce"}
    config = RunConfig.from_settings({**settings(plain.folder), **changes})
    folder, info = RunFolder(tmp_path / "run"), scan(config)
    with closing(train(config, info, folder)) as epochs:
        list(islice(epochs, 1))
    before, after = encoder_of(load_file(start)), encoder_of(load_state(folder.state)["model"])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    # The rest of the network was trained meanwhile.
    whole, state = load_file(start), load_state(folder.state)["model"]
    assert not any(torch.equal(whole[name], state[name]) for name in whole if name.endswith("conv1.0.weight"))

    ended = call("run_single", "--exp-name", "run", "-log", tmp_path)
    assert (ended.status, ended.err) == (0, "")
    after = encoder_of(load_state(folder.state)["model"])
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("running_mean"))
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("conv_pw.weight"))
    measures_the_same(folder, plain.dataset / "val", tmp_path / "out")


def test_the_encoder_learns_as_much_slower_as_asked_for(plain: Plain, tmp_path: Path) -> None:
    start = plain.folder.best / "model.safetensors"
    moved = {}
    for factor in (1, 0.001):
        flags = ["--encoder-weights", start, "--encoder-lr-factor", factor, "-e", 1]
        folder = trained(plain.dataset, tmp_path, *flags, name=f"factor{factor}")
        before, after = encoder_of(load_file(start)), load_state(folder.state)["model"]
        weights = [name for name in before if name.endswith("conv_pw.weight")]
        moved[factor] = max(float((after[name] - before[name]).abs().max()) for name in weights)
    assert moved[1] > 1e-3
    assert 0 < moved[0.001] < moved[1] / 100


def test_the_input_that_an_encoder_knows_is_stored_and_validated_with(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set")
    flags = ["--add-dirs", "nir"]
    own = trained(dataset, tmp_path, *flags, name="own")
    folder = trained(dataset, tmp_path, *flags, "--normalization", "encoder", "--rgb", "3,2,1", name="encoder")
    usual, bands = Manifest.read(own.run_yaml).bands, Manifest.read(folder.best / "run.yaml").bands
    # ImageNet's blue, green and red.
    assert [band.mean for band in bands[:3]] == pytest.approx([0.406 * 255, 0.456 * 255, 0.485 * 255])
    assert [band.std for band in bands[:3]] == pytest.approx([0.225 * 255, 0.224 * 255, 0.229 * 255])
    assert bands[3] == usual[3]
    assert all(abs(band.mean - other.mean) > 1 for band, other in zip(bands[:3], usual[:3], strict=True))
    measures_the_same(folder, dataset / "val", tmp_path / "out")


def test_the_input_that_an_encoder_knows_is_8_bit(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set", channels=(), dtype="uint16", suffix=".tif")
    (line,) = refused(dataset, tmp_path / "logs", "--normalization", "encoder")
    assert line.startswith("normalization: ")
    assert "8-bit" in line
