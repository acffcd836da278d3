"""torch's errors of memory and loader processes, told apart by their text."""

from __future__ import annotations

import pytest
import torch

from segtune.errors import DeviceMemoryError, LoaderError
from segtune.torch_errors import faults_named, loader_died, out_of_memory


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), DeviceMemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), DeviceMemoryError),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), DeviceMemoryError),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), LoaderError),
        (RuntimeError("Pin memory thread exited unexpectedly"), LoaderError),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError),
        (RuntimeError("a message that mentions a DataLoader worker (pid 12)"), RuntimeError),
    ],
)
def test_faults_of_the_machine_get_an_error_of_their_own(error: RuntimeError, kind: type[Exception]) -> None:
    assert out_of_memory(error) == (kind is DeviceMemoryError)
    assert loader_died(error) == (kind is LoaderError)
    with pytest.raises(Exception) as caught, faults_named():
        raise error
    assert type(caught.value) is kind or caught.value is error
    assert "\n" not in str(caught.value)


def test_advice_to_kernel_authors_is_left_out() -> None:
    error = RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com")
    with pytest.raises(DeviceMemoryError) as caught, faults_named():
        raise error
    assert str(caught.value).endswith("(CUDA error: out of memory)")
