"""Too little memory: less is tried at a time. There is no GPU here: what torch raises is raised by hand."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from segtune.errors import DeviceMemoryError
from segtune.models.device import within_memory
from tests.memory import out_of_memory


def test_the_size_is_halved_until_memory_takes_it() -> None:
    tried: list[int] = []

    def compute(size: int) -> str:
        tried.append(size)
        if size > 2:
            out_of_memory()
        return "done"

    undone: list[int] = []
    assert within_memory(compute, 11, lambda: undone.append(tried[-1])) == ("done", 2)
    assert tried == [11, 6, 3, 2]
    assert undone == [11, 6, 3]


def test_another_error_goes_up_at_once() -> None:
    def compute(size: int) -> None:
        raise RuntimeError(f"a bug with {size}")

    with pytest.raises(RuntimeError, match="a bug with 4"):
        within_memory(compute, 4)


def test_what_an_attempt_held_is_free_before_the_next_one_begins() -> None:
    held: list[weakref.ref[Tensor]] = []

    def compute(size: int) -> int:
        assert not any(reference() is not None for reference in held)
        activations = torch.zeros(size)
        held.append(weakref.ref(activations))
        if size > 1:
            out_of_memory()
        return len(activations)

    assert within_memory(compute, 8) == (1, 1)
    assert len(held) == 4


def test_a_cpu_without_memory_is_out_of_memory_too() -> None:
    taken = within_memory(lambda size: torch.empty(2**60 if size > 2 else 4, dtype=torch.uint8), 4)
    assert taken[1] == 2


# cuDNN's words where none of its algorithms got memory to work in, and CUDA's where a process cannot even begin.
@pytest.mark.parametrize(
    "words",
    [
        "GET was unable to find an engine to execute this computation after trying 4 plans",
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the manual.\nCUDA kernel errors might",
    ],
)
def test_errors_of_libraries_about_memory_are_recognized(words: str) -> None:
    def compute(size: int) -> None:
        raise RuntimeError(words)

    with pytest.raises(DeviceMemoryError) as caught:
        within_memory(compute, 2)
    assert str(caught.value).endswith(f"({words.splitlines()[0]})")
