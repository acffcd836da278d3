"""One training step: one update of the weights, by a batch that is split where memory is short."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from segtune.data.labels import IGNORED
from segtune.models.device import autocast, within_memory
from segtune.training.losses import SegmentationLoss


class TrainingStep:
    """An update of a model by a batch; accumulates gradients over parts where memory is too small for the whole batch.

    The loss of each part is weighted by its share of the tiles. For a loss that is a mean over pixels, the gradients
    are then those of the whole batch. Losses over regions (dice, jaccard, lovasz) and BatchNorm see the parts, and
    differ slightly.

    Parameters
    ----------
    model, loss, optimizer, scaler: what is trained, and how.
    normalize: takes images, (B, H, W, bands), to the device, in the form that the model takes.
    precision: precision of the forward pass: fp32, fp16 or bf16.
    grad_clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: SegmentationLoss,
        optimizer: Optimizer,
        scaler: GradScaler,
        normalize: Callable[[Tensor], Tensor],
        device: torch.device,
        precision: str,
        grad_clip: float,
    ) -> None:
        self._model, self._loss, self._optimizer, self._scaler = model, loss, optimizer, scaler
        self._normalize, self._device, self._precision, self._grad_clip = normalize, device, precision, grad_clip

    def __call__(
        self, images: Tensor, targets: Tensor, micro_batch: int, maps: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """Update the weights by images, (B, H, W, bands), and uint8 targets, (B, H, W).

        `maps` are the distance maps, (B, maps, H, W), for a loss that needs them.

        Return the loss and the micro-batch: the number of tiles that go through the network at a time. It is the one
        given or, where memory was too small for it, a half of it, a quarter, ... Raises DeviceMemoryError where memory
        is too small for one tile.
        """
        begun = min(micro_batch, len(images))
        drawn = self._random_state()

        def undo() -> None:
            self._optimizer.zero_grad(set_to_none=True)
            self._set_random_state(drawn)  # so that dropout draws the same in every attempt

        loss, size = within_memory(lambda size: self._gradients(images, targets, maps, size), begun, undo)
        if self._grad_clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss, size if size < begun else micro_batch

    def _gradients(self, images: Tensor, targets: Tensor, maps: Tensor | None, micro_batch: int) -> Tensor:
        """Return the loss of the batch, and leave its scaled gradients at the parameters."""
        self._optimizer.zero_grad(set_to_none=True)
        parts = -(-len(images) // micro_batch)
        total = torch.zeros((), device=self._device)
        # The parts have even sizes, because BatchNorm learns little from a part of a single tile.
        split = [maps] * parts if maps is None else maps.tensor_split(parts)
        for some, truth, near in zip(images.tensor_split(parts), targets.tensor_split(parts), split, strict=True):
            loss = self._part_loss(some, truth, near) * (len(some) / len(images))
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _part_loss(self, images: Tensor, targets: Tensor, maps: Tensor | None) -> Tensor:
        # Looked up on the CPU, because on the GPU it would have to wait for the step. IGNORED is the largest index, and
        # numpy finds the maximum in a fraction of the time that torch needs for `any`.
        some_ignored = bool(targets.numpy().max() == IGNORED)
        with autocast(self._device, self._precision):
            logits = self._model(self._normalize(images))
        if maps is not None:
            maps = maps.to(self._device, non_blocking=True).float()
        loss: Tensor = self._loss(logits.float(), targets.to(self._device, non_blocking=True), some_ignored, maps)
        return loss

    def _random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)
