"""One training step: one update of the weights, by a batch that is split where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from segtune.data.labels import IGNORED, Labels
from segtune.evaluation.predict import count_pixels
from segtune.models.device import autocast, within_memory
from segtune.torch_errors import out_of_memory
from segtune.training.distributed import ALONE, Group
from segtune.training.losses import SegmentationLoss

_Sums = tuple[Tensor, Tensor]  # the loss, and pixels by true and predicted index


class StepResult(NamedTuple):
    """The result of a training step; its tensors are on the device."""

    loss: Tensor
    micro_batch: int  # tiles that went through the network at a time
    counts: Tensor  # pixels by true and predicted index, as `count_pixels` returns them


class ShortMemoryError(Exception):
    """Memory was too small for a part of a batch, in one of several processes; the others wait for this one.

    Parameters
    ----------
    micro_batch: tiles that went through the network at a time, in all processes together.
    reason: what torch said.
    """

    def __init__(self, micro_batch: int, reason: str) -> None:
        super().__init__(micro_batch, reason)
        self.micro_batch, self.reason = micro_batch, reason


class TrainingStep:
    """An update of a model by a batch; accumulates gradients over parts where memory is too small for the whole batch.

    The loss of each part is weighted by its share of the tiles. For a loss that is a mean over pixels, the gradients
    are then those of the whole batch. Losses over regions (dice, jaccard, lovasz) and BatchNorm see the parts, and
    differ slightly.

    Where processes share a batch, each computes the loss of the whole batch from the logits of all, and the gradients
    of its own part. So every loss is the one that a single process computes.

    Parameters
    ----------
    model, loss, optimizer, scaler: what is trained, and how.
    normalize: takes images, (B, H, W, bands), to the device, in the form that the model takes.
    precision: precision of the forward pass: fp32, fp16 or bf16.
    grad_clip: largest norm of the gradient; 0 does not clip.
    labels: the labels that the targets stand for.
    group: the processes that share each batch.
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
        group: Group = ALONE.group,
    ) -> None:
        self._group, self._network = group, group.shared(model)
        self._model, self._loss, self._optimizer, self._scaler = model, loss, optimizer, scaler
        self._normalize, self._device, self._precision, self._grad_clip = normalize, device, precision, grad_clip
        self._labels = labels

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        micro_batch: int,
        maps: Tensor | None = None,
        tiles: int | None = None,
    ) -> StepResult:
        """Update the weights by images, (B, H, W, bands), and uint8 targets, (B, H, W).

        `maps` are the distance maps, (B, maps, H, W) or half as high and wide, for a loss that needs them. `tiles` is
        the size of a batch of which the images are this process's part; the result is that of the whole batch.

        The micro-batch of the result is the one given or, where memory was too small for it, a half of it, a quarter,
        ... Raises DeviceMemoryError where memory is too small for one tile, and ShortMemoryError where several
        processes share the batch, which cannot repeat it together.
        """
        tiles = tiles or len(images)
        begun = min(micro_batch, tiles)
        if self._group.size == 1:
            (loss, counts), size = self._fitting_gradients(images, targets, maps, begun)
        else:
            (loss, counts), size = self._shared_gradients(images, targets, maps, begun, tiles), begun
        if self._grad_clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return StepResult(loss, size if size < begun else micro_batch, counts)

    def _fitting_gradients(
        self, images: Tensor, targets: Tensor, maps: Tensor | None, micro_batch: int
    ) -> tuple[_Sums, int]:
        """Compute the gradients of a batch, in parts where memory is short; also return the size of a part."""
        drawn = self._random_state()

        def undo() -> None:
            self._optimizer.zero_grad(set_to_none=True)
            self._set_random_state(drawn)  # so that dropout draws the same in every attempt

        return within_memory(lambda size: self._gradients(images, targets, maps, size), micro_batch, undo)

    def _shared_gradients(
        self, images: Tensor, targets: Tensor, maps: Tensor | None, micro_batch: int, tiles: int
    ) -> _Sums:
        """Compute the gradients of this process's part of a batch, and average them over the processes."""
        try:
            if self._group.divides(tiles):
                return self._divided_gradients(images, targets, maps, micro_batch, tiles)
            with self._group.alone(self._model):
                return self._gradients(images, targets, maps, tiles)  # the same in all processes
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = str(error)
        raise ShortMemoryError(micro_batch, reason)

    def _divided_gradients(
        self, images: Tensor, targets: Tensor, maps: Tensor | None, micro_batch: int, tiles: int
    ) -> _Sums:
        self._optimizer.zero_grad(set_to_none=True)
        parts = min(-(-tiles // micro_batch), tiles // self._group.size)  # so that each process has a tile of each part
        total = torch.zeros((), device=self._device)
        pixels: list[Tensor] = []
        pieces = zip(images.tensor_split(parts), targets.tensor_split(parts), _split(maps, parts), strict=True)
        for number, (some, truth, near) in enumerate(pieces):
            counts = [count // parts + (number < count % parts) for count in self._group.counts(tiles)]
            with self._averaged(last=number == parts - 1):
                logits, moved, loss = self._forward(some, truth, near, counts)
                loss = loss * (sum(counts) / tiles)
                # The gradient of a loss is the sum over the processes, of which the mean is taken.
                self._scaler.scale(loss * self._group.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            pixels.append(count_pixels(logits.detach(), moved, self._labels))
        return total, torch.stack(pixels).sum(dim=0)

    def _averaged(self, last: bool) -> AbstractContextManager[Any]:
        """Return a context for a part of a batch: gradients are averaged over the processes with the last part."""
        assert isinstance(self._network, DistributedDataParallel)
        return nullcontext() if last else self._network.no_sync()

    def _gradients(self, images: Tensor, targets: Tensor, maps: Tensor | None, micro_batch: int) -> _Sums:
        """Return the loss and the pixel counts of the batch, and leave its scaled gradients at the parameters."""
        self._optimizer.zero_grad(set_to_none=True)
        parts = -(-len(images) // micro_batch)
        total = torch.zeros((), device=self._device)
        pixels: list[Tensor] = []
        # The parts have even sizes, because BatchNorm learns little from a part of a single tile.
        pieces = zip(images.tensor_split(parts), targets.tensor_split(parts), _split(maps, parts), strict=True)
        for some, truth, near in pieces:
            logits, moved, loss = self._forward(some, truth, near)
            loss = loss * (len(some) / len(images))
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            pixels.append(count_pixels(logits.detach(), moved, self._labels))
        return total, torch.stack(pixels).sum(dim=0)

    def _forward(
        self, images: Tensor, targets: Tensor, maps: Tensor | None, counts: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, targets and loss, on the device, of these tiles and of those of the other processes.

        `counts` has the number of tiles of each process; without it these tiles are all.
        """
        # Looked up on the CPU, because on the GPU it would have to wait for the step. IGNORED is the largest index, and
        # numpy finds the maximum in a fraction of the time that torch needs for `any`.
        some_ignored = bool(targets.numpy().max() == IGNORED)
        moved = targets.to(self._device, non_blocking=True)
        with autocast(self._device, self._precision):
            logits = self._network(self._normalize(images))
        if maps is not None:
            maps = maps.to(self._device, non_blocking=True).float()
        if counts:
            logits, moved = (self._group.join_tiles(own, counts) for own in (logits.float(), moved))
            maps = maps if maps is None else self._group.join_tiles(maps, counts)
            some_ignored = self._group.any(some_ignored)
        return logits, moved, self._loss(logits.float(), moved, some_ignored, maps)

    def _random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)


def _split(maps: Tensor | None, parts: int) -> Sequence[Tensor | None]:
    return [None] * parts if maps is None else maps.tensor_split(parts)
