"""Losses over regions against smp's on the same pixels, and those that smp does not have against their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor, nn

from segtune.data.labels import IGNORED, Labels
from segtune.training.losses import SegmentationLoss

BINARY, SEVERAL = Labels((255,), (), True, 0), Labels((4, 9), (), True, 0)
BOTH = pytest.mark.parametrize("labels", [BINARY, SEVERAL], ids=["binary", "several"])


def batch(labels: Labels) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(0, len(labels.classes) + 1, (2, 8, 9), generator=random, dtype=torch.uint8)
    return torch.randn(2, labels.outputs, 8, 9, generator=random), targets


def mode(labels: Labels) -> str:
    return "binary" if labels.binary else "multiclass"


@BOTH
@pytest.mark.parametrize("name", ["dice", "jaccard", "lovasz", "tversky"])
def test_losses_are_smps_on_the_pixels_that_count(labels: Labels, name: str) -> None:
    logits, targets = batch(labels)
    targets[:, :3] = IGNORED
    kinds: dict[str, nn.Module] = {
        "dice": smp_losses.DiceLoss(mode(labels)),
        "jaccard": smp_losses.JaccardLoss(mode(labels)),
        "lovasz": smp_losses.LovaszLoss(mode(labels)),
        "tversky": smp_losses.TverskyLoss(mode(labels), alpha=0.3, beta=0.7),
    }
    row = logits[:, :, 3:].movedim(1, -1).flatten(0, 2).T[None, :, None]  # all tiles as one, as over a batch
    expected = kinds[name](row, targets[:, 3:].reshape(1, 1, -1).long())
    torch.testing.assert_close(SegmentationLoss(name, labels)(logits, targets), expected)


@BOTH
def test_focal_tversky_is_the_mean_of_each_class_to_three_quarters(labels: Labels) -> None:
    logits, targets = batch(labels)
    if labels.binary:
        likely, truth = logits.sigmoid(), targets[:, None].float()
    else:
        likely, truth = logits.softmax(1), F.one_hot(targets.long(), 3).movedim(-1, 1).float()
    hits = (likely * truth).sum((0, 2, 3))
    missed, false = (truth * (1 - likely)).sum((0, 2, 3)), (likely * (1 - truth)).sum((0, 2, 3))
    expected = (1 - hits / (hits + 0.7 * missed + 0.3 * false)).pow(0.75).mean()
    torch.testing.assert_close(SegmentationLoss("focal_tversky", labels)(logits, targets), expected)


def test_mcc_of_several_classes_is_r_k_of_the_predictions() -> None:
    """For a certain network it is Gorodkin's statistic of the confusion matrix; scikit-learn's formula."""
    _, targets = batch(SEVERAL)
    predicted, _ = torch.randint(0, 3, targets.shape, generator=torch.Generator().manual_seed(4)), None
    predicted = torch.where(
        torch.rand(targets.shape, generator=torch.Generator().manual_seed(5)) < 0.5, targets, predicted
    )
    logits = F.one_hot(predicted.long(), 3).movedim(-1, 1) * 80.0
    counts = torch.zeros(3, 3, dtype=torch.float64)
    for true, said in zip(targets.flatten().tolist(), predicted.flatten().tolist(), strict=True):
        counts[true, said] += 1
    total, there, said_as = counts.sum(), counts.sum(1), counts.sum(0)
    above = counts.trace() * total - (there * said_as).sum()
    r_k = above / ((total**2 - (there**2).sum()) * (total**2 - (said_as**2).sum())).sqrt()
    assert float(SegmentationLoss("mcc", SEVERAL)(logits, targets)) == pytest.approx(1 - float(r_k), abs=1e-4)


def test_mcc_of_two_classes_is_that_of_one() -> None:
    logits, targets = batch(BINARY)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    several = SegmentationLoss("mcc", Labels((0, 255), (), False, 1))(two, targets + 1)
    torch.testing.assert_close(several, SegmentationLoss("mcc", BINARY)(logits, targets), atol=1e-4, rtol=0)
