"""Optimizers, of torch and timm, and learning-rate schedules by name."""

from __future__ import annotations

import math
from typing import Any

from timm.optim import create_optimizer_v2
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segtune.config import RunConfig

_POLY_POWER = 0.9  # as in DeepLab (Chen et al. 2017, arXiv:1606.00915)
_STEPS_AT = (0.6, 0.85)  # shares of the steps after the warm-up at which `step` lowers the rate
_RISE = 0.3  # share of the steps in which `onecycle` rises, unless `warmup_epochs` says otherwise
_FIRST, _LAST = 1 / 25, 1 / 25e4  # first and last rate of `onecycle` as shares of its highest, as torch's default
_FUSED = ("adam", "adamw", "sgd")
_NESTEROV = ("sgd", "sgdw")


def build_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """Build the optimizer of a run over all parameters, including those that are frozen at the moment.

    There are always four groups, so that a state fits any settings. Decoder and head come first, then the encoder
    (`model.encoder`), whose learning rate is `lr * encoder_lr_factor`. Each of the two has a group of weights, which
    decay, and a group of biases and normalization weights (one-dimensional), which do not.
    """
    groups: list[dict[str, Any]] = []
    for encoder, lr in ((False, config.lr), (True, config.lr * config.encoder_lr_factor)):
        part = [p for name, p in model.named_parameters() if name.startswith("encoder.") == encoder]
        groups += [
            {"params": [p for p in part if p.ndim > 1], "lr": lr, "weight_decay": config.weight_decay},
            {"params": [p for p in part if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
        ]
    more: dict[str, Any] = {}
    if config.optimizer in _FUSED:
        more["fused"] = True  # the fewest calls, for which a GPU waits, and on a CPU the fewest passes over memory
    if config.optimizer in _NESTEROV:
        more["nesterov"] = config.momentum > 0  # torch refuses Nesterov's momentum of 0
    optimizer: Optimizer = create_optimizer_v2(groups, config.optimizer, lr=config.lr, momentum=config.momentum, **more)
    return optimizer


def build_schedule(config: RunConfig, optimizer: Optimizer, steps_per_epoch: int) -> LambdaLR:
    """Build the schedule of the learning rate, which changes with every step.

    A linear warm-up of `warmup_epochs` comes first, then `lr_schedule`. The rate of `plateau` stays after the warm-up:
    `lower_learning_rates` changes it. `onecycle` (Smith and Topin 2017, arXiv:1708.07120) rises and falls along a
    cosine, as torch's OneCycleLR does; it has the warm-up as its rise, and leaves the momentum alone.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    total = config.epochs * steps_per_epoch

    def factor(step: int) -> float:
        if config.lr_schedule == "onecycle":
            return _one_cycle(step, warmup or round(_RISE * total), total)
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        if config.lr_schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if config.lr_schedule == "poly":
            return float((1 - done) ** _POLY_POWER)
        if config.lr_schedule == "step":
            return float(config.lr_decay ** sum(done >= share for share in _STEPS_AT))
        return 1.0

    return LambdaLR(optimizer, factor)


def _one_cycle(step: int, rise: int, total: int) -> float:
    """Return the share of the highest rate; it is reached in step `rise - 1`, counted from 0."""
    top = max(0, rise - 1)
    if step < top:
        return _along_cosine(_FIRST, 1.0, step / top)
    return _along_cosine(1.0, _LAST, min(1.0, (step - top) / max(1, total - 1 - top)))


def _along_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def rate_at(schedule: LambdaLR, step: int) -> float:
    """Return the learning rate of the first group at a step, counted from 0; it starts from the setting `lr`."""
    return float(schedule.base_lrs[0] * schedule.lr_lambdas[0](step))


def set_learning_rates(schedule: LambdaLR) -> None:
    """Set the optimizer's learning rates to those of the schedule's present step.

    A state holds the learning rates of the run that wrote it; a run that is resumed with more epochs has a longer
    schedule.
    """
    for group, lr, factor in zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = lr * factor(schedule.last_epoch)


def lower_learning_rates(schedule: LambdaLR, factor: float) -> None:
    """Multiply the learning rates of the present and of all later steps; a state of the schedule keeps this."""
    schedule.base_lrs = [lr * factor for lr in schedule.base_lrs]
    set_learning_rates(schedule)
