"""Fixtures: files of weights, a saved model, and a model hub that is out of reach."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import nn

from segtune.data.labels import Labels
from segtune.models.build import build_model, parameter_count
from segtune.models.checkpoint import save_model
from segtune.models.manifest import Manifest
from tests.models.files import LITE, as_torchvision_saves
from tests.models.saved import BANDS, CONFIG


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configure no proxy, and let the hub's client forget earlier ones."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def no_hub(no_proxy: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model hub that is out of reach, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt to open a connection fails the test."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture(scope="session")
def imagenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A safetensors file of timm's tf_efficientnet_lite0, classifier included, trained on ImageNet."""
    script = Path(__file__).parent.parent.parent / "benchmarks" / "pretrained.py"
    spec = importlib.util.spec_from_file_location("pretrained", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.convert(tmp_path_factory.mktemp("weights") / f"{LITE}.safetensors")


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A file with torchvision's names, and smp's encoder with the same weights."""
    path = tmp_path_factory.mktemp("mobilenet") / "mobilenet_v2.pth"
    return path, as_torchvision_saves("mobilenet_v2", "classifier.1", path)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(CONFIG, 4, 3)
    for module in model.modules():  # as trained: statistics of their own
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    return model.eval()


@pytest.fixture(scope="module")
def manifest(network: nn.Module) -> Manifest:
    labels = Labels.from_masks(CONFIG.classes, CONFIG.ignore, [0, 3, 7, 300])
    return Manifest(
        CONFIG,
        labels,
        BANDS,
        uint8=False,
        precision="fp32",
        device="cpu",
        fingerprint="0123abcd",
        parameters=parameter_count(network),
        micro_batch=3,
        evaluation_batch_size=6,
        tiles={"train": 7, "val": 2},
        left_out={"train": 0, "val": 3},
        metrics={"epoch": 3, "miou": 1 / 3, "iou/3": None},
        threads=2,
    )


@pytest.fixture
def saved(tmp_path: Path, network: nn.Module, manifest: Manifest) -> Path:
    save_model(tmp_path / "best", network, manifest)
    return tmp_path / "best"
