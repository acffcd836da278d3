"""Saved models: written completely or not at all, loaded without executing anything."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from segtune.errors import InputError
from segtune.files.folders import find_model
from segtune.models.checkpoint import load_model, save_model
from segtune.models.manifest import Manifest
from tests.models.saved import CPU, outputs, refused


def test_a_model_comes_back_exactly(saved: Path, network: nn.Module, manifest: Manifest) -> None:
    model, read = load_model(saved, CPU)
    assert read == manifest
    assert not model.training
    assert torch.equal(outputs(model), outputs(network))


def test_smp_alone_reads_the_folder(saved: Path, network: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    model = smp.from_pretrained(str(saved)).eval().to(memory_format=torch.channels_last)
    assert torch.equal(outputs(model), outputs(network))
    assert {"config.json", "model.safetensors", "run.yaml"} <= {path.name for path in saved.iterdir()}
    assert not [path for path in saved.parent.iterdir() if path != saved]


def test_loading_prints_nothing(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(saved, CPU)
    assert capfd.readouterr() == ("", "")


def test_a_loaded_model_asks_for_no_pretrained_weights(tmp_path: Path, network: nn.Module, manifest: Manifest) -> None:
    network.config["encoder_weights"] = "imagenet"
    save_model(tmp_path / "best", network, manifest)
    text = (tmp_path / "best" / "config.json").read_text(encoding="utf-8")
    assert '"encoder_weights": null' in text


def test_saving_again_replaces_the_model(saved: Path, network: nn.Module, manifest: Manifest) -> None:
    save_model(saved, network, manifest.with_metrics({"miou": 0.9}))
    assert load_model(saved, CPU)[1].metrics == {"miou": 0.9}
    assert [path.name for path in saved.parent.iterdir()] == ["best"]


@pytest.mark.parametrize("where", ["search", "model"])
def test_a_model_is_found_in_its_own_folder_and_in_that_around_it(saved: Path, where: str) -> None:
    assert find_model(saved.parent if where == "search" else saved) == saved


def test_a_folder_without_a_model_or_that_is_none_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=str(folder)):
            find_model(folder)


def test_a_model_that_a_kill_left_aside_is_found(saved: Path) -> None:
    os.replace(saved, saved.with_name(".best.old"))
    assert find_model(saved.parent) == saved
    assert load_model(saved, CPU)


def test_missing_weights_are_told_of_by_folder(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert str(saved) in refused(saved)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        find_model(saved)


def test_cut_off_weights_are_told_of_by_folder(saved: Path) -> None:
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert str(saved) in refused(saved)


def test_a_broken_config_json_is_told_of_by_folder(saved: Path) -> None:
    (saved / "config.json").write_text("{", encoding="utf-8")
    assert str(saved) in refused(saved)


@pytest.mark.filterwarnings("ignore:(?s).*Mismatched keys:UserWarning")
def test_weights_of_another_network_are_told_of_by_folder(saved: Path) -> None:
    path = saved / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"classes": 3', '"classes": 5'), encoding="utf-8")
    assert str(saved) in refused(saved)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_name", "tu-hf_hub:user/model"),
        ("_model_class", "DPT"),
        ("in_channels", 10**9),
        ("decoder_channels", [10**9] * 5),
        ("encoder_weights", "imagenet"),
    ],
)
def test_a_changed_config_json_uses_neither_network_nor_memory(
    saved: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the network is used")

    monkeypatch.setattr("socket.socket.connect", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    path = saved / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {name: value}), encoding="utf-8")
    if name == "encoder_weights":  # the model has its own weights
        assert load_model(saved, CPU)
    else:
        assert refused(saved).startswith(f"{path}: {name} is ")


@pytest.mark.parametrize("how", ["pipe", "missing", "huge", "list"])
def test_a_config_json_that_is_none_is_one_line(saved: Path, how: str) -> None:
    path = saved / "config.json"
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how != "missing":
        path.write_text("[1]" if how == "list" else "[" * 2_000_000)
    assert refused(saved).startswith(f"{path}: ")


@pytest.mark.parametrize("how", ["complex", "int", "nan", "shape"])
def test_weights_that_are_no_weights_are_one_line(saved: Path, how: str) -> None:
    tensors = load_file(saved / "model.safetensors")
    name = next(name for name in tensors if name.endswith("weight"))
    kind = {"complex": torch.complex64, "int": torch.int32}.get(how, torch.float32)
    shape = (1, *tensors[name].shape) if how == "shape" else tensors[name].shape
    tensors[name] = torch.full(shape, math.nan if how == "nan" else 1, dtype=kind)
    save_file(tensors, saved / "model.safetensors")
    assert refused(saved).startswith(f"{saved}: the model cannot be loaded ({name} ")


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_models_get_the_users_umask(tmp_path: Path, network: nn.Module, manifest: Manifest, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_model(tmp_path / "best", network, manifest)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes.pop("best") == 0o777 & ~umask
    assert "model.safetensors" in modes
    assert set(modes.values()) == {0o666 & ~umask}
