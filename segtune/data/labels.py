"""What the pixels of masks mean: labels in the files, and the indices that networks and metrics use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.class_names import class_text

# Indices are what networks predict and metrics count: 1 to K are the classes in their order.
BACKGROUND = 0
IGNORED = 255
Indices = npt.NDArray[np.uint8]  # of a mask's pixels, (H, W)

_LABEL_TYPES = ("uint8", "uint16", "int16", "uint32", "int32", "int64")  # of masks that are written
UNLABELLED = int(np.iinfo(np.int32).min)  # in a mask that was read: a pixel without a label


@dataclass(frozen=True)
class Labels:
    """The labels of a data set. Index 0 is background, 1 to K are `classes` in their order, 255 is ignored."""

    classes: tuple[int, ...]
    ignore: tuple[int, ...]
    background: bool  # some training pixels are neither listed nor ignored
    background_label: int  # written to predicted masks there
    names: tuple[str, ...] = ()  # of the classes; empty if they have none

    @classmethod
    def from_masks(
        cls, classes: Iterable[int], ignore: Iterable[int], found: Iterable[int], names: Iterable[str] = ()
    ) -> Labels:
        """Decide on the background from the labels that were found in the training masks."""
        classes, ignore = tuple(classes), tuple(ignore)
        named = {*classes, *ignore}
        others = sorted(set(found) - named)
        unused = next(label for label in range(len(named) + 1) if label not in named)
        fitting = [label for label in others if label >= 0]  # negative labels stand for missing data
        return cls(classes, ignore, bool(others), fitting[0] if fitting else unused, tuple(names))

    def text(self, label: int | str) -> str:
        """Return a label as people read it: with its name, ``1 built-up``, if it is that of a class that has one."""
        return class_text(label, self.classes, self.names)

    @property
    def binary(self) -> bool:
        """Whether there is one class, which has a single output, a logit; several classes have one output each."""
        return len(self.classes) == 1

    @property
    def predicts_background(self) -> bool:
        """Whether a pixel can be predicted as none of the classes; with a single class, it needs no output for that."""
        return self.binary or self.background

    @property
    def first(self) -> int:
        """The index that the first output stands for: background if it has an output, else the first class."""
        return BACKGROUND if self.background and not self.binary else BACKGROUND + 1

    @property
    def outputs(self) -> int:
        """The number of the network's output channels."""
        return 1 if self.binary else len(self.classes) + self.background

    @property
    def padding(self) -> int:
        """The index of padding: ignored where there are ignored labels or no background, else background."""
        return IGNORED if self.ignore or not self.predicts_background else BACKGROUND

    def to_indices(self, mask: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Convert the labels of a mask, (H, W), to indices; pixels without a label are ignored."""
        if mask.dtype == np.uint8:  # one look-up per pixel, for any number of labels
            return self.to_indices(np.arange(256)).take(mask)
        ignored = [(IGNORED, label) for label in (*self.ignore, UNLABELLED)]
        indices = np.full(mask.shape, BACKGROUND, dtype=np.uint8)
        for index, label in (*enumerate(self.classes, start=1), *ignored):
            # Arithmetic is ten times as fast as assigning to the pixels of a label.
            indices |= (mask == label).view(np.uint8) * np.uint8(index)
        return indices

    def to_labels(self, indices: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Convert predicted indices, (H, W), to the masks' own labels, in the smallest type that holds them all."""
        table = np.array([self.background_label, *self.classes])
        holding = (np.iinfo(name) for name in _LABEL_TYPES)
        dtype = next(kind.dtype for kind in holding if kind.min <= table.min() and table.max() <= kind.max)
        return table.astype(dtype)[indices]
