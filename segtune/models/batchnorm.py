"""Batch normalization that also works with a batch of one tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def allow_single_values(model: nn.Module) -> None:
    """Make the network's BatchNorm layers accept one value per channel in training.

    One value per channel (a 1x1 feature map of a single tile) has no variance, and torch refuses it. Such a step is
    normalized with the running statistics, as in evaluation, and does not change them.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_use_running_statistics)
            module.register_forward_hook(_use_batch_statistics)


def _use_running_statistics(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    values = inputs[0]
    if module.training and values.numel() == values.shape[1] and not _shared(module):
        module.training = False
        module._segtune_borrowed = True  # type: ignore[assignment]


def _shared(module: nn.Module) -> bool:
    """Return whether a layer also counts the values of other processes."""
    return isinstance(module, nn.SyncBatchNorm) and module.process_group is None


def _use_batch_statistics(module: nn.Module, inputs: Any, output: Any) -> None:
    if getattr(module, "_segtune_borrowed", False):
        module.training = True
        del module._segtune_borrowed
