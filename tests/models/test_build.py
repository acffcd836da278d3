"""Built networks: every compatible pair trains, and frozen encoders do not change."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from segtune.models.build import freeze_encoder, parameter_count
from segtune.models.compatibility import incompatibility, unknown_encoder
from tests.models.networks import ARCHITECTURES, ENCODER, VIT, build, step


@pytest.mark.parametrize(("model", "size"), [("unet", 37), ("deeplabv3", 40), ("deeplabv3plus", 48), ("pspnet", 40)])
def test_the_smallest_steps_in_size_that_are_let_through_do_work(model: str, size: int) -> None:
    network = build(model).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, size, size)).shape[-2:] == (size, size)


@pytest.mark.slow
def test_dpt_takes_other_sizes_than_its_vit_was_made_for() -> None:
    network = build("dpt", VIT, 64, channels=4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, 64, 64)).shape[-2:] == (64, 64)
    assert "patches of 14" in (incompatibility("dpt", "tu-vit_small_patch14_dinov2", None) or "")


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0", "vgg11_bn"])
def test_every_pair_that_is_not_refused_trains(encoder: str) -> None:
    for model in ARCHITECTURES:
        size = 128 if model == "pan" else 64
        if incompatibility(model, encoder, size):
            continue
        network = build(model, encoder, size, channels=3).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for tiles in (2, 1):
            step(network, optimizer, tiles, size, channels=3)


def state_of(network: nn.Module, part: str) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.get_submodule(part).state_dict().items()}


def changed(before: dict[str, torch.Tensor], network: nn.Module, part: str) -> set[str]:
    return {name for name, value in state_of(network, part).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("encoder", [ENCODER, "mit_b0"])
def test_a_frozen_encoder_does_not_change_and_trains_when_thawed(encoder: str) -> None:
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


SAMPLE = (
    *("tu-edgenext_xx_small", "tu-ghostnet_050", "tu-coat_lite_tiny", "tu-regnetx_002", "tu-halonet26t"),
    *("tu-cait_xxs24_224", "tu-nest_tiny"),
)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", SAMPLE)
def test_an_encoder_of_timm_works_or_is_refused_in_one_line(encoder: str) -> None:
    assert unknown_encoder(encoder) is None
    for model in ("unet", "linknet", "deeplabv3plus", "segformer", "dpt"):
        size = 96
        if message := incompatibility(model, encoder, size):
            assert encoder in message
            assert "\n" not in message
            continue
        network = build(model, encoder, size, channels=3).eval()
        with torch.no_grad():
            assert network(torch.randn(1, 3, size, size)).shape == (1, 1, size, size)
