"""Windows over a scene, and how the logits of windows that overlap are blended without seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segtune.data.fitting import window_starts
from segtune.data.raster import Span
from segtune.values import SCENE_WEIGHTS, TILE_WEIGHTS

_Weights = npt.NDArray[np.float32]
# The weight of each row or column of a window of this side, before they are divided by their sum.
_BELLS: dict[str, Callable[[int], npt.NDArray[np.float64]]] = {
    TILE_WEIGHTS: np.ones,
    SCENE_WEIGHTS: lambda side: np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2,
}


@dataclass(frozen=True)
class Grid:
    """Windows of one size that cover a scene, evenly spread: each row of them has the same columns.

    Blending weights are those of Pielawski and Wahlby (2020, doi:10.1371/journal.pone.0229839): a Hann window, which
    falls to zero at the edge. They are divided by the sum over all windows that cover a pixel, so that they add up to 1
    there: where a single window covers a pixel, its weight is exactly 1.
    """

    height: int  # of the scene
    width: int
    side: int  # of a window; it has fewer rows or columns where the scene has
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    row_weights: tuple[_Weights, ...]  # for each of `tops`, the weight of the window's rows
    column_weights: tuple[_Weights, ...]
    as_tile: bool  # windows are fitted to the network's input as tiles are

    @classmethod
    def over(cls, height: int, width: int, side: int, overlap: float, as_tile: bool = False) -> Grid:
        """Cover a scene with windows; neighbours share at least this part, 0 to below 1, of their side.

        With `as_tile`, weights are equal: a pixel gets the mean of its windows, as in the evaluation of tiles.
        """
        tops, lefts = (tuple(window_starts(length, side, overlap)) for length in (height, width))
        kind = TILE_WEIGHTS if as_tile else SCENE_WEIGHTS
        weights = _weights(tops, height, side, kind), _weights(lefts, width, side, kind)
        return cls(height, width, side, tops, lefts, *weights, as_tile)

    def span(self, row: int, column: int) -> Span:
        """Return the rows and columns of the scene that a window covers."""
        top, left = self.tops[row], self.lefts[column]
        return (top, min(top + self.side, self.height)), (left, min(left + self.side, self.width))

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)


def _weights(starts: tuple[int, ...], length: int, side: int, kind: str) -> tuple[_Weights, ...]:
    side = min(side, length)
    bell = _BELLS[kind](side)
    total = np.zeros(length)
    for start in starts:
        total[start : start + side] += bell
    return tuple((bell / total[start : start + side]).astype(np.float32) for start in starts)


class Blend:
    """Weighted sums of the windows' logits over a band of rows, which moves down the scene.

    Parameters
    ----------
    outputs: of the network.
    grid: the windows.
    block: rows are given back in blocks of so many, the last one with the rows that remain.
    """

    def __init__(self, outputs: int, grid: Grid, block: int) -> None:
        self._grid, self._block = grid, block
        rows = min(grid.side + block, grid.height)
        self._logits = torch.zeros(outputs, rows, grid.width)
        self._valid = torch.zeros(rows, grid.width, dtype=torch.bool)
        self._top = 0  # of the band

    def add(self, row: int, column: int, logits: Tensor | None, valid: Tensor) -> None:
        """Add a window's logits, (outputs, H, W), on the CPU, and which of its pixels hold data, (H, W).

        A window without data has no logits.
        """
        (top, bottom), (left, right) = self._grid.span(row, column)
        place = np.s_[top - self._top : bottom - self._top, left:right]
        self._valid[place] = valid
        if logits is not None:
            rows = torch.from_numpy(self._grid.row_weights[row])[:, None]
            columns = torch.from_numpy(self._grid.column_weights[column])
            self._logits[:, *place] += logits * (rows * columns)

    def finished(self, row: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the rows that no window after this row of windows covers, once all of its windows were added.

        They come in blocks: the first row, the logits (outputs, H, W), and which pixels hold data (H, W). The arrays
        are valid until the next block is asked for.
        """
        grid, last = self._grid, row + 1 == len(self._grid.tops)
        end = grid.height if last else grid.tops[row + 1] // self._block * self._block
        for top in range(self._top, end, self._block):
            rows = slice(top - self._top, min(top + self._block, end) - self._top)
            yield top, self._logits[:, rows], self._valid[rows]
        self._move_to(end)

    def _move_to(self, top: int) -> None:
        done = top - self._top
        if not done:
            return
        for band in (self._logits, self._valid):
            left = band.shape[-2] - done
            for row in range(0, left, done):  # not at once, which would need a copy of them all
                rows = min(done, left - row)
                band[..., row : row + rows, :] = band[..., row + done : row + done + rows, :]
            band[..., left:, :] = 0
        self._top = top
