"""Device and precision: from `auto` to what this machine has."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from segtune.config import RunConfig, check_setting
from segtune.errors import InputError

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NATIVE_BF16 = (8, 0)  # compute capability; below it is_bf16_supported() is true by emulation


def resolve_device(wanted: str) -> torch.device:
    """The torch device for a `device` setting; InputError where an explicit one is missing."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _, mistake = check_setting("device", wanted)
    if mistake:
        raise InputError(mistake)
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
