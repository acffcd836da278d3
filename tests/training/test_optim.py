"""Optimizers and learning-rate schedules, looked at through the rates that they give, step by step."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from segtune.config import RunConfig
from segtune.training.optim import build_optimizer, build_schedule, lower_learning_rates, rate_at, set_learning_rates

STEPS = 5  # per epoch


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def rates(**settings: Any) -> list[float]:
    """The learning rate of every step of a run."""
    config = RunConfig.from_settings(settings)
    optimizer = build_optimizer(config, network())
    schedule = build_schedule(config, optimizer, STEPS)
    found = []
    for _ in range(config.epochs * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_cosine_and_poly_start_at_lr_only_fall_and_end_near_zero(schedule: str) -> None:
    found = rates(lr_schedule=schedule, lr=0.1, epochs=10)
    assert found[0] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in pairwise(found))
    assert 0 < found[-1] < 0.1 * 0.05


def test_cosine_is_at_half_in_the_middle_and_poly_follows_its_power() -> None:
    assert rates(lr_schedule="cosine", lr=0.1, epochs=10)[25] == pytest.approx(0.05)
    assert rates(lr_schedule="poly", lr=0.1, epochs=10)[25] == pytest.approx(0.1 * 0.5**0.9)


def test_constant_stays() -> None:
    assert rates(lr_schedule="constant", lr=0.1, epochs=3) == pytest.approx([0.1] * 15)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant", "step", "plateau"])
def test_the_warm_up_rises_to_lr_in_equal_steps(schedule: str) -> None:
    found = rates(lr_schedule=schedule, lr=0.1, epochs=6, warmup_epochs=2)
    assert found[: 2 * STEPS] == pytest.approx([0.1 * (step + 1) / (2 * STEPS) for step in range(2 * STEPS)])
    assert max(found) == pytest.approx(0.1)
    assert found[2 * STEPS] == pytest.approx(0.1)


def test_after_a_warm_up_cosine_still_ends_near_zero() -> None:
    assert rates(lr_schedule="cosine", lr=0.1, epochs=6, warmup_epochs=2)[-1] < 0.1 * 0.05


@pytest.mark.parametrize("warmup", [0, 5])
def test_step_falls_at_60_and_85_percent_of_what_follows_the_warm_up(warmup: int) -> None:
    found = rates(lr_schedule="step", lr=0.1, epochs=20 + warmup, warmup_epochs=warmup)[warmup * STEPS :]
    assert found == pytest.approx([0.1] * 60 + [0.01] * 25 + [0.001] * 15)
    gentle = rates(lr_schedule="step", lr=0.1, epochs=20, lr_decay=0.5)
    assert gentle == pytest.approx([0.1] * 60 + [0.05] * 25 + [0.025] * 15)


@pytest.mark.parametrize(("warmup", "share"), [(0, 0.3), (2, 0.2), (5, 0.5)])
def test_onecycle_is_that_of_torch_and_a_warm_up_is_its_rise(warmup: int, share: float) -> None:
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=10 * STEPS, pct_start=share, cycle_momentum=False
    )
    expected = []
    for _ in range(10 * STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 10 * STEPS:
            schedule.step()
    found = rates(lr_schedule="onecycle", lr=0.1, epochs=10, warmup_epochs=warmup)
    assert found == pytest.approx(expected)
    assert max(found) == pytest.approx(0.1)


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (2, 1)])
def test_onecycle_works_in_the_shortest_runs(epochs: int, warmup: int) -> None:
    config = RunConfig(lr_schedule="onecycle", epochs=epochs, warmup_epochs=warmup, lr=0.1)
    for steps in (1, 2, 3):
        schedule = build_schedule(config, build_optimizer(config, network()), steps)
        found = [rate_at(schedule, step) for step in range(epochs * steps + 2)]
        assert all(0 < rate <= 0.1 for rate in found)
        assert max(found) == pytest.approx(0.1)


def test_rates_that_were_lowered_stay_so_through_a_warm_up_and_a_state() -> None:
    config = RunConfig(lr_schedule="plateau", epochs=9, warmup_epochs=1, lr=0.1, encoder_lr_factor=0.5)
    model = encoder_and_head()
    optimizer = build_optimizer(config, model)
    schedule = build_schedule(config, optimizer, STEPS)
    for _ in range(2 * STEPS):
        optimizer.step()
        schedule.step()
    lower_learning_rates(schedule, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.01, 0.005, 0.005])
    other = build_optimizer(config, model)
    later = build_schedule(config, other, STEPS)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    later.load_state_dict(copy.deepcopy(schedule.state_dict()))
    set_learning_rates(later)
    for _ in range(3):
        assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in optimizer.param_groups]
        for stepped in (optimizer, schedule, other, later):
            stepped.step()


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_steps_beyond_the_last_do_not_raise_the_rate_again(schedule: str) -> None:
    config = RunConfig.from_settings({"lr_schedule": schedule, "epochs": 1})
    optimizer = build_optimizer(config, network())
    stepper = build_schedule(config, optimizer, 2)
    for _ in range(5):
        optimizer.step()
        stepper.step()
        assert not math.isnan(optimizer.param_groups[0]["lr"])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_weights_decay_and_biases_and_normalization_do_not(name: str) -> None:
    model = network()
    config = RunConfig.from_settings({"optimizer": name, "weight_decay": 0.1, "lr": 0.01})
    optimizer = build_optimizer(config, model)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {"0.weight", "3.weight"}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}


def encoder_and_head() -> nn.Module:
    """As smp's models: an encoder beside the rest, here not even first."""
    torch.manual_seed(0)
    model = nn.Module()
    model.head = nn.Conv2d(4, 1, 1)
    model.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return model


def learning_rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The rate of each parameter, by its name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("factor", [0.1, 1.0, 3.0])
def test_the_encoder_has_its_own_learning_rate_and_the_first_one_is_lr(name: str, factor: float) -> None:
    model = encoder_and_head()
    config = RunConfig.from_settings(
        {"optimizer": name, "lr": 0.02, "encoder_lr_factor": factor, "epochs": 4, "lr_schedule": "cosine"}
    )
    optimizer = build_optimizer(config, model)
    schedule = build_schedule(config, optimizer, STEPS)
    for done in range(3 * STEPS):
        found = learning_rates(model, optimizer)
        lr = 0.02 * 0.5 * (1 + math.cos(math.pi * done / (4 * STEPS)))
        assert schedule.get_last_lr()[0] == pytest.approx(lr)
        assert found.keys() == {parameter for parameter, _ in model.named_parameters()}
        for parameter, rate in found.items():
            assert rate == pytest.approx(lr * factor if parameter.startswith("encoder.") else lr)
        optimizer.step()
        schedule.step()


def test_weights_of_the_encoder_decay_as_others_do_by_their_own_rate() -> None:
    model = encoder_and_head()
    config = RunConfig.from_settings({"optimizer": "adamw", "weight_decay": 0.1, "lr": 0.01, "encoder_lr_factor": 0.5})
    optimizer = build_optimizer(config, model)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    factors = {
        key: (value / before[key]).mean().item()
        for key, value in model.named_parameters()
        if not torch.equal(value, before[key])
    }
    assert factors == pytest.approx({"head.weight": 1 - 0.01 * 0.1, "encoder.0.weight": 1 - 0.005 * 0.1}, abs=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_state_fits_the_optimizer_of_any_factor(name: str) -> None:
    model = encoder_and_head()
    optimizers = [
        build_optimizer(RunConfig.from_settings({"optimizer": name, "encoder_lr_factor": factor}), model)
        for factor in (1.0, 0.1)
    ]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers[0].step()
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    optimizers[1].step()
    assert len(optimizers[1].state) == 6


def test_what_is_frozen_while_the_optimizer_is_made_trains_once_it_is_not() -> None:
    model = encoder_and_head()
    model.encoder.requires_grad_(False)
    optimizer = build_optimizer(RunConfig(), model)

    def moved() -> set[str]:
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        optimizer.zero_grad()
        model.head(model.encoder(torch.randn(2, 3, 4, 4))).sum().backward()
        optimizer.step()
        return {key.split(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])}

    assert moved() == {"head"}
    model.encoder.requires_grad_(True)
    assert moved() == {"head", "encoder"}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_uses_momentum(momentum: float) -> None:
    # Nesterov with a constant gradient g: step n moves by lr * g * (1 + m + ... + m^n).
    weight = nn.Linear(1, 1, bias=False)
    config = RunConfig.from_settings({"optimizer": "sgd", "momentum": momentum, "lr": 0.1, "weight_decay": 0.0})
    optimizer = build_optimizer(config, weight)
    moves = []
    for _ in range(3):
        before = weight.weight.item()
        weight.weight.grad = torch.ones_like(weight.weight)
        optimizer.step()
        moves.append(before - weight.weight.item())
    expected = [0.1 * sum(momentum**k for k in range(n + 2)) for n in range(3)]
    assert moves == pytest.approx(expected, rel=1e-4)


def test_adamw_decays_apart_from_the_gradient_and_adam_with_it() -> None:
    def moved(name: str) -> float:
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 1.0)
        config = RunConfig.from_settings({"optimizer": name, "lr": 0.1, "weight_decay": 0.5})
        optimizer = build_optimizer(config, model)
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        return 1.0 - model.weight.item()

    assert moved("adamw") == pytest.approx(0.05)  # lr * weight_decay * weight
    assert moved("adam") == pytest.approx(0.1, rel=1e-3)  # a whole step, whatever the decay


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_state_whose_update_was_not_fused_goes_on_as_before(name: str) -> None:
    config = RunConfig.from_settings({"optimizer": name, "lr": 0.01})
    models = [network() for _ in range(2)]
    optimizers = [build_optimizer(config, model) for model in models]
    for group in optimizers[0].param_groups:
        assert group["fused"]
        group["fused"] = None  # as on a CPU in release 0.1.0

    def step(number: int) -> None:
        for parameter in models[number].parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers[number].step()

    step(0)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    step(0)
    step(1)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
