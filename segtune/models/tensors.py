"""Check tensors that were read from a file, and name the file when tensors cannot be written."""

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
    """Raise ValueError if a tensor is complex, quantized, sparse, nested, or has no numbers at all."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.layout is not torch.strided:
        raise ValueError(f"{name} is not a plain tensor")
    if tensor.is_meta:
        raise ValueError(f"{name} has only a shape, no numbers")
    if tensor.is_quantized:
        raise ValueError(f"{name} is quantized")
    if tensor.is_complex():
        raise ValueError(f"{name} is complex")


def check_numbers(name: str, given: Tensor, own: Tensor) -> None:
    """Raise ValueError if a plain tensor holds NaN or infinity, or cannot replace a network's own one by its type."""
    if given.is_floating_point() != own.is_floating_point():
        kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (given, own)]
        raise ValueError(f"{name} is {kinds[0]} instead of {kinds[1]}")
    if not given.float().isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity")


def check_shape(name: str, given: Tensor, own: Tensor) -> None:
    """Raise ValueError if a tensor does not have the shape of a network's own one."""
    if given.shape != own.shape:
        raise ValueError(f"{name} is {_sides(given)} instead of {_sides(own)}")


def _sides(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of torch and safetensors on a full disk into an OSError that names the file."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # also RuntimeErrors, but not about the disk
    except (RuntimeError, SafetensorError) as error:
        if loader_died(error):
            raise
        raise OSError(errno.EIO, f"cannot be written; is the disk full? ({one_line(error)})", str(path)) from None
