"""torch's RuntimeErrors that mean a fault of the machine, told apart by their text: torch has few classes for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segtune.errors import DeviceMemoryError, LoaderError, one_line

# What libraries beside torch's own allocator raise where memory is not enough. The last one is cuDNN's, when none of
# its algorithms got the memory to work in.
_NO_MEMORY = (
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "DefaultCPUAlloc"),
    "unable to find an engine to execute this computation",
)
_CUDA_ADVICE = "\nSearch for `"  # what follows in an error of CUDA's is for who writes kernels


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means that the device's memory was not enough."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


def memory_error(reason: object) -> DeviceMemoryError:
    """Return the error that tells the user that memory is not enough, and what would help."""
    return DeviceMemoryError(
        f"out of memory; a smaller image_size or encoder needs less, and so does precision bf16 or fp16 on a GPU "
        f"({one_line(str(reason).split(_CUDA_ADVICE)[0])})"
    )


def loader_died(error: Exception) -> bool:
    """Return whether an error means that a loader process died.

    torch raises it from a signal handler too: at any point of the training process.
    """
    return re.match(r"DataLoader worker \(pid|Pin memory thread exited", str(error)) is not None


def loader_error(error: RuntimeError) -> LoaderError:
    """Return the error that tells the user that a loader process died, and what would help."""
    return LoaderError(f"a loader process died; fewer workers need less memory ({one_line(error)})")


@contextmanager
def faults_named() -> Iterator[None]:
    """Raise DeviceMemoryError or LoaderError for torch's RuntimeErrors that mean the same; let all others pass."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise memory_error(error) from None
        if loader_died(error):
            raise loader_error(error) from None
        raise
