"""The loss of a run on validation tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from segtune.data.distances import DistanceMaps
from segtune.data.labels import BACKGROUND, IGNORED
from segtune.training.losses import SegmentationLoss


class ValidationLoss:
    """The mean of a loss over the tiles, or the windows of tiles, that evaluation sends through the network.

    As in training, each batch has one loss, which is weighted by its tiles, and padding counts as there. Tiles of
    ignored pixels alone do not count. Where the network has no output for background, background is ignored.

    Parameters
    ----------
    maps: computes the distance maps that the loss needs; None where it needs none.
    pool: threads that compute them, a tile each; None: this one does.
    """

    def __init__(
        self,
        loss: SegmentationLoss,
        device: torch.device,
        maps: DistanceMaps | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._loss, self._device, self._maps = loss, device, maps
        self._each = pool.map if pool else map
        self._total, self._tiles = torch.zeros((), device=device), 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits, (B, outputs, S, S), and uint8 targets, (B, S, S), on the CPU."""
        if not self._loss.labels.predicts_background:  # validation tiles may have labels that no training tile has
            targets = torch.where(targets == BACKGROUND, IGNORED, targets)
        counted = targets.numpy() != IGNORED
        tiles = int(np.count_nonzero(counted.any(axis=(1, 2))))
        if tiles:
            maps = None
            if self._maps:
                stacked = np.stack(list(self._each(self._maps.exact, targets.numpy())))
                maps = torch.from_numpy(stacked).half().to(self._device).float()  # rounded as in training
            loss = self._loss(logits, targets.to(self._device, non_blocking=True), not counted.all(), maps)
            self._total += loss * tiles
            self._tiles += tiles

    def sums(self) -> tuple[float, int]:
        """Return the sum of the loss over the tiles, and their number."""
        return self._total.item(), self._tiles


def mean_loss(sums: Sequence[tuple[float, int]]) -> float | None:
    """Return the mean over all tiles; None if there was no pixel, or if the loss became NaN or infinite."""
    totals, numbers = zip(*sums, strict=True) if sums else ((0.0,), (0,))
    mean = sum(totals) / max(1, sum(numbers))
    return mean if sum(numbers) and math.isfinite(mean) else None
