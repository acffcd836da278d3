"""One training step: one update of the weights, by a batch that is split where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from segtune.data.labels import IGNORED, Labels
from segtune.evaluation.predict import count_pixels
from segtune.models.device import autocast, within_memory
from segtune.training.losses import SegmentationLoss


class StepResult(NamedTuple):
    """The result of a training step; its tensors are on the device."""

    loss: Tensor
    micro_batch: int  # tiles that went through the network at a time
    counts: Tensor  # pixels by true and predicted index, as `count_pixels` returns them


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
    labels: the labels that the targets stand for.
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
        labels: Labels,
    ) -> None:
        self._model, self._loss, self._optimizer, self._scaler = model, loss, optimizer, scaler
        self._normalize, self._device, self._precision, self._grad_clip = normalize, device, precision, grad_clip
        self._labels = labels

    def __call__(self, images: Tensor, targets: Tensor, micro_batch: int, maps: Tensor | None = None) -> StepResult:
        """Update the weights by images, (B, H, W, bands), and uint8 targets, (B, H, W).

        `maps` are the distance maps, (B, maps, H, W) or half as high and wide, for a loss that needs them.

        The micro-batch of the result is the one given or, where memory was too small for it, a half of it, a quarter,
        ... Raises DeviceMemoryError where memory is too small for one tile.
        """
        begun = min(micro_batch, len(images))
        drawn = self._random_state()

        def undo() -> None:
            self._optimizer.zero_grad(set_to_none=True)
            self._set_random_state(drawn)  # so that dropout draws the same in every attempt

        (loss, counts), size = within_memory(lambda size: self._gradients(images, targets, maps, size), begun, undo)
        if self._grad_clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return StepResult(loss, size if size < begun else micro_batch, counts)

    def _gradients(
        self, images: Tensor, targets: Tensor, maps: Tensor | None, micro_batch: int
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the pixel counts of the batch, and leave its scaled gradients at the parameters."""
        self._optimizer.zero_grad(set_to_none=True)
        parts = -(-len(images) // micro_batch)
        total = torch.zeros((), device=self._device)
        counts: list[Tensor] = []
        # The parts have even sizes, because BatchNorm learns little from a part of a single tile.
        split = [maps] * parts if maps is None else maps.tensor_split(parts)
        for some, truth, near in zip(images.tensor_split(parts), targets.tensor_split(parts), split, strict=True):
            moved = truth.to(self._device, non_blocking=True)
            logits, loss = self._forward(some, truth, moved, near)
            loss = loss * (len(some) / len(images))
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            counts.append(count_pixels(logits.detach(), moved, self._labels))
        return total, torch.stack(counts).sum(dim=0)

    def _forward(self, images: Tensor, targets: Tensor, moved: Tensor, maps: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits and loss of a part of a batch; `moved` are its targets on the device."""
        # Looked up on the CPU, because on the GPU it would have to wait for the step. IGNORED is the largest index, and
        # numpy finds the maximum in a fraction of the time that torch needs for `any`.
        some_ignored = bool(targets.numpy().max() == IGNORED)
        with autocast(self._device, self._precision):
            logits = self._model(self._normalize(images))
        if maps is not None:
            maps = maps.to(self._device, non_blocking=True).float()
        return logits, self._loss(logits.float(), moved, some_ignored, maps)

    def _random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)
