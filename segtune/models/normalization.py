"""What a network's input is normalised with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segtune.data.bands import Band


class Normalization:
    """Per-channel mean and standard deviation of the training set, applied on the device."""

    def __init__(self, bands: Sequence[Band], device: torch.device) -> None:
        self._mean = torch.tensor([band.mean for band in bands], device=device)
        self._std = torch.tensor([band.std for band in bands], device=device)
        self._device = device

    def __call__(self, images: Tensor) -> Tensor:
        """(B, H, W, bands) of any type -> (B, bands, H, W) float32 on the device, channels_last in memory."""
        moved = images.to(self._device, non_blocking=True)
        return ((moved.float() - self._mean) / self._std).permute(0, 3, 1, 2)
