"""What went wrong in a trial, and what may be done about it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum

import torch

from segtune.errors import LoaderError, NonFiniteLossError, PlaceError, ProcessError, SegtuneError, TileError
from segtune.files.folders import RunFolder

LOST = "the worker process died (killed by the system, or out of memory)"

# EIO is also what a failed write of weights or state ends in, whose library does not say why.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_LONGEST = 300  # characters of a reason


class Fault(Enum):
    """What may be done about a failure."""

    DISK = "disk"  # the disk is full: the next trial would fail as well
    SETTINGS = "settings"  # caused by the trial's settings: it would fail again
    DIVERGED = "diverged"  # the loss became NaN or infinite; the sampler learns from it
    PLACE = "place"  # the node does not see a file that the trial needs; another node may
    TRANSIENT = "transient"  # worth another try


@dataclass(frozen=True)
class Failure:
    """The failure of a trial."""

    reason: str
    fault: Fault = Fault.TRANSIENT


def failure_of(error: Exception) -> Failure:
    """Classify an error that ended a trial."""
    return Failure(reason_of(error), fault_of(error))


def death_of(folder: RunFolder) -> Failure:
    """Return the failure of a trial whose process died, with the reason that it left in the trial's folder, if any."""
    return Failure(folder.fault() or LOST)


def fault_of(error: Exception) -> Fault:
    """Return what may be done about an error."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return Fault.DISK
    if isinstance(error, NonFiniteLossError):
        return Fault.DIVERGED
    if isinstance(error, PlaceError):
        return Fault.PLACE
    if isinstance(error, SegtuneError) and not isinstance(error, TileError | LoaderError | ProcessError):
        return Fault.SETTINGS
    return Fault.TRANSIENT


def beyond_repair(error: Exception) -> bool:
    """Return whether the process is of no more use: after an error on a GPU, every later call there fails."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)


def reason_of(error: Exception) -> str:
    """Describe an error on one line, as tables show it."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif not isinstance(error, SegtuneError) or not text:
        text = f"{name}: {text}" if text else name
    return text[:_LONGEST]
