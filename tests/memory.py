"""Memory that runs out."""

from __future__ import annotations

import torch
from torch import Tensor


def out_of_memory() -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB free.")
