"""evaluate(): the one measurement, used by training for every epoch and by validate.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.checkpoint import THRESHOLD, Manifest
from segtune.data.batches import Batches
from segtune.data.pairs import Tile
from segtune.data.store import TileStore
from segtune.device import autocast
from segtune.metrics import BACKGROUND, ConfusionMatrix, Scores
from segtune.schema import Band, Labels

Indices = npt.NDArray[np.uint8]
OnTile = Callable[[int, Indices], None]


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


def evaluation_store(manifest: Manifest, tiles: Sequence[Tile], sources: Sequence[int], threads: int) -> TileStore:
    """The tiles of a split as evaluation reads them: masks at their own size."""
    return TileStore(
        tiles,
        manifest.labels,
        sources,
        manifest.bands,
        manifest.config.image_size or 0,
        manifest.uint8,
        fit_masks=False,
        threads=threads,
    )


def evaluate(
    model: nn.Module,
    manifest: Manifest,
    batches: Batches,
    store: TileStore,
    device: torch.device,
    on_tile: OnTile | None = None,
) -> Scores:
    """Score a model on a store's tiles, each at its mask's own size.

    `on_tile` gets each tile's position and predicted indices, (H, W) uint8. The model is left in evaluation mode.
    """
    matrix = ConfusionMatrix(manifest.labels.classes)
    for index, predicted in predict(model, manifest, batches, device):
        matrix.update(predicted, store.target(index))
        if on_tile:
            on_tile(index, predicted)
    return matrix.scores()


@torch.no_grad()
def predict(
    model: nn.Module, manifest: Manifest, batches: Batches, device: torch.device
) -> Iterator[tuple[int, Indices]]:
    """Position and predicted indices, (H, W) uint8 at the mask's own size, of tile after tile."""
    normalize = Normalization(manifest.bands, device)
    model.eval()
    index = 0
    for images, targets in batches.epoch(0):
        with autocast(device, manifest.precision):
            logits = model(normalize(images)).float()
        for tile_logits, target in zip(logits, targets, strict=True):
            yield index, to_indices(tile_logits, tuple(target.shape), manifest.labels)
            index += 1


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
