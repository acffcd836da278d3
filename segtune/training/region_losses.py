"""Losses over regions that segmentation_models_pytorch does not have."""

from __future__ import annotations

import torch.nn.functional as F
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor

_GAMMA = 4 / 3
_LEAST = 1e-6  # below it a power has too steep a slope: at zero it is infinite


class FocalTverskyLoss(smp_losses.TverskyLoss):  # type: ignore[misc]
    """Focal Tversky loss: the mean over classes of (1 - Tversky index)^(1 / gamma) (Abraham & Khan 2018).

    As in the paper (arXiv:1810.07842), gamma is 4/3, a missed pixel weighs 0.7 and a false one 0.3.

    Parameters
    ----------
    mode: binary or multiclass, as in smp.
    """

    def __init__(self, mode: str) -> None:
        super().__init__(mode, alpha=0.3, beta=0.7)

    def aggregate_loss(self, loss: Tensor) -> Tensor:
        """Return the mean of the powers of each class's loss, (classes)."""
        return loss.clamp_min(_LEAST).pow(1 / _GAMMA).mean()


def multiclass_mcc_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - R_K, the correlation of several classes that is Matthews' for two (Gorodkin 2004).

    Probabilities take the place of predictions. `logits` is (B, outputs, H, W), `targets` (B, H, W).
    """
    likely = logits.softmax(dim=1).movedim(1, -1).flatten(0, -2)
    truth = F.one_hot(targets.flatten(), logits.shape[1]).to(likely.dtype)
    predicted, there = likely.mean(dim=0), truth.mean(dim=0)  # shares of the outputs
    covariance = (likely * truth).sum(dim=1).mean() - (predicted * there).sum()
    spread = (1 - predicted.square().sum()) * (1 - there.square().sum())
    return 1 - covariance / (spread.clamp_min(0) + _LEAST).sqrt()
