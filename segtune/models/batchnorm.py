"""Batch normalisation that survives a batch of one tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def allow_single_values(model: nn.Module) -> None:
    """Let a network train where a batch has one value per channel, which has no variance."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_running_statistics)
            module.register_forward_hook(_batch_statistics)


def _running_statistics(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    # One value per channel (a 1x1 feature map of the last batch's only tile) has no variance, and torch refuses
    # it in training: such a step normalises with the running statistics, as evaluation does.
    values = inputs[0]
    if module.training and values.numel() == values.shape[1]:
        module.training = False
        module._segtune_borrowed = True  # type: ignore[assignment]


def _batch_statistics(module: nn.Module, inputs: Any, output: Any) -> None:
    if getattr(module, "_segtune_borrowed", False):
        module.training = True
        del module._segtune_borrowed
