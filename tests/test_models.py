"""Architectures and encoders: what goes together, what is told otherwise, and batches of one tile."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segtune.config import Architecture, RunConfig
from segtune.errors import InputError
from segtune.models import (
    build_model,
    check_models,
    fetch_weights,
    impossible,
    parameter_count,
    unknown_encoder,
)

ARCHITECTURES = get_args(Architecture)
ENCODER = "tu-mobilenetv3_small_050"
VIT = "tu-vit_tiny_patch16_224"


def build(model: str, encoder: str = ENCODER, size: int = 64, channels: int = 4, outputs: int = 1) -> nn.Module:
    config = RunConfig.from_settings({"model": model, "encoder": encoder, "image_size": size})
    torch.manual_seed(0)
    return build_model(config, channels, outputs)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, tiles: int, size: int, channels: int = 4) -> float:
    """A training step on noise; its loss."""
    images = torch.randn(tiles, channels, size, size).to(memory_format=torch.channels_last)
    logits = model(images)
    assert logits.shape == (tiles, 1, size, size)
    loss = F.binary_cross_entropy_with_logits(logits, (images[:, :1] > 0).float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.item())


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


# Encoders that exist, and those that do not.


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "mit_b0", ENCODER, "tu-resnet18.a1_in1k"])
def test_encoders_of_smp_and_of_timm_are_known(name: str) -> None:
    assert unknown_encoder(name) is None


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("resnet81", "resnet18"),
        ("efficientnet_b0", "efficientnet-b0"),
        ("ResNet34", "resnet34"),
        ("tu-mobilenetv3_smal_050", ENCODER),
        ("mobilenetv3_small_050", ENCODER),
    ],
)
def test_an_unknown_encoder_comes_with_the_nearest_known_one(given: str, meant: str) -> None:
    message = unknown_encoder(given)
    assert message is not None
    assert repr(given) in message
    assert f"did you mean {meant!r}?" in message


def test_an_encoder_like_no_other_is_refused_without_a_suggestion() -> None:
    message = unknown_encoder("qqqqqqqq")
    assert message is not None
    assert "did you mean" not in message


# Pairs and sizes.


@pytest.mark.parametrize(
    ("model", "encoder"),
    [
        ("unetplusplus", "mit_b0"),
        ("linknet", "mit_b2"),
        ("deeplabv3plus", "vgg16_bn"),
        ("deeplabv3plus", "tu-vgg16"),
        ("deeplabv3", "densenet121"),
        ("pan", "xception"),
        ("pan", "tu-swin_tiny_patch4_window7_224"),
        ("dpt", "resnet18"),
        ("dpt", "tu-resnet18"),
        ("unet", VIT),
        ("segformer", "tu-deit_tiny_patch16_224"),
    ],
)
def test_impossible_pairs_are_refused_by_name(model: str, encoder: str) -> None:
    message = impossible(model, encoder, None)
    assert message is not None
    assert model in message
    assert encoder in message


@pytest.mark.parametrize(
    ("model", "encoder"),
    [("unet", "mit_b0"), ("segformer", "mit_b0"), ("unet", "vgg16_bn"), ("dpt", VIT), ("unetplusplus", "resnet18")],
)
def test_possible_pairs_pass(model: str, encoder: str) -> None:
    assert impossible(model, encoder, None) is None


@pytest.mark.parametrize(
    ("model", "size", "number"),
    [
        ("fpn", 48, "32"),
        ("manet", 100, "32"),
        ("segformer", 144, "32"),
        ("deeplabv3", 60, "8"),
        ("pspnet", 60, "8"),
        ("deeplabv3plus", 40, "16"),
        ("pan", 130, "16"),
        ("pan", 112, "128"),
    ],
)
def test_image_sizes_that_an_architecture_cannot_take_are_refused(model: str, size: int, number: str) -> None:
    message = impossible(model, ENCODER, size)
    assert message is not None
    assert f"image_size {size}" in message
    assert number in message
    assert model in message


@pytest.mark.parametrize(
    ("model", "size"), [("unet", 37), ("fpn", 96), ("deeplabv3", 40), ("deeplabv3plus", 48), ("pan", 128), ("dpt", 224)]
)
def test_image_sizes_that_an_architecture_can_take_pass(model: str, size: int) -> None:
    assert impossible(model, VIT if model == "dpt" else ENCODER, size) is None


@pytest.mark.parametrize(("model", "size"), [("unet", 37), ("deeplabv3", 40), ("deeplabv3plus", 48), ("pspnet", 40)])
def test_the_smallest_steps_in_size_that_are_let_through_do_work(model: str, size: int) -> None:
    network = build(model).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, size, size)).shape[-2:] == (size, size)


def test_of_a_whole_search_every_mistake_is_told_once() -> None:
    found = check_models(["unet", "fpn", "linknet"], ["mit_b0", "resnet18"], [64, 100])
    assert len(found) == len(set(found)) == 3
    text = "\n".join(found)
    assert "linknet does not work with encoder mit_b0" in text
    assert "fpn needs" in text
    assert "linknet needs" in text
    assert check_models(["unet"], ["resnet18"], [None, 100]) == []


# Networks.


@pytest.mark.parametrize("model", [name for name in ARCHITECTURES if name != "dpt"])
def test_an_architecture_trains_with_a_batch_of_one_and_with_a_last_batch_of_one(model: str) -> None:
    size = 128 if model == "pan" else 64
    network = build(model, size=size).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    before = weights_of(network)
    for tiles in (1, 3, 1):
        assert step(network, optimizer, tiles, size) == pytest.approx(0.7, abs=1.5)
        assert all(module.training for module in network.modules())
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


@pytest.mark.slow
def test_dpt_trains_with_a_batch_of_one() -> None:
    network = build("dpt", VIT, 224, channels=3).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for tiles in (1, 2, 1):
        assert step(network, optimizer, tiles, 224, channels=3) == pytest.approx(0.7, abs=1.5)
    assert all(module.training for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0", "vgg11_bn"])
def test_every_pair_that_is_not_refused_trains(encoder: str) -> None:
    for model in ARCHITECTURES:
        size = 128 if model == "pan" else 64
        if impossible(model, encoder, size):
            continue
        network = build(model, encoder, size, channels=3).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for tiles in (2, 1):
            step(network, optimizer, tiles, size, channels=3)


def norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


def test_running_statistics_move_with_normal_batches_and_stay_where_one_value_has_no_variance() -> None:
    network = build("deeplabv3plus").train()
    sizes: dict[str, int] = {}
    for name, module in norms(network).items():
        module.register_forward_pre_hook(lambda m, x, name=name: sizes.update({name: x[0].numel() // x[0].shape[1]}))
    for tiles in (1, 3):
        before = {name: module.running_mean.clone() for name, module in norms(network).items()}
        network(torch.randn(tiles, 4, 64, 64))
        moved = {name for name, module in norms(network).items() if not torch.equal(module.running_mean, before[name])}
        assert moved == {name for name, size in sizes.items() if size > 1}
        assert all(module.training for module in norms(network).values())
        if tiles == 1:
            assert 1 in sizes.values()  # deeplabv3+ pools to 1x1
            assert len(moved) > 10
        else:
            assert 1 not in sizes.values()


def test_in_evaluation_mode_nothing_moves() -> None:
    network = build("deeplabv3plus").eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network(torch.randn(1, 4, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())


def test_weights_lie_in_channels_last_memory() -> None:
    network = build("unet")
    kernels = [p for p in network.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_parameter_count_is_that_of_the_parameters() -> None:
    assert parameter_count(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))) == 3 * 2 + 2 + 2 + 2


def test_building_a_model_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("unet")


# Pretrained weights.


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A model hub that is out of reach, and an empty cache."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("segtune.models.hub.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("segtune.models.hub.HF_HUB_CACHE", str(tmp_path))


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


@pytest.mark.usefixtures("no_hub")
def test_a_cache_that_holds_the_weights_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models--smp-hub--resnet18.imagenet").mkdir()
    asked = []
    monkeypatch.setattr("segtune.models.smp.encoders.get_encoder", lambda name, weights: asked.append((name, weights)))
    fetch_weights("resnet18")
    assert asked == [("resnet18", "imagenet")]


@pytest.mark.usefixtures("no_hub")
def test_whatever_loading_the_weights_raises_becomes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models--smp-hub--resnet18.imagenet").mkdir()

    def broken(name: str, weights: str) -> None:
        raise RuntimeError("half a\nfile")

    monkeypatch.setattr("segtune.models.smp.encoders.get_encoder", broken)
    with pytest.raises(InputError) as caught:
        fetch_weights("resnet18")
    (message,) = caught.value.mistakes
    assert "resnet18" in message
    assert "half a file" in message
    assert "\n" not in message
