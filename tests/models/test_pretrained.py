"""ImageNet weights from a hub: fetched before anything is trained, or one line that says why not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.models.pretrained import fetch_weights
from tests.models.networks import ENCODER, VIT


@pytest.mark.parametrize("encoder", ["resnet18", ENCODER, "mit_b0"])
@pytest.mark.usefixtures("no_hub")
def test_weights_that_cannot_be_downloaded_are_told_of_within_seconds(encoder: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        fetch_weights(encoder)
    assert time.perf_counter() - start < 10
    (message,) = caught.value.mistakes
    assert f"imagenet weights of {encoder}" in message
    assert "127.0.0.1:9" in message
    assert "\n" not in message


def in_cache(repository: Path) -> None:
    """A repository in the hub's cache, with a file of weights."""
    (repository / "snapshots" / "0123").mkdir(parents=True)
    (repository / "snapshots" / "0123" / "model.safetensors").touch()


@pytest.mark.usefixtures("no_hub")
def test_a_broken_download_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "models--smp-hub--resnet18.imagenet" / "blobs").mkdir(parents=True)
    with pytest.raises(InputError, match="out of reach"):
        fetch_weights("resnet18")


def test_a_proxy_that_does_not_answer_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("segtune.models.pretrained.hub.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="out of reach"):
        fetch_weights("resnet18")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The encoders whose weights were asked for, of smp or of timm; nothing is downloaded."""
    asked: list[str] = []
    monkeypatch.setattr("segtune.models.pretrained.smp.encoders.get_encoder", lambda name, weights: asked.append(name))
    monkeypatch.setattr("segtune.models.pretrained.timm.create_model", lambda name, pretrained: asked.append(name))
    return asked


@pytest.fixture
def listening() -> Iterator[str]:
    """A place, localhost:PORT, that takes connections."""
    with socket.create_server(("localhost", 0)) as server:
        yield f"localhost:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_may_be_named_without_a_scheme(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fetched: list[str], listening: str, scheme: str
) -> None:
    monkeypatch.setenv("https_proxy", scheme + listening)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("segtune.models.pretrained.hub.ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr("segtune.models.pretrained.hub.HF_HUB_CACHE", str(tmp_path))
    fetch_weights("resnet18")
    assert fetched == ["resnet18"]


def test_a_hub_that_no_proxy_names_is_asked_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fetched: list[str], listening: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr("segtune.models.pretrained.hub.ENDPOINT", f"https://{listening}")
    monkeypatch.setattr("segtune.models.pretrained.hub.HF_HUB_CACHE", str(tmp_path))
    fetch_weights("resnet18")
    assert fetched == ["resnet18"]


def test_weights_that_are_not_on_the_hub_are_looked_for_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fetched: list[str]
) -> None:
    monkeypatch.setattr("segtune.models.pretrained.getproxies", lambda: {"all": "http://127.0.0.1:9"})
    monkeypatch.setattr("segtune.models.pretrained.proxy_bypass", lambda host: False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"https://github\.com is out of reach"):
        fetch_weights("tu-gcvit_xxtiny")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "gcvit_xxtiny_224_nvidia-d1d86009.pth").touch()
    fetch_weights("tu-gcvit_xxtiny")
    assert fetched == ["gcvit_xxtiny"]


@pytest.mark.usefixtures("no_hub")
def test_a_cache_that_holds_the_weights_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_cache(tmp_path / "models--smp-hub--resnet18.imagenet")
    asked = []
    monkeypatch.setattr(
        "segtune.models.pretrained.smp.encoders.get_encoder", lambda name, weights: asked.append((name, weights))
    )
    fetch_weights("resnet18")
    assert asked == [("resnet18", "imagenet")]


@pytest.mark.usefixtures("no_hub")
def test_whatever_loading_the_weights_raises_becomes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_cache(tmp_path / "models--smp-hub--resnet18.imagenet")

    def broken(name: str, weights: str) -> None:
        raise RuntimeError("half a\nfile")

    monkeypatch.setattr("segtune.models.pretrained.smp.encoders.get_encoder", broken)
    with pytest.raises(InputError) as caught:
        fetch_weights("resnet18")
    (message,) = caught.value.mistakes
    assert "resnet18" in message
    assert "half a file" in message
    assert "\n" not in message


@pytest.mark.usefixtures("no_hub")
def test_weights_of_a_plain_vit_are_fetched_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_cache(tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    asked = []
    monkeypatch.setattr(
        "segtune.models.pretrained.timm.create_model", lambda name, pretrained: asked.append((name, pretrained))
    )
    fetch_weights(VIT)
    assert asked == [("vit_tiny_patch16_224", True)]
