"""Tensors in files: what makes one unusable, and what is raised where none can be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from segtune.errors import one_line
from segtune.torch_errors import loader_died


def check_plain(name: str, tensor: Tensor) -> None:
    """Raise ValueError where a tensor of a file is of a kind that no network here holds."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.layout is not torch.strided:
        raise ValueError(f"{name} is no plain tensor")
    if tensor.is_meta:
        raise ValueError(f"{name} has a shape alone, without numbers")
    if tensor.is_quantized:
        raise ValueError(f"{name} is quantised")
    if tensor.is_complex():
        raise ValueError(f"{name} is complex")


def check_numbers(name: str, given: Tensor, own: Tensor) -> None:
    """Raise ValueError where a plain tensor holds numbers that cannot replace those of a network's own tensor."""
    if given.is_floating_point() != own.is_floating_point():
        kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (given, own)]
        raise ValueError(f"{name} is {kinds[0]} instead of {kinds[1]}")
    if not given.float().isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite numbers")


def check_shape(name: str, given: Tensor, own: Tensor) -> None:
    """Raise ValueError where a tensor has another shape than a network's own."""
    if given.shape != own.shape:
        raise ValueError(f"{name} is {_sides(given)} instead of {_sides(own)}")


def _sides(tensor: Tensor) -> str:
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
