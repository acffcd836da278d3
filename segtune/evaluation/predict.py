"""Predict the index of every pixel, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.data.batches import Batches
from segtune.data.fitting import Fit
from segtune.data.labels import BACKGROUND, Indices, Labels
from segtune.models.device import autocast
from segtune.models.manifest import THRESHOLD, Manifest
from segtune.models.normalization import Normalization


@torch.no_grad()
def predict(
    model: nn.Module, manifest: Manifest, batches: Batches, device: torch.device
) -> Iterator[list[tuple[Indices, Indices]]]:
    """Yield, for each batch, the predicted and the true indices of its tiles.

    Indices are (H, W), uint8, at the size of the tile's mask. With `fit` crop, windows go through the network, at most
    `batches.batch_size` at a time. The model is left in evaluation mode.
    """
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
    """Return the logits, (outputs, H, W), of a whole tile, (H, W, bands): for each pixel the mean over its windows."""
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
    """Turn one tile's logits, (outputs, h, w), into indices, (H, W), uint8, where `size` is (H, W)."""
    if tuple(logits.shape[-2:]) != size:
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    if labels.binary:
        indices = (logits[0].sigmoid() > THRESHOLD).to(torch.uint8)
    else:
        # The outputs are the background, if there is one, and the classes in their order.
        first = BACKGROUND if labels.background else BACKGROUND + 1
        indices = (logits.argmax(dim=0) + first).to(torch.uint8)
    array: Indices = indices.cpu().numpy()
    return array
