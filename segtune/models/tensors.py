"""Tensors in files: what makes one unusable, and what is raised where none can be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from segtune.errors import loader_died, one_line


def unusable(tensor: Tensor) -> str:
    """Why a tensor of a file is nothing that a network can have; empty where it is fine."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.layout is not torch.strided:
        return "is no plain tensor"
    if tensor.is_meta:
        return "has a shape alone, without numbers"
    if tensor.is_quantized:
        return "is quantised"
    return "is complex" if tensor.is_complex() else ""


def unfit(given: Tensor, own: Tensor) -> str:
    """Why a tensor of a file cannot take the place of a network's own of the same shape; empty where it can."""
    if given.is_floating_point() != own.is_floating_point():
        return f"is {str(given.dtype).removeprefix('torch.')} instead of {str(own.dtype).removeprefix('torch.')}"
    return "" if bool(given.float().isfinite().all()) else "holds NaN or infinite numbers"


def sides(tensor: Tensor) -> str:
    """A tensor's shape in words."""
    return "x".join(map(str, tensor.shape)) or "one number"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors raise when the disk is full into an OSError that names the file."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # RuntimeErrors too, and not the disk's fault
    except (RuntimeError, SafetensorError) as error:
        if loader_died(error):
            raise
        raise OSError(errno.EIO, f"cannot be written; is the disk full? ({one_line(error)})", str(path)) from None
