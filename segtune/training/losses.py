"""Losses by name, and weighted sums of them, over the pixels that are not ignored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor, nn

from segtune.data.labels import IGNORED, Labels
from segtune.training.pixel_losses import PixelLoss
from segtune.training.region_losses import FocalTverskyLoss, multiclass_mcc_loss
from segtune.vocabulary import PIXEL_LOSSES, loss_terms

_Term = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # of logits, targets and distance maps
_Region = Callable[[Tensor, Tensor], Tensor]


class SegmentationLoss(nn.Module):
    """A loss, or a weighted sum of several, over the pixels that are not ignored.

    Ignored pixels are removed before any term sees them, because the terms ignore pixels in different ways: some still
    divide by their number, and some return NaN when no pixel is left.

    Parameters
    ----------
    name: a loss, or a sum such as dice+bce or 0.7*dice+0.3*ce.
    labels: the labels that the targets stand for.
    label_smoothing: share of each target that ce, bce and boundary_ce spread over all outputs.
    class_weights: weights in focal, ce, bce and boundary_ce: of background, where pixels can be background, and of the
        classes in their order; empty for none.
    """

    def __init__(
        self,
        name: str,
        labels: Labels,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.labels = labels
        self._terms = [
            (weight, _term(term, labels.binary, label_smoothing, class_weights)) for weight, term in loss_terms(name)
        ]

    def forward(self, logits: Tensor, targets: Tensor, some_ignored: bool = True, maps: Tensor | None = None) -> Tensor:
        """Return the loss of logits, (B, outputs, H, W), for targets, uint8 indices of shape (B, H, W).

        `some_ignored=False` states that no target is ignored, which saves the search for such targets. `maps`, (B,
        maps, H, W) or half as high and wide, are those of `DistanceMaps`, for a loss that needs them.
        """
        if maps is not None and maps.shape[-2:] != targets.shape[-2:]:
            maps = F.interpolate(maps, targets.shape[-2:], mode="bilinear")
        if some_ignored:
            counted = targets != IGNORED
            logits, targets = _selected(logits, counted), targets[counted].reshape(1, 1, -1)
            maps = None if maps is None else _selected(maps, counted)
            if not targets.numel():
                return logits.sum()  # of no elements: zero, with a gradient of zero
        # Without a background output the first class is output 0.
        shift = 0 if self.labels.predicts_background else 1
        targets = targets.long() - shift
        return torch.stack([weight * term(logits, targets, maps) for weight, term in self._terms]).sum()


def _selected(values: Tensor, counted: Tensor) -> Tensor:
    """Return the counted pixels of (B, channels, H, W) as an image of one row, since Lovasz takes images alone."""
    return values.movedim(1, -1)[counted].T.reshape(1, values.shape[1], 1, -1)


def _term(name: str, binary: bool, label_smoothing: float, class_weights: Sequence[float]) -> _Term:
    if name in PIXEL_LOSSES:
        return PixelLoss(name, binary, label_smoothing, class_weights)
    if name == "boundary":
        return partial(_boundary_loss, binary=binary)
    region = _region_loss(name, binary)
    return lambda logits, targets, _: region(logits, targets)


def _region_loss(name: str, binary: bool) -> _Region:
    mode = smp_losses.BINARY_MODE if binary else smp_losses.MULTICLASS_MODE
    if name == "mcc" and not binary:
        return multiclass_mcc_loss
    if name == "mcc":
        mcc = smp_losses.MCCLoss()
        return lambda logits, targets: mcc(logits.sigmoid(), targets.float())
    kinds: dict[str, Callable[[str], _Region]] = {
        "dice": smp_losses.DiceLoss,
        "jaccard": smp_losses.JaccardLoss,
        # At smp's default weights Tversky is Dice. Missed pixels weigh more, as in Salehi et al. 2017
        # (arXiv:1706.05721).
        "tversky": partial(smp_losses.TverskyLoss, alpha=0.3, beta=0.7),
        "focal_tversky": FocalTverskyLoss,
        "lovasz": smp_losses.LovaszLoss,
    }
    return kinds[name](mode)


def _boundary_loss(logits: Tensor, targets: Tensor, maps: Tensor | None, binary: bool) -> Tensor:
    """Return the mean of probability times signed distance (Kervadec et al. 2019, arXiv:1812.07032)."""
    assert maps is not None
    probabilities = logits.sigmoid() if binary else logits.softmax(dim=1)
    return (probabilities * maps[:, : logits.shape[1]]).mean()
