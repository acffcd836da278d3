"""Training states on disk: written whole or not at all, and checked to be of the types that a run writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segtune.errors import InputError
from segtune.files.atomic import replaced_file
from segtune.models.tensors import disk_errors, unusable

_SIZES = ("micro_batch", "evaluation_batch_size")  # of at least one tile


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
        if reason := unusable(tensor):
            raise ValueError(f"a tensor {reason}")
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
