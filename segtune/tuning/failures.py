"""What went wrong in a trial, and what may be done about it."""

from __future__ import annotations

import errno
from typing import Literal

import torch

from segtune.errors import LoaderError, NonFiniteLossError, PlaceError, SegtuneError, TileError

Fault = Literal["disk", "place", "settings", "diverged", "transient"]
DISK: Fault = "disk"  # full: the next trial would fail as well
SETTINGS: Fault = "settings"  # the trial's own: it would fail again
NONFINITE: Fault = "diverged"  # of its settings too, and the sampler should know
PLACE: Fault = "place"  # what a trial needs is out of sight on its node: on another one it may not be
TRANSIENT: Fault = "transient"  # worth another try
LOST = "the worker process died (killed by the system, or out of memory)"

# EIO is also what a failed write of weights or state ends in, whose library does not say why.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_LONGEST = 300  # characters of a reason


def fault_of(error: Exception) -> Fault:
    """What may be done about a failure."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return DISK
    if isinstance(error, NonFiniteLossError):
        return NONFINITE
    if isinstance(error, PlaceError):
        return PLACE
    if isinstance(error, SegtuneError) and not isinstance(error, TileError | LoaderError):
        return SETTINGS
    return TRANSIENT


def beyond_repair(error: Exception) -> bool:
    """Whether the process can be of no more use: after an error on a GPU, every later call there fails."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)


def one_line(error: Exception) -> str:
    """The reason as tables show it."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif not isinstance(error, SegtuneError) or not text:
        text = f"{name}: {text}" if text else name
    return text[:_LONGEST]
