"""Batches of one tile: they train, and running statistics change only where there is a variance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segtune.models.build import freeze_encoder
from tests.models.networks import ARCHITECTURES, VIT, build, step


@pytest.mark.parametrize("model", [name for name in ARCHITECTURES if name != "dpt"])
def test_every_architecture_trains_with_batches_of_one(model: str) -> None:
    size = 128 if model == "pan" else 64
    network = build(model, size=size).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    before = weights_of(network)
    for tiles in (1, 3, 1):
        assert step(network, optimizer, tiles, size) == pytest.approx(0.7, abs=1.5)
        assert all(module.training for module in network.modules())
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


def test_running_statistics_change_only_where_there_is_a_variance() -> None:
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


@pytest.mark.slow
def test_dpt_trains_with_a_batch_of_one() -> None:
    network = build("dpt", VIT, 224, channels=3).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for tiles in (1, 2, 1):
        assert step(network, optimizer, tiles, 224, channels=3) == pytest.approx(0.7, abs=1.5)
    assert all(module.training for module in network.modules())


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
