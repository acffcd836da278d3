"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segtune.config import RunConfig

_POLY_POWER = 0.9  # as in DeepLab (Chen et al. 2017, arXiv:1606.00915)


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
    fused = True  # the fewest calls, for which a GPU waits, and on a CPU the fewest passes over memory
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, lr=config.lr, fused=fused)


def build_schedule(config: RunConfig, optimizer: Optimizer, steps_per_epoch: int) -> LambdaLR:
    """Build the schedule of the learning rate, which changes with every step.

    A linear warm-up of `warmup_epochs` comes first, then `lr_schedule`, which ends near zero unless it is constant.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    total = config.epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        if config.lr_schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        if config.lr_schedule == "poly":
            return float((1 - min(1.0, done)) ** _POLY_POWER)
        return 1.0

    return LambdaLR(optimizer, factor)


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
