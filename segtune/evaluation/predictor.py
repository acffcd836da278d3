"""A trained network as a function from pixels to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segtune.data.fitting import Fit
from segtune.errors import InputError
from segtune.models.device import autocast
from segtune.models.manifest import Manifest
from segtune.models.normalization import Normalization

# Views of test-time augmentation: quarter turns, and whether the turned image is mirrored.
VIEWS: dict[str, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}
_AXES = (2, 3)  # height and width


class Predictor:
    """A model with its normalization and precision; the model is put into evaluation mode.

    Parameters
    ----------
    model: the network, on the device.
    manifest: how it was trained.
    device: where it computes.
    tta: test-time augmentation: `none`; `flips`, the mean logits of 4 mirrored views; or `d4`, of all 8 views that
        turns by 90 degrees and mirroring give. Raises InputError for another name.
    """

    def __init__(self, model: nn.Module, manifest: Manifest, device: torch.device, tta: str = "none") -> None:
        if tta not in VIEWS:
            raise InputError(f"--tta: must be one of {', '.join(VIEWS)}, but got {tta!r}")
        self.manifest, self.device, self.tta = manifest, device, tta
        self.fit = Fit.of(manifest.config)
        self._model = model.eval()
        self._normalize = Normalization(manifest.bands, device)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the logits, (B, outputs, S, S), float32, on the device.

        Images are (B, S, S, bands), uint8 or float32, as they are read: not normalized.
        """
        inputs = self._normalize(images)
        views = VIEWS[self.tta]
        total = self._view(inputs, *views[0])
        for view in views[1:]:
            total += self._view(inputs, *view)
        return total / len(views) if len(views) > 1 else total

    def _view(self, inputs: Tensor, turns: int, mirrored: bool) -> Tensor:
        """Return the logits of one view, turned back."""
        seen = torch.rot90(inputs, turns, _AXES) if turns else inputs
        if mirrored:
            seen = seen.flip(3)
        if seen is not inputs:
            seen = seen.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.manifest.precision):
            logits: Tensor = self._model(seen)
        logits = logits.float()
        if mirrored:
            logits = logits.flip(3)
        return torch.rot90(logits, -turns, _AXES) if turns else logits
