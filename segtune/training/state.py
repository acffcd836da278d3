"""Training states on disk: written whole or not at all, and checked to be of the types that a run writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from segtune.errors import InputError
from segtune.evaluation.worst import WorstTile
from segtune.files.atomic import replaced_file
from segtune.models.tensors import check_plain, disk_errors
from segtune.training.optim import set_learning_rates
from segtune.training.stopwatch import Phases

_SIZES = ("micro_batch", "evaluation_batch_size")  # of at least one tile


@dataclass
class Progress:
    """How far a run is."""

    total: Tensor  # loss of the tiles of the epoch so far, summed on the device
    micro_batch: int  # tiles at a time in training
    evaluation_batch_size: int  # tiles, or windows, at a time in evaluation
    tiles: int = 0  # of the epoch so far
    step: int = 0  # of the epoch: steps that are done
    epoch: int = 0  # epochs that are done
    best_miou: float | None = None
    best_epoch: int = 0
    collapsed_epochs: int = 0  # in a row, up to the last one that is done
    seconds: float = 0.0
    lr: float = 0.0  # of the last step

    def next_epoch(self, seconds: float) -> Progress:
        """At the end of an epoch: nothing of the next one is done."""
        return replace(self, total=torch.zeros_like(self.total), tiles=0, step=0, epoch=self.epoch + 1, seconds=seconds)


@dataclass
class TrainingState:
    """All that changes while a run trains: what state.pt holds, and a run that goes on takes up again."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    progress: Progress
    phases: Phases
    row: dict[str, float | int | None] = field(default_factory=dict)  # of the last epoch that is done
    worst: dict[str, list[WorstTile]] = field(default_factory=dict)  # of the best epoch, by split

    def state_dict(self, more_seconds: float) -> dict[str, Any]:
        """Return what state.pt holds; `more_seconds` were spent on an epoch that is not done."""
        device = self.progress.total.device
        return {
            "model": self.model.state_dict(),
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
        """Take up what `state_dict` gave.

        `tiles` are those of each split that the run is scored on. What is wrong with a state raises one of many errors:
        ValueError, TypeError, KeyError, ... of this module or of torch.
        """
        check_state(state, self.progress, self.schedule)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        check_optimizer(self.optimizer)
        self.schedule.load_state_dict(state["schedule"])
        set_learning_rates(self.schedule)
        if state["scaler"]:  # empty where the run was not in fp16 before
            self.scaler.load_state_dict(state["scaler"])
        device = self.progress.total.device
        self.progress = replace(self.progress, **state["progress"])
        self.progress.total = self.progress.total.to(device)
        self.row = state["row"]
        self.phases.add(state["spent"])
        # By position, which the fingerprint vouches for: an added set may have another name since.
        self.worst = {
            split: [WorstTile(score, index, predicted.numpy()) for score, index, predicted in kept]
            for split, kept in zip(tiles, state["worst"].values(), strict=False)  # none before the first evaluation
        }
        if any(tile.index >= tiles[split] for split, kept in self.worst.items() for tile in kept):
            raise ValueError("worst: there is no such tile")
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], device)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state: tensors, numbers, strings, and containers of them. OSError when that fails."""
    with disk_errors(path), replaced_file(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state, on the CPU; InputError where it is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch, zipfile and pickle each raise errors of their own for a broken file.
        raise InputError(f"{path}: damaged, or not a state of a run ({type(error).__name__})") from None
    return state


def check_state(state: Mapping[str, Any], progress: object, schedule: LRScheduler) -> None:
    """ValueError, TypeError or KeyError where a part of a state is not what a run writes there.

    Parameters
    ----------
    state: what was read.
    progress: that of a run that begins, whose fields have the right types.
    schedule: of the run.
    """
    for tensor in _tensors(state):
        check_plain("a tensor", tensor)
    for name, value in state["progress"].items():
        _check_progress(name, value, getattr(progress, name))
    for part in ("row", "spent"):
        for name, value in state[part].items():
            if not _is_number(value) and (value is not None or part == "spent"):
                raise ValueError(f"{part}: {name} is no number")
    for tiles in state["worst"].values():
        for score, index, predicted in tiles:
            if not _is_number(score) or type(index) is not int or index < 0 or predicted.dtype != torch.uint8:
                raise ValueError("worst: a tile is not what it should be")
    own = schedule.state_dict()
    for name, value in state["schedule"].items():
        if type(value) is not type(own[name]):
            raise ValueError(f"schedule: {name} is of a wrong type")


def check_optimizer(optimizer: Optimizer) -> None:
    """ValueError where what an optimizer took from a state does not fit its parameters."""
    for group in optimizer.param_groups:
        for name, value in group.items():
            parts = value if isinstance(value, tuple) else (value,)
            if name != "params" and not all(part is None or isinstance(part, bool | int | float) for part in parts):
                raise ValueError(f"optimizer: {name} is no number")
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            fits = value.numel() == 1 or value.shape == parameter.shape if isinstance(value, Tensor) else value is None
            if not fits:
                raise ValueError(f"optimizer: {name} does not fit its weights")


def _check_progress(name: str, value: Any, own: Any) -> None:
    if isinstance(own, Tensor):
        right = isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
    elif isinstance(own, int):
        right = type(value) is int and value >= (1 if name in _SIZES else 0)
    else:  # a float, or None where there is none yet
        right = _is_number(value) or (own is None and value is None)
    if not right:
        raise ValueError(f"progress: {name} is not what it should be")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _tensors(item)
