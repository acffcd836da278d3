"""Losses by name: those of segmentation_models_pytorch, and sums of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor, nn

from segtune.data.labels import IGNORED, Labels

_Term = Callable[[Tensor, Tensor], Tensor]


class SegmentationLoss(nn.Module):
    """A loss, or the sum of several, over the pixels that are not ignored.

    Ignored pixels are removed before any term sees them, because the terms ignore pixels in different ways: some still
    divide by their number, and some return NaN when no pixel is left.

    Parameters
    ----------
    name: a loss, or several joined by ``+``, such as dice+bce.
    labels: the labels that the targets stand for.
    """

    def __init__(self, name: str, labels: Labels) -> None:
        super().__init__()
        self._labels = labels
        self._terms = [_term(part, labels.binary) for part in name.split("+")]

    def forward(self, logits: Tensor, targets: Tensor, some_ignored: bool = True) -> Tensor:
        """Return the loss of logits, (B, outputs, H, W), for targets, uint8 indices of shape (B, H, W).

        `some_ignored=False` states that no target is ignored, which saves the search for such targets.
        """
        outputs = logits.shape[1]
        if some_ignored:
            counted = targets != IGNORED
            # The pixels become an image of one row, because Lovasz takes three dimensions for images without channels.
            logits = logits.movedim(1, -1)[counted].T.reshape(1, outputs, 1, -1)
            targets = targets[counted].reshape(1, 1, -1)
            if not targets.numel():
                return logits.sum()  # of no elements: zero, with a gradient of zero
        # Without a background output the first class is output 0.
        shift = 0 if self._labels.binary or self._labels.background else 1
        targets = targets.long() - shift
        return torch.stack([term(logits, targets) for term in self._terms]).sum()


def _term(name: str, binary: bool) -> _Term:
    mode = smp_losses.BINARY_MODE if binary else smp_losses.MULTICLASS_MODE
    if name == "bce" or (name == "ce" and binary):
        return _binary_cross_entropy
    if name == "ce":
        return F.cross_entropy
    if name == "mcc":
        mcc = smp_losses.MCCLoss()
        return lambda logits, targets: mcc(logits.sigmoid(), targets.float())
    kinds: dict[str, Callable[[str], _Term]] = {
        "dice": smp_losses.DiceLoss,
        "jaccard": smp_losses.JaccardLoss,
        # At smp's default weights Tversky is Dice. Missed pixels weigh more, as in Salehi et al. 2017
        # (arXiv:1706.05721).
        "tversky": partial(smp_losses.TverskyLoss, alpha=0.3, beta=0.7),
        "focal": smp_losses.FocalLoss,
        "lovasz": smp_losses.LovaszLoss,
    }
    return kinds[name](mode)


def _binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), targets.float())
