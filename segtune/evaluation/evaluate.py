"""evaluate(): the one measurement, used by training for every epoch and by validate.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.data.batches import Batches
from segtune.data.fitting import Fit
from segtune.data.labels import BACKGROUND, Band, Indices, Labels
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.models.checkpoint import THRESHOLD, Manifest
from segtune.models.device import autocast

OnTile = Callable[[int, Indices, Indices], None]


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


def evaluate(
    model: nn.Module,
    manifest: Manifest,
    batches: Batches,
    device: torch.device,
    on_tile: OnTile | None = None,
    on_batch: Callable[[], None] | None = None,
) -> ConfusionMatrix:
    """Count a model's right and wrong pixels on a split's tiles, each at its mask's own size.

    `on_tile` gets each tile's position, predicted indices and true ones, (H, W) uint8; `on_batch` is called after
    every batch. The model is left in evaluation mode. At most `batches.batch_size` tiles, or windows, go through the
    network at a time.
    """
    matrix = ConfusionMatrix(manifest.labels.classes)
    index = 0
    for predictions in predict(model, manifest, batches, device):
        for predicted, truth in predictions:
            matrix.update(predicted, truth)
            if on_tile:
                on_tile(index, predicted, truth)
            index += 1
        if on_batch:
            on_batch()
    return matrix


@torch.no_grad()
def predict(
    model: nn.Module, manifest: Manifest, batches: Batches, device: torch.device
) -> Iterator[list[tuple[Indices, Indices]]]:
    """Predicted and true indices, (H, W) uint8 at the mask's own size, of batch after batch of tiles."""
    normalize = Normalization(manifest.bands, device)
    fit = Fit.of(manifest.config)
    model.eval()

    def infer(images: Tensor) -> Tensor:
        with autocast(device, manifest.precision):
            logits: Tensor = model(normalize(images))
        return logits.float()

    for images, targets in batches.epoch(0):
        if fit.mode == "crop":
            logits = [_through_windows(infer, image, fit, batches.batch_size) for image in images]
        else:
            logits = list(infer(torch.as_tensor(images)))
        found = []
        for tile_logits, target in zip(logits, targets, strict=True):
            height, width = fit.inner(*target.shape)
            inner = tile_logits[:, :height, :width]
            found.append((to_indices(inner, tuple(target.shape), manifest.labels), target.numpy()))
        yield found


def _through_windows(infer: Callable[[Tensor], Tensor], image: Tensor, fit: Fit, at_once: int) -> Tensor:
    """Logits, (outputs, H, W), of a whole tile, (H, W, bands): the mean over the windows that see a pixel."""
    height, width = image.shape[:2]
    total: Tensor | None = None
    seen = torch.zeros(height, width)
    corners = fit.windows(height, width)
    for first in range(0, len(corners), at_once):
        squares = [
            np.s_[top : top + fit.size, left : left + fit.size] for top, left in corners[first : first + at_once]
        ]
        logits = infer(torch.stack([image[square] for square in squares]))
        if total is None:
            total, seen = logits.new_zeros(logits.shape[1], height, width), seen.to(logits.device)
        for square, part in zip(squares, logits, strict=True):
            total[:, *square] += part
            seen[square] += 1
    assert total is not None
    return total / seen


def to_indices(logits: Tensor, size: tuple[int, ...], labels: Labels) -> Indices:
    """Logits of one tile, (outputs, h, w), as indices (H, W) at another size."""
    if tuple(logits.shape[-2:]) != size:
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    if labels.binary:
        indices = (logits[0].sigmoid() > THRESHOLD).to(torch.uint8)
    else:
        # Outputs are the classes in order, after the background's where there is one.
        first = BACKGROUND if labels.background else BACKGROUND + 1
        indices = (logits.argmax(dim=0) + first).to(torch.uint8)
    array: Indices = indices.cpu().numpy()
    return array
