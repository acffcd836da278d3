"""Losses that are a mean over pixels: cross-entropy and focal loss, with weights of classes and of borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor


class PixelLoss:
    """ce, bce, focal or boundary_ce; called with logits, targets and distance maps.

    With class weights, the loss is the mean over all pixels of weight times loss. It is not divided by the sum of the
    batch's weights, as torch does: a batch without rare classes then does not weigh more than one with them.

    Parameters
    ----------
    name: the loss.
    binary: there is one output, a logit.
    label_smoothing: share of each target that is spread over all outputs; not used by focal.
    class_weights: weights of the indices that targets have, in their order; empty for none.
    """

    def __init__(self, name: str, binary: bool, label_smoothing: float, class_weights: Sequence[float]) -> None:
        self._loss: Callable[..., Tensor]  # per pixel, or their mean
        if name == "focal":
            self._loss = _Focal(binary)
        elif binary:
            self._loss = partial(_binary_cross_entropy, label_smoothing=label_smoothing)
        else:
            self._loss = partial(F.cross_entropy, label_smoothing=label_smoothing)
        self._borders = name == "boundary_ce"
        self._class_weights = torch.tensor(class_weights) if class_weights else None

    def __call__(self, logits: Tensor, targets: Tensor, maps: Tensor | None) -> Tensor:
        """Return the loss of logits, (B, outputs, H, W), for targets, (B, H, W)."""
        if self._class_weights is None and not self._borders:
            return self._loss(logits, targets, reduction="mean")
        loss = self._loss(logits, targets, reduction="none")
        if self._class_weights is not None:
            self._class_weights = self._class_weights.to(logits.device)
            loss = loss * self._class_weights[targets]
        if self._borders:
            assert maps is not None
            loss = loss * maps[:, -1]
        return loss.mean()


class _Focal:
    """smp's focal loss (Lin et al. 2017, arXiv:1708.02002); with several outputs, the mean of one loss for each."""

    def __init__(self, binary: bool) -> None:
        self._binary = binary
        self._mean = smp_losses.FocalLoss(smp_losses.BINARY_MODE if binary else smp_losses.MULTICLASS_MODE)
        self._each = smp_losses.FocalLoss(smp_losses.BINARY_MODE, reduction="none")

    def __call__(self, logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
        if reduction == "mean":
            return self._mean(logits, targets)
        truth = targets[:, None] if self._binary else F.one_hot(targets, logits.shape[1]).movedim(-1, 1)
        return self._each(logits, truth).view_as(truth).mean(dim=1)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, reduction: str, label_smoothing: float) -> Tensor:
    truth = targets.float() * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), truth.to(logits.dtype), reduction=reduction)
