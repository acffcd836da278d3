"""Predict the index of every pixel, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segtune.data.batches import Batches
from segtune.data.fitting import Fit
from segtune.data.labels import IGNORED, Indices, Labels
from segtune.evaluation.areas import remove_small
from segtune.evaluation.predictor import Predictor
from segtune.models.manifest import THRESHOLD
from segtune.values import LOGITS

# What the network returned, (B, outputs, S, S), and what is true there: indices at its size, (B, S, S), on the CPU.
OnLogits = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True)
class TilePrediction:
    """What a model predicts for one tile, at the size of the tile's mask."""

    logits: Tensor  # (outputs, H, W), float32, on the device
    indices: Indices  # (H, W)
    truth: Indices  # (H, W)


def predict(
    predictor: Predictor, batches: Batches, overlap: float, on_logits: OnLogits | None = None
) -> Iterator[Iterator[TilePrediction]]:
    """Yield, for each batch, the predictions of its tiles.

    With `fit` crop, windows that overlap by this share of their side go through the network, at most
    `batches.batch_size` at a time. `on_logits` gets what went through the network at a time.
    """
    manifest, fit = predictor.manifest, predictor.fit

    def infer(images: Tensor, targets: Tensor) -> Tensor:
        logits = predictor.logits(images)
        if on_logits:
            on_logits(logits, targets)
        return logits

    for images, targets in batches.epoch(0):
        fitted = [_fitted(target, fit, manifest.labels.padding) for target in targets]
        if fit.mode == "crop":
            pairs = zip(images, fitted, strict=True)
            logits = [_through_windows(infer, *pair, fit, overlap, batches.batch_size) for pair in pairs]
        else:
            logits = list(infer(torch.as_tensor(images), torch.stack(fitted)))
        yield (_at_own_size(predictor, *pair) for pair in zip(logits, targets, strict=True))


def _fitted(target: Tensor, fit: Fit, padding: int) -> Tensor:
    """Return a target, (H, W), as training would see it: fitted to the network's input, or whole for windows."""
    return torch.from_numpy(fit.pad_target(fit.keep_mask(target.numpy()), padding))


def _at_own_size(predictor: Predictor, logits: Tensor, target: Tensor) -> TilePrediction:
    """Bring logits, (outputs, S, S), to the size of the tile's mask, (H, W)."""
    manifest = predictor.manifest
    height, width = predictor.fit.inner(*target.shape)
    logits = resized(logits[:, :height, :width], tuple(target.shape))
    indices: Indices = most_likely(logits, manifest.labels, manifest.threshold).cpu().numpy()
    if manifest.min_area:
        indices = remove_small(indices, manifest.min_area, manifest.labels.predicts_background)
    return TilePrediction(logits, indices, target.numpy())


def _through_windows(
    infer: Callable[[Tensor, Tensor], Tensor], image: Tensor, target: Tensor, fit: Fit, overlap: float, at_once: int
) -> Tensor:
    """Return the logits, (outputs, H, W), of a whole tile: for each pixel the mean over its windows.

    The image is (H, W, bands), the target (H, W).
    """
    height, width = image.shape[:2]
    total: Tensor | None = None
    seen = torch.zeros(height, width)
    corners = fit.windows(height, width, overlap)
    for first in range(0, len(corners), at_once):
        squares = [
            np.s_[top : top + fit.size, left : left + fit.size] for top, left in corners[first : first + at_once]
        ]
        logits = infer(*(torch.stack([whole[square] for square in squares]) for whole in (image, target)))
        if total is None:
            total, seen = logits.new_zeros(logits.shape[1], height, width), seen.to(logits.device)
        for square, part in zip(squares, logits, strict=True):
            total[:, *square] += part
            seen[square] += 1
    assert total is not None
    return total / seen


def resized(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bring the logits of a tile, (outputs, h, w), to another size, (H, W)."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits[None], size=size, mode=LOGITS, align_corners=False)[0]


def most_likely(logits: Tensor, labels: Labels, threshold: float = THRESHOLD) -> Tensor:
    """Return the index that logits, (..., outputs, H, W), mean at each pixel: uint8, (..., H, W).

    A single class is predicted where its probability is above the threshold.
    """
    if labels.binary:
        return (logits.select(-3, 0).sigmoid() > threshold).to(torch.uint8)
    return (logits.argmax(dim=-3) + labels.first).to(torch.uint8)


def probabilities(logits: Tensor, labels: Labels) -> Tensor:
    """Return the probabilities, (..., outputs, H, W), of logits of this shape.

    A single class has its own probability; those of several classes, and of background if it is an output, add up to 1.
    """
    return logits.sigmoid() if labels.binary else logits.softmax(dim=-3)


def count_pixels(logits: Tensor, targets: Tensor, labels: Labels) -> Tensor:
    """Return the numbers of pixels by true index (rows) and predicted index (columns), as in `ConfusionMatrix`.

    Logits are (B, outputs, H, W) and targets (B, H, W), uint8, on the same device, where the counts stay: int64. A GPU
    is not waited for.
    """
    side = len(labels.classes) + 1
    cells = targets.int() * side + most_likely(logits, labels)
    cells = torch.where(targets == IGNORED, side**2, cells).flatten()
    if cells.is_cuda:  # bincount looks for the largest value first, and waits for it
        found = torch.histc(cells, bins=side**2 + 1, min=0, max=side**2 + 1)
    else:
        found = torch.bincount(cells, minlength=side**2 + 1)
    return found[:-1].view(side, side).long()
