"""Compute the objective of a run from the pixels that were counted on its tiles, and how far other tiles move it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from segtune.data.labels import BACKGROUND
from segtune.evaluation.intervals import Interval, drawn_overlap, interval_of, units_of
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import Floats, Overlap, TileCounts
from segtune.objectives import BOUNDARY_IOU, F1, IOU, MIOU, Objective


@dataclass(frozen=True)
class Measure:
    """An objective for a model of these classes.

    Tiles whose `outlines` were not counted cannot be measured where the objective needs these: ValueError.
    """

    objective: Objective
    classes: tuple[int, ...]  # labels

    @classmethod
    def named(cls, name: str, classes: Sequence[int]) -> Measure:
        """Return the measure of an objective by its name."""
        return cls(Objective.of(name), tuple(classes))

    def of(self, tiles: TileCounts) -> float | None:
        """Return the score of all tiles together; None where a class that it needs occurs in no mask."""
        if self.objective.is_miou:
            return mean_iou(tiles.total())
        sums = tiles.numbers.sum(axis=0, keepdims=True)
        outlines = None if tiles.outlines is None else tiles.outlines.sum(axis=0, keepdims=True)
        value = float(self._scores(_of_classes(sums), None if outlines is None else _of_classes(outlines))[0])
        return None if np.isnan(value) else value

    def drawn(self, units: TileCounts) -> Floats:
        """Return the score in each draw of units, (draws), as in `intervals`; NaN where a draw has none."""
        outlines = None if units.outlines is None else drawn_overlap(units.outlines)
        return self._scores(drawn_overlap(units.numbers), outlines)

    def interval(self, tiles: TileCounts, groups: Sequence[Hashable] | None = None) -> Interval | None:
        """Return the score of all tiles with its 95% interval; None where it has none, or `unsure` says why.

        Raises InputError if there are fewer than two tiles, or groups.
        """
        units, value = units_of(tiles, groups), self.of(tiles)
        return None if value is None or self.unsure(tiles, groups) else interval_of(value, self.drawn(units))

    def gain(self, ours: TileCounts, theirs: TileCounts, groups: Sequence[Hashable] | None = None) -> Interval | None:
        """Return how much better one model is than another one on the same tiles; None as in `interval`."""
        first, second = self.of(ours), self.of(theirs)
        if first is None or second is None or self.unsure(ours, groups):
            return None
        drawn = self.drawn(units_of(ours, groups)) - self.drawn(units_of(theirs, groups))
        return interval_of(first - second, drawn)

    def unsure(self, tiles: TileCounts, groups: Sequence[Hashable] | None = None) -> str | None:
        """Return why there is no interval: one tile, or group, alone holds a class that the objective names.

        All draws that have a score then have that class from the same pixels. None where there is an interval.
        """
        units = tiles if groups is None else tiles.grouped(groups)
        for label in self.objective.labels:
            if np.count_nonzero(units.overlap.truth[:, BACKGROUND + 1 + self.classes.index(label)]) == 1:
                noun = "tile" if groups is None else "group of tiles"
                return f"only one {noun} holds class {label}, so how sure its IoU is cannot be said"
        return None

    def _scores(self, regions: Overlap, outlines: Overlap | None) -> Floats:
        """Return the scores of some sums of pixels, each (sums, K)."""
        terms = [weight * self._term(name, regions, outlines) for weight, name in self.objective.terms]
        total: Floats = np.sum(terms, axis=0) / sum(weight for weight, _ in self.objective.terms)
        return total

    def _term(self, name: str, regions: Overlap, outlines: Overlap | None) -> Floats:
        if name.startswith(IOU):
            column: Floats = regions.iou()[:, self.classes.index(int(name.removeprefix(IOU)))]
            return column
        if name == BOUNDARY_IOU:
            if outlines is None:
                raise ValueError("pixels near outlines were not counted")
            values = outlines.iou()
        else:
            values = {MIOU: regions.iou, F1: regions.f1}[name]()
        some = ~np.isnan(values).all(axis=1)
        found = np.full(len(values), np.nan)
        found[some] = np.nanmean(values[some], axis=1)
        return found


MEAN_IOU = Measure.named(MIOU, ())


def _of_classes(sums: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Overlap:
    """Return sums, (1, 3, K + 1), without background."""
    return Overlap(*sums[..., BACKGROUND + 1 :].swapaxes(0, 1))
