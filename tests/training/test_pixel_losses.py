"""Class weights, label smoothing and border weights in the losses that are a mean over pixels."""

from __future__ import annotations

import cv2
import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor

from segtune.data.labels import Labels
from segtune.training.losses import SegmentationLoss

BINARY, SEVERAL = Labels((255,), (), True, 0), Labels((4, 9), (), True, 0)
WEIGHTS = (0.5, 2.0, 6.0)  # background and two classes


def batch(labels: Labels) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(0, len(labels.classes) + 1, (2, 8, 9), generator=random, dtype=torch.uint8)
    return torch.randn(2, labels.outputs, 8, 9, generator=random), targets


def test_weighted_ce_is_torchs_sum_over_the_number_of_pixels() -> None:
    logits, targets = batch(SEVERAL)
    loss = SegmentationLoss("ce", SEVERAL, class_weights=WEIGHTS)(logits, targets)
    total = F.cross_entropy(logits, targets.long(), torch.tensor(WEIGHTS), reduction="sum")
    torch.testing.assert_close(loss, total / targets.numel())


@pytest.mark.parametrize("name", ["ce", "bce"])
def test_weighted_bce_is_torchs_with_the_ratio_as_pos_weight(name: str) -> None:
    logits, targets = batch(BINARY)
    loss = SegmentationLoss(name, BINARY, class_weights=(0.5, 3.0))(logits, targets)
    wanted = F.binary_cross_entropy_with_logits(logits[:, 0], targets.float(), pos_weight=torch.tensor(6.0))
    torch.testing.assert_close(loss, 0.5 * wanted)


@pytest.mark.parametrize("labels", [BINARY, SEVERAL], ids=["binary", "several"])
@pytest.mark.parametrize("name", ["ce", "focal"])
def test_equal_weights_scale_the_loss(labels: Labels, name: str) -> None:
    logits, targets = batch(labels)
    plain = SegmentationLoss(name, labels)(logits, targets)
    doubled = SegmentationLoss(name, labels, class_weights=[2.0] * (len(labels.classes) + 1))(logits, targets)
    torch.testing.assert_close(doubled, 2 * plain)


@pytest.mark.parametrize("labels", [BINARY, SEVERAL], ids=["binary", "several"])
@pytest.mark.parametrize("name", ["ce", "focal", "boundary_ce"])
def test_weights_of_a_batch_of_one_class_scale_its_loss(labels: Labels, name: str) -> None:
    """It is a mean over pixels, not over weights."""
    logits, targets = batch(labels)
    targets.fill_(1)
    maps = torch.ones(2, 1, 8, 9)
    weighted = SegmentationLoss(name, labels, class_weights=WEIGHTS[: len(labels.classes) + 1])
    plain = SegmentationLoss(name, labels)
    torch.testing.assert_close(weighted(logits, targets, maps=maps), 2 * plain(logits, targets, maps=maps))


def test_classes_without_a_background_have_the_weights_in_their_order() -> None:
    labels = Labels((4, 9), (), False, 0)
    logits, targets = torch.zeros(1, 2, 1, 2), torch.tensor([[[2, 2]]], dtype=torch.uint8)
    loss = SegmentationLoss("ce", labels, class_weights=(1.0, 7.0))(logits, targets)
    torch.testing.assert_close(loss, 7 * torch.tensor(2.0).log())


def test_parts_of_a_batch_add_up_to_the_whole_with_weights() -> None:
    logits, targets = batch(SEVERAL)
    loss = SegmentationLoss("ce+focal", SEVERAL, class_weights=WEIGHTS)
    parts = [loss(logits[i : i + 1], targets[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(logits, targets))


def test_label_smoothing_is_torchs_and_of_one_class_that_of_two() -> None:
    logits, targets = batch(SEVERAL)
    loss = SegmentationLoss("ce", SEVERAL, label_smoothing=0.2)(logits, targets)
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets.long(), label_smoothing=0.2))
    logits, targets = batch(BINARY)
    loss = SegmentationLoss("bce", BINARY, label_smoothing=0.2)(logits, targets)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(loss, F.cross_entropy(two, targets.long(), label_smoothing=0.2))


def test_border_weights_multiply_ce_and_stand_after_the_distances() -> None:
    logits, targets = batch(SEVERAL)
    border = torch.rand(2, 1, 8, 9) * 10
    loss = SegmentationLoss("boundary_ce", SEVERAL)
    expected = (F.cross_entropy(logits, targets.long(), reduction="none") * border[:, 0]).mean()
    torch.testing.assert_close(loss(logits, targets, maps=border), expected)
    distances = torch.randn(2, 3, 8, 9)
    both = SegmentationLoss("boundary_ce+boundary", SEVERAL)(logits, targets, maps=torch.cat([distances, border], 1))
    torch.testing.assert_close(both, expected + (logits.softmax(1) * distances).mean())


@pytest.mark.parametrize("name", ["boundary_ce", "ce+boundary"])
def test_maps_of_half_the_size_are_interpolated_to_the_logits(name: str) -> None:
    random = torch.Generator().manual_seed(1)
    logits, maps = torch.randn(2, 3, 8, 12, generator=random), torch.rand(2, 3, 4, 6, generator=random)
    targets = torch.randint(0, 3, (2, 8, 12), generator=random, dtype=torch.uint8)
    targets[:, :3, :5] = 255
    loss = SegmentationLoss(name, SEVERAL)
    whole = torch.stack([torch.from_numpy(cv2.resize(m.numpy(), (12, 8))) for m in maps.flatten(0, 1)])
    expected = loss(logits, targets, maps=whole.unflatten(0, (2, 3)))
    torch.testing.assert_close(loss(logits, targets, maps=maps), expected)


@pytest.mark.parametrize("name", ["ce", "focal", "boundary_ce"])
@pytest.mark.parametrize("labels", [BINARY, SEVERAL], ids=["binary", "several"])
def test_gradients_with_weights_are_those_of_finite_differences(name: str, labels: Labels) -> None:
    logits, targets = batch(labels)
    targets[:, :2] = 255
    smoothing = 0.0 if name == "focal" else 0.1
    loss = SegmentationLoss(name, labels, smoothing, WEIGHTS[: len(labels.classes) + 1])
    maps = torch.rand(2, 1, 8, 9).double()
    assert torch.autograd.gradcheck(
        lambda values: loss(values, targets, maps=maps), logits.double().requires_grad_(), fast_mode=True
    )


def test_focal_without_weights_is_smps() -> None:
    for labels, mode in ((BINARY, "binary"), (SEVERAL, "multiclass")):
        logits, targets = batch(labels)
        expected = smp_losses.FocalLoss(mode)(logits, targets.long())
        assert torch.equal(SegmentationLoss("focal", labels)(logits, targets), expected)
