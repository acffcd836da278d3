"""A predictor: views of test-time augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.errors import InputError
from segtune.evaluation.predictor import VIEWS, Predictor
from segtune.models.manifest import Manifest
from tests.manifests import untrained

BANDS = (Band("image:1", 10.0, 5.0, 0.0, 255.0), Band("image:2", 20.0, 4.0, 0.0, 255.0))
CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """A network that turns and mirrors along with its input; `slope` makes it prefer the left side."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, inputs: Tensor) -> Tensor:
        ramp = torch.arange(inputs.shape[3], dtype=torch.float32) * self.slope
        return inputs.sum(dim=1, keepdim=True) + ramp


@pytest.fixture
def manifest() -> Manifest:
    config = RunConfig(image_size=32)
    labels = Labels.from_masks(config.classes, config.ignore, [0, 255])
    return untrained(config, labels, BANDS)


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 8, 8, 2), dtype=np.uint8))


@pytest.mark.parametrize("tta", list(VIEWS))
def test_views_are_turned_back_to_where_they_came_from(tta: str, manifest: Manifest, images: Tensor) -> None:
    found = Predictor(Pointwise(0.0), manifest, CPU, tta).logits(images)
    expected = ((images.double().numpy() - [10, 20]) / [5, 4]).sum(axis=3)[:, None]
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_views_differ_from_each_other_and_are_averaged(manifest: Manifest, images: Tensor) -> None:
    plain = Predictor(Pointwise(1.0), manifest, CPU).logits(images)
    mirrored = Predictor(Pointwise(1.0), manifest, CPU, "flips").logits(images)
    middle = plain - torch.arange(8.0) + 3.5  # the ramp and its mirror image
    assert torch.allclose(mirrored, middle, atol=1e-4)
    assert len(set(VIEWS["d4"])) == 8


def test_an_unknown_augmentation_is_refused(manifest: Manifest) -> None:
    with pytest.raises(InputError, match="--tta: must be one of none, flips, d4"):
        Predictor(Pointwise(0.0), replace(manifest, threshold=0.4), CPU, "d8")
