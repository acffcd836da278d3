"""Every loss: finite, differentiable, lower nearer the truth, and blind to ignored pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segtune.config import RunConfig
from segtune.data.distances import DistanceMaps
from segtune.data.labels import IGNORED, Labels
from segtune.training.losses import SegmentationLoss
from segtune.vocabulary import BINARY_LOSSES, LOSSES

Criterion = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """Labels and what can stand in a target."""

    name: str
    labels: Labels
    values: tuple[int, ...]

    def target(self, seed: int = 0, batch: int = 3) -> Tensor:
        drawn = torch.randint(len(self.values), (batch, 8, 10), generator=torch.Generator().manual_seed(seed))
        return torch.tensor(self.values, dtype=torch.uint8)[drawn]

    def logits(self, target: Tensor, seed: int = 1) -> Tensor:
        shape = (target.shape[0], self.labels.outputs, *target.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def right(self, target: Tensor, certainty: float) -> Tensor:
        """Logits that say the truth."""
        known = torch.where(target == IGNORED, self.values[0], target).long()
        if self.labels.binary:
            return (known.float() * 2 - 1)[:, None] * certainty
        first = 0 if self.labels.background else 1
        return (F.one_hot(known - first, self.labels.outputs).movedim(-1, 1) * 2.0 - 1) * certainty


BINARY = Case("binary", Labels((255,), (), True, 0), (0, 1))
CASES = (
    BINARY,
    Case("classes and background", Labels((4, 9), (), True, 0), (0, 1, 2)),
    Case("classes alone", Labels((4, 9, 2), (), False, 0), (1, 2, 3)),
)
COMBINATIONS = [
    pytest.param(case, f"20*{loss}" if loss == "boundary" else loss, id=f"{case.name}-{loss}")
    for case in CASES
    for loss in (*LOSSES, "0.7*focal_tversky+0.3*ce")
    if case.labels.binary or loss not in BINARY_LOSSES
]
every_combination = pytest.mark.parametrize(("case", "loss"), COMBINATIONS)


def criterion_of(loss: str, labels: Labels) -> Criterion:
    """Return a loss that computes the distance maps that it needs."""
    criterion, maps = SegmentationLoss(loss, labels), DistanceMaps.of(loss, labels)

    def call(logits: Tensor, target: Tensor, some_ignored: bool = True) -> Tensor:
        near = torch.stack([torch.from_numpy(maps(tile.numpy())).float() for tile in target]) if maps else None
        value: Tensor = criterion(logits, target, some_ignored, near)
        return value

    return call


def with_ignored(target: Tensor, share: float = 0.3) -> Tensor:
    hidden = torch.rand(target.shape, generator=torch.Generator().manual_seed(2)) < share
    return torch.where(hidden, torch.tensor(IGNORED, dtype=torch.uint8), target)


def check_finite(case: Case, loss: str, logits: Tensor, target: Tensor) -> None:
    """Hold a loss and its gradient to finite numbers."""
    logits.requires_grad_()
    value = criterion_of(loss, case.labels)(logits, target)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@every_combination
def test_gradients_are_those_of_finite_differences(case: Case, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # smp's Lovasz takes float32 alone
    target = with_ignored(case.target(batch=2)[:, :5, :6])
    criterion = criterion_of(loss, case.labels)
    logits = (case.logits(target) * 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: criterion(values, target), logits)


@every_combination
@pytest.mark.parametrize("ignored", [False, True])
def test_losses_are_finite_scalars_with_a_gradient(case: Case, loss: str, ignored: bool) -> None:
    target = with_ignored(case.target()) if ignored else case.target()
    logits = case.logits(target).requires_grad_()
    value = criterion_of(loss, case.labels)(logits, target)
    assert value.shape == ()
    assert value.isfinite()
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@every_combination
@pytest.mark.parametrize("scale", [1e-4, 100.0])
def test_losses_stay_finite_for_unsure_and_for_certain_networks(case: Case, loss: str, scale: float) -> None:
    target = with_ignored(case.target())
    check_finite(case, loss, case.logits(target) * scale, target)


@every_combination
def test_losses_fall_as_the_logits_approach_the_truth(case: Case, loss: str) -> None:
    target = with_ignored(case.target())
    wrong = case.logits(target)
    right = case.right(target, certainty=8.0)
    criterion = criterion_of(loss, case.labels)
    values = [float(criterion(torch.lerp(wrong, right, share), target)) for share in (0.0, 0.2, 0.5, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.05
    assert values[-1] < 0.05 + min(0.0, values[0])
    opposite = float(criterion(-right, target))
    assert opposite > values[0]


@every_combination
def test_a_step_against_the_gradient_lowers_the_loss(case: Case, loss: str) -> None:
    target = case.target()
    logits = case.logits(target).requires_grad_()
    criterion = criterion_of(loss, case.labels)
    before = criterion(logits, target)
    (gradient,) = torch.autograd.grad(before, logits)
    after = criterion(logits - 0.1 * gradient / gradient.norm(), target)
    assert after < before


@every_combination
def test_ignored_pixels_have_no_gradient_and_no_say(case: Case, loss: str) -> None:
    target = with_ignored(case.target())
    hidden = (target == IGNORED)[:, None].expand(-1, case.labels.outputs, -1, -1)
    criterion = criterion_of(loss, case.labels)
    logits = case.logits(target).requires_grad_()
    value = criterion(logits, target)
    value.backward()
    assert logits.grad is not None
    assert (logits.grad[hidden] == 0).all()
    for there in (case.logits(target, seed=9) * 50, torch.zeros_like(logits)):
        other = torch.where(hidden, there, logits.detach())
        assert float(criterion(other, target)) == pytest.approx(value.item(), abs=1e-6)


@every_combination
def test_the_loss_with_ignored_rows_is_that_of_the_other_rows(case: Case, loss: str) -> None:
    """Neither a sum nor a mean knows that there were ignored pixels."""
    target = case.target()
    logits = case.logits(target)
    criterion = criterion_of(loss, case.labels)
    kept = criterion(logits[:, :, :5], target[:, :5])
    hidden = target.clone()
    hidden[:, 5:] = IGNORED
    assert float(criterion(logits, hidden)) == pytest.approx(float(kept), abs=1e-6)


@every_combination
def test_a_batch_that_is_ignored_altogether_costs_nothing(case: Case, loss: str) -> None:
    target = torch.full((2, 8, 8), IGNORED, dtype=torch.uint8)
    logits = case.logits(target).requires_grad_()
    value = criterion_of(loss, case.labels)(logits, target)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@every_combination
@pytest.mark.parametrize("position", [0, -1])
def test_a_batch_of_one_label_alone_is_finite(case: Case, loss: str, position: int) -> None:
    target = torch.full((2, 8, 8), case.values[position], dtype=torch.uint8)
    check_finite(case, loss, case.logits(target), target)


@every_combination
def test_a_single_counted_pixel_is_enough(case: Case, loss: str) -> None:
    target = torch.full((1, 4, 4), IGNORED, dtype=torch.uint8)
    target[0, 2, 1] = case.values[-1]
    check_finite(case, loss, case.logits(target), target)


@every_combination
def test_the_short_cut_without_ignored_pixels_gives_the_same(case: Case, loss: str) -> None:
    target = case.target()
    logits = case.logits(target)
    criterion = criterion_of(loss, case.labels)
    searched, spared = criterion(logits, target), criterion(logits, target, some_ignored=False)
    assert float(searched) == pytest.approx(float(spared), abs=1e-5)


@every_combination
def test_the_loss_of_a_channels_last_batch_is_the_same(case: Case, loss: str) -> None:
    target = with_ignored(case.target())
    logits = case.logits(target)
    criterion = criterion_of(loss, case.labels)
    last = criterion(logits.contiguous(memory_format=torch.channels_last), target)
    assert float(last) == pytest.approx(float(criterion(logits, target)), abs=1e-6)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
@pytest.mark.parametrize("terms", [("dice", "ce"), ("focal", "lovasz", "jaccard"), ("tversky", "dice")])
def test_a_sum_is_the_sum_of_its_terms(case: Case, terms: tuple[str, ...]) -> None:
    target = with_ignored(case.target())
    logits = case.logits(target)
    total = SegmentationLoss("+".join(terms), case.labels)(logits, target)
    parts = [SegmentationLoss(term, case.labels)(logits, target) for term in terms]
    assert float(total) == pytest.approx(sum(map(float, parts)), abs=1e-6)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES[1:]])
def test_weights_multiply_the_terms_of_a_sum(case: Case) -> None:
    target = with_ignored(case.target())
    logits = case.logits(target)
    dice, ce = (float(SegmentationLoss(term, case.labels)(logits, target)) for term in ("dice", "ce"))
    total = SegmentationLoss("0.7*dice+0.3*ce", case.labels)(logits, target)
    assert float(total) == pytest.approx(0.7 * dice + 0.3 * ce, abs=1e-6)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES[1:]])
def test_ce_is_torchs_own_with_ignored_pixels(case: Case) -> None:
    target = with_ignored(case.target())
    logits = case.logits(target)
    first = 0 if case.labels.background else 1
    index = torch.where(target == IGNORED, -100, target.long() - first)
    expected = F.cross_entropy(logits, index, ignore_index=-100)
    torch.testing.assert_close(SegmentationLoss("ce", case.labels)(logits, target), expected)


@pytest.mark.parametrize("name", ["ce", "bce"])
def test_ce_and_bce_of_a_single_class_are_torchs_own(name: str) -> None:
    target = with_ignored(BINARY.target())
    logits = BINARY.logits(target)
    counted = target != IGNORED
    expected = F.binary_cross_entropy_with_logits(logits[:, 0][counted], target[counted].float())
    torch.testing.assert_close(SegmentationLoss(name, BINARY.labels)(logits, target), expected)


def test_binary_dice_is_one_minus_the_dice_coefficient() -> None:
    target = with_ignored(BINARY.target())
    logits = BINARY.logits(target)
    counted = target != IGNORED
    likely, truth = logits[:, 0][counted].sigmoid(), target[counted].float()
    expected = 1 - 2 * (likely * truth).sum() / (likely + truth).sum()
    torch.testing.assert_close(SegmentationLoss("dice", BINARY.labels)(logits, target), expected)


def test_losses_that_settings_allow_are_those_that_exist() -> None:
    for loss in LOSSES:
        name = "dice+boundary" if loss == "boundary" else loss
        assert SegmentationLoss(RunConfig(loss=name).loss, BINARY.labels)
    for unknown in ("", "mse"):
        with pytest.raises(ValueError, match="unknown loss"):
            SegmentationLoss(unknown, BINARY.labels)


def test_losses_work_on_the_device_and_type_that_training_uses() -> None:
    """Training gives float32 logits; under bfloat16 autocast the losses stay in the logits' type."""
    target = BINARY.target()
    for loss in LOSSES:
        logits = BINARY.logits(target)
        with torch.autocast("cpu", torch.bfloat16):
            value = criterion_of(loss, BINARY.labels)(logits, target)
        assert float(value) == pytest.approx(float(criterion_of(loss, BINARY.labels)(logits, target)), rel=0.02)


def test_tversky_is_not_dice_by_another_name() -> None:
    labels = Labels((255,), (), background=True, background_label=0)
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 1, 8, 8), (torch.rand(2, 8, 8) < 0.3).to(torch.uint8)
    assert SegmentationLoss("tversky", labels)(logits, targets) != SegmentationLoss("dice", labels)(logits, targets)
