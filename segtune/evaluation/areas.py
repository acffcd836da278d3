"""Remove small objects from predictions, and find out from which area on objects should stay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.labels import BACKGROUND, Indices, Labels
from segtune.evaluation.metrics import ConfusionMatrix

AREAS = (0, *(2**power for power in range(2, 11)))  # that a sweep tries, in pixels
_Pixels = npt.NDArray[np.bool_]  # whether each pixel is one of them, (H, W)
_NEIGHBOURS = (np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])


@dataclass(frozen=True)
class _Objects:
    """The connected regions of each class, numbered from 1: their number at each pixel, (H, W), and their areas."""

    numbers: npt.NDArray[np.int32]  # 0 is background
    areas: npt.NDArray[np.int64]  # by number; that of 0 is no area

    @classmethod
    def of(cls, indices: Indices) -> _Objects:
        numbers, areas = np.zeros(indices.shape, dtype=np.int32), [np.zeros(1, dtype=np.int64)]
        found = 0
        for index in np.flatnonzero(np.bincount(indices.ravel())):
            if index != BACKGROUND:
                inside = indices == index
                count, regions, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
                numbers[inside] = regions[inside] + found
                areas.append(stats[1:, cv2.CC_STAT_AREA])
                found += count - 1
        return cls(numbers, np.concatenate(areas))


def remove_small(indices: Indices, min_area: int, background: bool = True) -> Indices:
    """Return predicted indices, (H, W), uint8, without objects of fewer than `min_area` pixels.

    An object is a region of one class whose pixels touch at sides or corners. Removed ones become background. Where the
    model has no background, they get the class with which they share the longest border, as in a map without gaps. An
    object that the edge of the tile cuts is judged by what lies inside.
    """
    return _without_small(indices, _Objects.of(indices), min_area, background)


def _without_small(indices: Indices, objects: _Objects, min_area: int, background: bool) -> Indices:
    small = objects.areas < min_area
    small[BACKGROUND] = False
    return _replaced(indices, objects, small.take(objects.numbers), background)


def _replaced(indices: Indices, objects: _Objects, removed: _Pixels, background: bool) -> Indices:
    """Return indices with other ones at the pixels, (H, W), of objects that are removed."""
    if background:
        return np.where(removed, np.uint8(BACKGROUND), indices)
    return _filled(indices, objects.numbers, len(objects.areas), removed)


class SmallObjects:
    """Remove small objects from a scene whose rows come in blocks: those that `remove_small` finds in the whole scene.

    A block is given back once each of its objects is large or has ended. An object of fewer than N pixels ends within N
    rows, so a block waits for at most N more rows. Without background, small objects that touch are decided together:
    which class one gets depends on the others.
    """

    def __init__(self, width: int, min_area: int, background: bool) -> None:
        self._min_area, self._background = min_area, background
        # The last row that was given back, where all objects are large, and the rows of the blocks that wait.
        self._found: Indices = np.zeros((1, width), np.uint8)  # without the objects that are known to be small
        self._cleaned = self._found  # what is given back
        self._heights: list[int] = []  # of the blocks that wait

    def add(self, indices: Indices, last: bool) -> list[Indices]:
        """Take the next block, (H, W), with 0 where there is no object; return those that are finished, in order."""
        self._found = np.concatenate([self._found, indices])
        self._cleaned = np.concatenate([self._cleaned, indices])
        self._heights.append(len(indices))
        waiting = np.flatnonzero(self._decide(last).any(axis=1))
        end = waiting[0] if len(waiting) else len(self._found)
        blocks, top = [], 1
        while self._heights and top + self._heights[0] <= end:
            bottom = top + self._heights.pop(0)
            blocks.append(self._cleaned[top:bottom])
            top = bottom
        self._found, self._cleaned = self._found[top - 1 :], self._cleaned[top - 1 :]
        return blocks

    def _decide(self, last: bool) -> _Pixels:
        """Remove the objects that are known to be small; return the pixels of those that the next rows decide."""
        objects = _Objects.of(self._found)
        small = objects.areas < self._min_area
        small[objects.numbers[0]] = small[BACKGROUND] = False
        pixels = small.take(objects.numbers)
        regions = objects.numbers if self._background else cv2.connectedComponents(pixels.view(np.uint8))[1]
        reaching = np.zeros(int(regions.max()) + 1, np.bool_)
        reaching[regions[-1]] = not last
        waiting: _Pixels = pixels & reaching.take(regions)
        removed = pixels & ~waiting
        self._cleaned = _replaced(self._cleaned, objects, removed, self._background)
        self._found = np.where(removed, np.uint8(BACKGROUND), self._found)
        return waiting


def _filled(indices: Indices, numbers: npt.NDArray[np.int32], count: int, removed: _Pixels) -> Indices:
    """Give removed objects the class around them, from the outside in; if no object stays, change nothing."""
    filled, removed = indices.copy(), removed.copy()
    columns = int(indices.max()) + 1
    while removed.any():
        borders = np.zeros(count * columns, dtype=np.int64)  # by object and class: how long the border is
        for first, second in _NEIGHBOURS:
            for here, there in ((first, second), (second, first)):
                touching = removed[here] & ~removed[there]
                cells = numbers[here][touching].astype(np.int64) * columns + filled[there][touching]
                borders += np.bincount(cells, minlength=len(borders))
        around = borders.reshape(count, columns)
        around[:, BACKGROUND] = 0  # of pixels of a scene that hold no data
        ready = removed & around.any(axis=1).take(numbers)
        if not ready.any():
            break
        filled[ready] = around.argmax(axis=1)[numbers[ready]]
        removed &= ~ready
    return filled


@dataclass(frozen=True)
class BestChoice:
    """The best threshold and smallest area, their mIoU, and how much that is above the model's own."""

    threshold: float | None  # None with several classes: the most likely one is predicted
    min_area: int
    miou: float
    gain: float

    def plain(self) -> dict[str, Any]:
        """Return the choice as it stands in metrics.json."""
        return asdict(self)


@dataclass(frozen=True)
class AreaSweep:
    """mIoU for each smallest area of an object, at one threshold, and that of the model's own two values."""

    threshold: float | None
    areas: tuple[int, ...]  # in pixels
    miou: tuple[float, ...]
    own_threshold: float | None
    own_min_area: int
    own_miou: float

    def best(self) -> BestChoice:
        """Return the best choice, which may be the model's own; of equal ones, the one that removes least.

        It fits the tiles that it was chosen on. Choose on validation data, and let the test data judge the choice.
        """
        own = (self.own_miou, -self.own_min_area, self.own_threshold)
        swept = [(miou, -area, self.threshold) for area, miou in zip(self.areas, self.miou, strict=True)]
        miou, area, threshold = max(own, *swept, key=lambda choice: choice[:2])
        return BestChoice(threshold, -area, miou, miou - self.own_miou)

    def plain(self) -> dict[str, Any]:
        """Return the sweep as it stands in metrics.json."""
        return asdict(self) | {"best": self.best().plain()}


class AreaCounts:
    """A confusion matrix for each smallest area of an object, all counted on the same tiles.

    `threshold` is the best one of a `ThresholdSweep`, so a split is predicted once for the thresholds and once for the
    areas. With several classes, no threshold is used.
    """

    def __init__(self, labels: Labels, threshold: float, own_threshold: float = 0.5, own_min_area: int = 0) -> None:
        self._labels = labels
        self._threshold, self._own_threshold, self._own_min_area = threshold, own_threshold, own_min_area
        self._matrices = [ConfusionMatrix(labels.classes) for _ in AREAS]
        self._own = ConfusionMatrix(labels.classes)

    def update(self, truth: Indices, probabilities: npt.NDArray[np.float32]) -> None:
        """Add a tile: true indices, (H, W), uint8, and the probabilities of the outputs, (outputs, H, W)."""
        background = self._labels.predicts_background
        predicted = self._predicted(probabilities, self._threshold)
        objects = _Objects.of(predicted)
        for area, matrix in zip(AREAS, self._matrices, strict=True):
            matrix.update(_without_small(predicted, objects, area, background), truth)
        own = self._predicted(probabilities, self._own_threshold)
        self._own.update(remove_small(own, self._own_min_area, background), truth)

    def _predicted(self, probabilities: npt.NDArray[np.float32], threshold: float) -> Indices:
        if self._labels.binary:
            return (probabilities[0] > threshold).astype(np.uint8)
        return (probabilities.argmax(axis=0) + self._labels.first).astype(np.uint8)

    def result(self) -> AreaSweep:
        """Return the scores of all tiles so far; raise ValueError if no class occurs in the masks."""
        thresholds = (self._threshold, self._own_threshold) if self._labels.binary else (None, None)
        return AreaSweep(
            threshold=thresholds[0],
            areas=AREAS,
            miou=tuple(matrix.scores().miou for matrix in self._matrices),
            own_threshold=thresholds[1],
            own_min_area=self._own_min_area,
            own_miou=self._own.scores().miou,
        )
