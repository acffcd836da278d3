"""Choose the device and the precision on this machine, and cope with too little memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch

from segtune.config import RunConfig
from segtune.errors import InputError, counted
from segtune.fields import check_setting
from segtune.torch_errors import memory_error, out_of_memory

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NATIVE_BF16 = (8, 0)  # compute capability; below it is_bf16_supported() is true by emulation

T = TypeVar("T")


def resolve_device(wanted: str) -> torch.device:
    """Return the torch device for a `device` setting; raise InputError if this machine does not have it."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_setting("device", wanted)
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"device: {wanted} was asked for, but torch sees {count} CUDA devices here")
    return device


def check_gpus(config: RunConfig) -> None:
    """Raise InputError if this machine does not have the GPUs that a run asks for."""
    if config.gpus == 1:
        return
    device = resolve_device(config.device)
    if ":" in config.device:
        raise InputError(
            f"device: {config.device} is one GPU, but gpus is {config.gpus}; CUDA_VISIBLE_DEVICES chooses which to use"
        )
    if config.device == "cpu":
        raise InputError(f"gpus: {config.gpus} were asked for, but device is cpu; leave one of them out")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if config.gpus > count:
        raise InputError(f"gpus: {config.gpus} were asked for, but torch sees {counted(count, 'GPU')} here")


def resolve_precision(config: RunConfig, device: torch.device) -> str:
    """Return fp32, fp16 or bf16 for a `precision` setting on this device; raise InputError for fp16 on the CPU."""
    if config.precision == "fp16" and device.type == "cpu":
        raise InputError("precision: fp16 needs a GPU, and this run is on the CPU")
    if config.precision != "auto":
        return config.precision
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= _NATIVE_BF16 else "fp16"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return a context for a forward pass in this precision; for fp32 it does nothing."""
    return torch.autocast(device.type, _DTYPES[precision]) if precision in _DTYPES else nullcontext()


def within_memory(
    compute: Callable[[int], T],
    size: int,
    before_retry: Callable[[], object] | None = None,
    agree: Callable[[bool], bool] = bool,
) -> tuple[T, int]:
    """Call `compute(size)`, with half the size each time memory is not enough; return its result and the size.

    `before_retry` is called after each failed attempt, to undo what it changed. `agree` is called after each attempt
    with whether it failed, and returns whether it failed anywhere, for processes that compute together. Raises
    DeviceMemoryError if memory is not enough for a size of 1.
    """
    while True:
        result, reason = _attempt(compute, size)
        if not agree(reason is not None):
            return result[0], size
        result.clear()
        # Outside the except block: the exception's traceback no longer holds tensors in memory.
        if before_retry:
            before_retry()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        if size == 1:
            raise memory_error(reason or "in another process of the run")
        size = (size + 1) // 2


def _attempt(compute: Callable[[int], T], size: int) -> tuple[list[T], str | None]:
    """Return the result, in a list, and why there is none."""
    try:
        return [compute(size)], None
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return [], str(error)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use this number of threads for a while; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
