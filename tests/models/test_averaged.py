"""Several networks as one: its probabilities are the means of theirs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segtune.models.averaged import Averaged


class Fixed(nn.Module):
    """A network that returns these logits, whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.get_buffer("logits")
        return found


IMAGES = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize("outputs", [1, 3])
def test_probabilities_are_averaged_not_logits(outputs: int) -> None:
    torch.manual_seed(0)
    logits = [torch.randn(2, outputs, 4, 4) * 4 for _ in range(3)]
    binary = outputs == 1

    def likely(found: Tensor) -> Tensor:
        return found.sigmoid() if binary else found.softmax(dim=1)

    averaged = Averaged([Fixed(each) for each in logits], binary)(IMAGES)
    expected = torch.stack([likely(each.double()) for each in logits]).mean(dim=0)
    assert torch.allclose(likely(averaged).double(), expected, atol=1e-6)
    assert not torch.allclose(likely(averaged), likely(torch.stack(logits).mean(dim=0)), atol=1e-2)


def test_logits_that_are_far_from_zero_stay_finite() -> None:
    far = torch.full((1, 1, 2, 2), 200.0)
    assert Averaged([Fixed(far), Fixed(far)], True)(IMAGES).allclose(far)
    assert Averaged([Fixed(-far), Fixed(far)], True)(IMAGES).allclose(torch.zeros(1))


def test_half_precision_is_averaged_in_float32() -> None:
    found = Averaged([Fixed(torch.ones(1, 1, 2, 2, dtype=torch.float16))] * 2, True)(IMAGES)
    assert found.dtype == torch.float32
