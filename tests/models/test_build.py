"""Architectures and encoders: what goes together, what is told otherwise, frozen encoders, and batches of one tile."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segtune.config import Architecture, RunConfig
from segtune.data.bands import Band
from segtune.errors import InputError
from segtune.models.build import (
    build_model,
    freeze_encoder,
    impossible,
    parameter_count,
    unknown_encoder,
)
from segtune.models.pretrained import fetch_weights, input_statistics

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
        ("tu-resnet18.a1_in1kk", "tu-resnet18.a1_in1k"),
        ("timm-resnet26", "tu-resnet26"),
        ("timm-convnext_tiny", "tu-convnext_tiny"),
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
def test_dpt_takes_other_sizes_than_its_vit_was_made_for() -> None:
    network = build("dpt", VIT, 64, channels=4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, 64, 64)).shape[-2:] == (64, 64)
    assert "patches of 14" in (impossible("dpt", "tu-vit_small_patch14_dinov2", None) or "")


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


def state_of(network: nn.Module, part: str) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.get_submodule(part).state_dict().items()}


def changed(before: dict[str, torch.Tensor], network: nn.Module, part: str) -> set[str]:
    return {name for name, value in state_of(network, part).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("encoder", [ENCODER, "mit_b0"])
def test_a_frozen_encoder_stays_as_it_is_to_the_last_statistic_and_then_trains(encoder: str) -> None:
    network = build("unet", encoder, channels=3)
    # Its decay moves whatever has a gradient, a zero one too.
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    for frozen in (True, True, False):
        network.train()
        freeze_encoder(network, frozen)
        before = state_of(network, "encoder"), state_of(network, "decoder")
        step(network, optimizer, 2, 64, channels=3)
        moved = changed(before[0], network, "encoder")
        assert changed(before[1], network, "decoder")
        if frozen:
            assert not moved
            assert not any(module.training for module in network.get_submodule("encoder").modules())
            assert all(parameter.grad is None for parameter in network.get_submodule("encoder").parameters())
        else:
            assert len(moved) > 0.9 * len(before[0])
            assert all(module.training for module in network.modules())


def test_a_frozen_encoder_drops_nothing() -> None:
    network = build("unet", "mit_b0", channels=3).train()
    images = torch.randn(1, 3, 64, 64)

    def features() -> torch.Tensor:
        return network.get_submodule("encoder")(images)[-1]

    assert not torch.equal(features(), features())  # stochastic depth
    freeze_encoder(network, True)
    assert torch.equal(features(), features())


def test_batches_of_one_train_beside_a_frozen_encoder_and_after_it() -> None:
    network = build("deeplabv3plus")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for frozen in (True, False):
        network.train()
        freeze_encoder(network, frozen)
        for tiles in (1, 3):
            step(network, optimizer, tiles, 64)
            assert all(module.training for module in network.get_submodule("decoder").modules())
            assert all(module.training != frozen for module in network.get_submodule("encoder").modules())


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


# What the input is normalised with.

BANDS = tuple(
    Band(name, mean=float(number), std=10.0 + number, low=0.0, high=200.0)
    for number, name in enumerate(["image:1", "image:2", "image:3", "image:4", "nir"], start=1)
)
INCEPTION = ((0.5,) * 3, (0.5,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def statistics(bands: tuple[Band, ...], uint8: bool = True, **settings: Any) -> tuple[Band, ...]:
    return input_statistics(RunConfig.from_settings({"normalization": "encoder", **settings}), bands, uint8)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("resnet18", IMAGENET),
        ("se_resnet50", IMAGENET),
        ("mit_b0", IMAGENET),
        ("efficientnet-b0", IMAGENET),
        ("timm-efficientnet-b0", IMAGENET),
        ("timm-tf_efficientnet_lite0", INCEPTION),
        ("xception", INCEPTION),
        ("inceptionv4", INCEPTION),
        ("inceptionresnetv2", INCEPTION),
        ("dpn68", ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)),
        (ENCODER, IMAGENET),
        ("tu-tf_efficientnet_lite0", INCEPTION),
        (VIT, INCEPTION),
        ("tu-vit_base_patch16_clip_224.openai", ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_the_encoders_own_mean_and_deviation_are_known_without_the_hub(encoder: str, expected: Any) -> None:
    found = statistics(BANDS, encoder=encoder)
    assert [band.mean / 255 for band in found[:3]] == pytest.approx(expected[0], abs=1e-4)
    assert [band.std / 255 for band in found[:3]] == pytest.approx(expected[1], abs=1e-4)


def test_they_are_those_of_the_rgb_bands_and_all_else_stays() -> None:
    found = statistics(BANDS, encoder="resnet18", rgb=[4, 2, 1])  # red is the fourth band
    assert [round(band.mean / 255, 3) for band in found] == [0.406, 0.456, round(3 / 255, 3), 0.485, round(5 / 255, 3)]
    assert found[2] == BANDS[2]
    assert found[4] == BANDS[4]
    assert [(band.name, band.low, band.high) for band in found] == [(band.name, 0.0, 200.0) for band in BANDS]


@pytest.mark.parametrize("uint8", [True, False])
def test_the_datas_own_statistics_stay(uint8: bool) -> None:
    assert statistics(BANDS, uint8, normalization="data") == BANDS
    assert statistics(BANDS[3:], uint8, normalization="data", rgb=[1, 2, 3]) == BANDS[3:]


@pytest.mark.parametrize(
    ("bands", "uint8", "rgb", "said"),
    [
        (BANDS, False, [], "normalization: encoder is for 8-bit images"),
        (BANDS, True, [2], "normalization: encoder needs three bands, red, green and blue"),
        (BANDS[:1] + BANDS[4:], True, [], "normalization: encoder needs three bands, red, green and blue"),
        (BANDS[:2], True, [1, 2, 3], "rgb: there is no band 3"),
    ],
)
def test_an_encoders_statistics_need_three_8_bit_bands(
    bands: tuple[Band, ...], uint8: bool, rgb: list[int], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        statistics(bands, uint8, rgb=rgb)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(said)


# Pretrained weights.


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A model hub that is out of reach, and an empty cache."""
    monkeypatch.setattr("segtune.models.pretrained.getproxies", dict)
    monkeypatch.setattr("segtune.models.pretrained.hub.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("segtune.models.pretrained.hub.HF_HUB_CACHE", str(tmp_path))


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
