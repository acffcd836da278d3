"""ImageNet weights from a hub: fetched before anything is trained, or one line that says why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
from safetensors.torch import save_file

from segtune.errors import InputError
from segtune.models.build import check_weights
from segtune.models.pretrained import fetch_weights
from tests.models.networks import ENCODER, VIT

RESNET18 = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
OF_VIT = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def refusal(encoder: str) -> str:
    """Return the one line that says why an encoder's weights are not available."""
    with pytest.raises(InputError) as caught:
        check_weights([("unet", encoder, "imagenet")])
    (message,) = caught.value.mistakes
    assert "\n" not in message
    assert message.startswith(f"encoder_weights: imagenet weights of {encoder} cannot be ")
    return message


def put_into_cache(cache: Path, repository: str, revision: str) -> None:
    """Put a repository with a file of weights into the hub's cache, as its main branch."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / revision).mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / "snapshots" / revision / name).touch()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the loaders of smp and timm; returns a list of the encoders that they are asked for."""
    asked: list[str] = []

    def by_smp(name: str, weights: str) -> None:
        assert weights == "imagenet"
        asked.append(name)

    def by_timm(name: str, pretrained: bool) -> None:
        assert pretrained
        asked.append(name)

    monkeypatch.setattr("segtune.models.pretrained.smp.encoders.get_encoder", by_smp)
    monkeypatch.setattr("segtune.models.pretrained.timm.create_model", by_timm)
    return asked


class Nothing(BaseHTTPRequestHandler):
    """Answers everything with "not found"."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_HEAD = do_CONNECT = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def answering() -> Iterator[str]:
    """Start a server that also answers as a proxy; yields localhost:PORT."""
    with HTTPServer(("localhost", 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("encoder", ["resnet18", ENCODER, "mit_b0"])
@pytest.mark.usefixtures("no_hub")
def test_a_hub_out_of_reach_is_told_of_within_seconds(encoder: str) -> None:
    start = time.perf_counter()
    assert "http://127.0.0.1:9 is out of reach" in refusal(encoder)
    assert time.perf_counter() - start < 10


@pytest.mark.usefixtures("no_hub")
def test_a_broken_download_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "models--smp-hub--resnet18.imagenet" / "blobs").mkdir(parents=True)
    assert "out of reach" in refusal("resnet18")


@pytest.mark.usefixtures("no_hub")
def test_a_proxy_that_does_not_answer_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    assert "https://hub.invalid is out of reach" in refusal("resnet18")


@pytest.mark.parametrize("scheme", ["", "http://"])
@pytest.mark.usefixtures("no_hub")
def test_a_proxy_may_be_named_without_a_scheme(
    monkeypatch: pytest.MonkeyPatch, loaded: list[str], answering: str, scheme: str
) -> None:
    monkeypatch.setenv("http_proxy", scheme + answering)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.invalid")
    assert fetch_weights(["resnet18"]) == {}
    assert loaded == ["resnet18"]


@pytest.mark.usefixtures("no_hub")
def test_a_hub_under_no_proxy_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, loaded: list[str], answering: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://{answering}")
    assert fetch_weights(["resnet18"]) == {}
    assert loaded == ["resnet18"]


@pytest.mark.usefixtures("no_hub")
def test_weights_outside_the_hub_are_looked_for_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loaded: list[str]
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "https://github.com is out of reach" in refusal("tu-gcvit_xxtiny")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "gcvit_xxtiny_224_nvidia-d1d86009.pth").touch()
    assert fetch_weights(["tu-gcvit_xxtiny"]) == {}
    assert loaded == ["gcvit_xxtiny"]


@pytest.mark.usefixtures("no_hub", "offline")
def test_cached_weights_need_no_hub(tmp_path: Path, loaded: list[str]) -> None:
    put_into_cache(tmp_path, RESNET18["repo_id"], RESNET18["revision"])
    put_into_cache(tmp_path, OF_VIT, "0123")
    assert fetch_weights(["resnet18", VIT]) == {}
    assert loaded == ["resnet18", VIT.removeprefix("tu-")]


@pytest.mark.parametrize("encoder", ["mobilenet_v2", ENCODER])
@pytest.mark.usefixtures("no_hub")
def test_cached_weights_load_while_the_hub_is_out_of_reach(tmp_path: Path, encoder: str) -> None:
    if encoder == ENCODER:
        name = encoder.removeprefix("tu-")
        network, repository, revision = timm.create_model(name), timm.models.get_pretrained_cfg(name).hf_hub_id, "0123"
    else:
        settings = smp.encoders.encoders[encoder]["pretrained_settings"]["imagenet"]
        network = smp.encoders.get_encoder(encoder, weights=None)
        repository, revision = settings["repo_id"], settings["revision"]
    put_into_cache(tmp_path, repository, revision)
    (snapshot,) = tmp_path.glob("*/snapshots/*")
    (snapshot / "config.json").write_text("{}")
    save_file(network.state_dict(), snapshot / "model.safetensors")
    start = time.perf_counter()
    assert fetch_weights([encoder]) == {}
    assert time.perf_counter() - start < 10


@pytest.mark.usefixtures("no_hub")
def test_whatever_loading_raises_becomes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_into_cache(tmp_path, RESNET18["repo_id"], RESNET18["revision"])

    def broken(name: str, weights: str) -> None:
        raise RuntimeError("half a\nfile")

    monkeypatch.setattr("segtune.models.pretrained.smp.encoders.get_encoder", broken)
    assert "imagenet weights of resnet18 cannot be loaded (RuntimeError: half a file); " in refusal("resnet18")
