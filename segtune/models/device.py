"""Device and precision: from `auto` to what this machine has."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import check_setting
from segtune.torch_errors import memory_error, out_of_memory

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NATIVE_BF16 = (8, 0)  # compute capability; below it is_bf16_supported() is true by emulation

T = TypeVar("T")


def resolve_device(wanted: str) -> torch.device:
    """The torch device for a `device` setting; InputError where an explicit one is missing."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_setting("device", wanted)
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"device: {wanted} was asked for, but torch sees {count} CUDA devices here")
    return device


def resolve_precision(config: RunConfig, device: torch.device) -> str:
    """fp32, fp16 or bf16 for a `precision` setting on this device."""
    if config.precision == "fp16" and device.type == "cpu":
        raise InputError("precision: fp16 needs a GPU, and this run is on the CPU")
    if config.precision != "auto":
        return config.precision
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= _NATIVE_BF16 else "fp16"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision for the forward pass; nothing for fp32."""
    return torch.autocast(device.type, _DTYPES[precision]) if precision in _DTYPES else nullcontext()


def within_memory(
    compute: Callable[[int], T], size: int, before_retry: Callable[[], object] | None = None
) -> tuple[T, int]:
    """What `compute(size)` gives, and the size: the one asked for, or the first of its halves that memory takes.

    `before_retry` puts back what an attempt that failed has changed. DeviceMemoryError where 1 is too much.
    """
    while True:
        try:
            return compute(size), size
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = str(error)
        # Only here, without the exception, is what its traceback held free.
        if before_retry:
            before_retry()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        if size == 1:
            raise memory_error(reason)
        size = (size + 1) // 2
