"""The state of a run: what it holds, how it is written and read, and the checks of what was read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from segtune.errors import InputError
from segtune.evaluation.worst import WorstTile
from segtune.files.atomic import replaced_file
from segtune.models.tensors import check_plain, disk_errors
from segtune.training.optim import set_learning_rates
from segtune.training.stopwatch import Phases
from segtune.vocabulary import is_number

_SIZES = ("micro_batch", "evaluation_batch_size")  # numbers of tiles, at least one


@dataclass
class Progress:
    """How far a run has come."""

    total: Tensor  # sum of the losses of the present epoch's tiles so far; on the device
    # Pixels of these tiles by true index (rows) and predicted index (columns): see ConfusionMatrix; on the device.
    counts: Tensor
    micro_batch: int  # tiles at a time in training
    evaluation_batch_size: int  # tiles, or windows, at a time in evaluation
    tiles: int = 0  # tiles of the present epoch that were trained on
    step: int = 0  # steps of the present epoch that are done
    epoch: int = 0  # epochs that are done
    best_score: float | None = None  # by the objective of the run; None while no epoch was scored
    best_miou: float | None = None  # of the epoch with that score
    best_epoch: int = 0
    collapsed_epochs: int = 0  # see EpochResult
    stale_epochs: int = 0  # epochs with a score since the best one
    seconds: float = 0.0  # seconds of training and evaluation
    lr: float = 0.0  # learning rate of the last step
    latency: float | None = None  # of a forward pass of one image, in milliseconds; None while it was not measured
    gpu_memory: float | None = None  # the most that tensors took, in gigabytes; None on a CPU

    def next_epoch(self, seconds: float) -> Progress:
        """Return the progress after the present epoch, which took the run to so many seconds."""
        total, counts = torch.zeros_like(self.total), torch.zeros_like(self.counts)
        return replace(self, total=total, counts=counts, tiles=0, step=0, epoch=self.epoch + 1, seconds=seconds)


@dataclass
class TrainingState:
    """Everything that changes while a run trains; state.pt holds it, and a run that is resumed starts from it."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    progress: Progress
    phases: Phases
    average: ModelEmaV3 | None = None  # moving average of the model's weights, where the run has one
    row: dict[str, float | int | None] = field(default_factory=dict)  # row of metrics.csv of the last epoch
    worst: dict[str, list[WorstTile]] = field(default_factory=dict)  # worst tiles of the best epoch, by split

    @property
    def measured(self) -> nn.Module:
        """The model that is evaluated and kept: the average of the weights, or, without one, the weights themselves."""
        return self.average.module if self.average else self.model

    def step_done(self) -> None:
        """Move the learning rates and the average of the weights on, after a training step."""
        self.schedule.step()
        if self.average:
            self.average.update(self.model, step=self.schedule.last_epoch)

    def scored(self, score: float, miou: float) -> bool:
        """Note the score of the epoch that was done last, and its mIoU; return whether it is the best so far."""
        progress = self.progress
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_miou = score, miou
            progress.best_epoch, progress.stale_epochs = progress.epoch, 0
            return True
        progress.stale_epochs += 1
        return False

    def state_dict(self, more_seconds: float) -> dict[str, Any]:
        """Return the content of state.pt; `more_seconds` is the time spent on an epoch that is not done."""
        device = self.progress.total.device
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "worst": {
                split: [(tile.score, tile.index, torch.from_numpy(tile.predicted)) for tile in tiles]
                for split, tiles in self.worst.items()
            },
            "progress": vars(self.progress) | {"seconds": self.progress.seconds + more_seconds},
            "row": self.row,
            "spent": self.phases.spent(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any], tiles: Mapping[str, int]) -> None:
        """Load what `state_dict` returned.

        `tiles` is the number of tiles of each split that the run is scored on. A state that is damaged, or of another
        run, raises one of many errors: ValueError, TypeError, KeyError, RuntimeError, ... of this module or of torch.
        """
        check_state(state, self.progress, self.schedule)
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        check_optimizer(self.optimizer)
        self.schedule.load_state_dict(state["schedule"])
        set_learning_rates(self.schedule)
        if state["scaler"]:  # empty if the run did not use fp16 before
            self.scaler.load_state_dict(state["scaler"])
        device = self.progress.total.device
        earlier = {"best_score": state["progress"]["best_miou"]}  # a former release knew no other objective
        self.progress = replace(self.progress, **(earlier | state["progress"]))
        self.progress.total, self.progress.counts = self.progress.total.to(device), self.progress.counts.to(device)
        self.row = state["row"]
        self.phases.add(state["spent"])
        # Matched by position, because an added set may have been renamed; the fingerprint ensures the same sets.
        self.worst = {
            split: [WorstTile(score, index, predicted.numpy()) for score, index, predicted in kept]
            for split, kept in zip(tiles, state["worst"].values(), strict=False)  # none before the first evaluation
        }
        if any(tile.index >= tiles[split] for split, kept in self.worst.items() for tile in kept):
            raise ValueError("worst: a tile's index is too large")
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], device)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the content of a state: tensors, numbers, strings, and containers of them.

    Raises OSError where the file cannot be written.
    """
    with disk_errors(path), replaced_file(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read the content of a state, onto the CPU; nothing in it is executed.

    Raises InputError where the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch, zipfile and pickle each raise errors of their own for a broken file.
        raise InputError(f"{path}: damaged, or not a state of a run ({type(error).__name__})") from None
    return state


def check_state(state: Mapping[str, Any], progress: object, schedule: LRScheduler) -> None:
    """Check that each part of a state has the type that a run writes.

    Parameters
    ----------
    state: the content of a state.
    progress: the progress of a new run, whose fields have the right types.
    schedule: the schedule of the run.

    Raises ValueError, TypeError or KeyError where a part is wrong.
    """
    for tensor in _tensors(state):
        check_plain("a tensor", tensor)
    for name, value in state["progress"].items():
        _check_progress(name, value, getattr(progress, name))
    for part in ("row", "spent"):
        for name, value in state[part].items():
            if not _is_number(value) and (value is not None or part == "spent"):
                raise ValueError(f"{part}: {name} is not a number")
    for tiles in state["worst"].values():
        for score, index, predicted in tiles:
            if not _is_number(score) or type(index) is not int or index < 0 or predicted.dtype != torch.uint8:
                raise ValueError("worst: a tile has a wrong type")
    own = schedule.state_dict()
    for name, value in state["schedule"].items():
        if type(value) is not type(own[name]):
            raise ValueError(f"schedule: {name} has a wrong type")


def check_optimizer(optimizer: Optimizer) -> None:
    """Check that what an optimizer loaded fits its parameters; raise ValueError where it does not."""
    for group in optimizer.param_groups:
        for name, value in group.items():
            parts = value if isinstance(value, tuple) else (value,)
            variant = isinstance(value, str) and value == optimizer.defaults.get(name)  # such as muon's conv_mode
            if not (name == "params" or variant or all(map(_is_setting, parts))):
                raise ValueError(f"optimizer: {name} is not a number")
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if not (_is_setting(value) or (isinstance(value, Tensor) and value.shape == parameter.shape)):
                raise ValueError(f"optimizer: {name} does not fit its weights")


def _is_setting(value: object) -> bool:
    """Return whether a value is a number, in a tensor or not, or None."""
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, Tensor) and value.numel() == 1)


def _check_progress(name: str, value: Any, own: Any) -> None:
    if isinstance(own, Tensor):
        right = (
            isinstance(value, Tensor)
            and value.shape == own.shape
            and value.is_floating_point() == own.is_floating_point()
        )
    elif isinstance(own, int):
        right = type(value) is int and value >= (1 if name in _SIZES else 0)
    else:  # a float, or None where there is no value yet
        right = _is_number(value) or (own is None and value is None)
    if not right:
        raise ValueError(f"progress: {name} has a wrong type or value")


def _is_number(value: object) -> bool:
    return is_number(value) and math.isfinite(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _tensors(item)
